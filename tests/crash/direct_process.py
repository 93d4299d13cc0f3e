"""A process that puts blocks until it is killed: ``direct_process HOME SNAPSHOT``.

Four threads, each at indexes of its own; ``INDEX SEED`` is printed when a put is
acknowledged.
"""

import sys
import threading
from pathlib import Path

from ebsim.engine.direct.block_access import BlockAccess
from ebsim.ids import SnapshotId
from tests.engine.direct_snapshots import Plane
from tests.engine.stores import open_store


def main() -> None:
    region = open_store(Path(sys.argv[1]))
    snapshot_id = SnapshotId(sys.argv[2])
    plane = Plane(region, BlockAccess(region))

    def put_all(first: int) -> None:
        for index in range(first, 2048, 4):
            plane.put(snapshot_id, {index: index + 10})
            # One write: lines of several threads are not mixed.
            sys.stdout.write(f"{index} {index + 10}\n")
            sys.stdout.flush()

    threads = [threading.Thread(target=put_all, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
