"""A process that delivers a region's events until it is killed: its home is its argument."""

import sys
from pathlib import Path

from ebsim.engine.deliver_events import deliver_events
from tests.engine.stores import open_store

if __name__ == "__main__":
    region = open_store(Path(sys.argv[1]))
    print("ready", flush=True)
    deliver_events(region, at_once=True)
