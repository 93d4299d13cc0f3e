"""A process that has volumes open and writes to them: ``volume_process.py HOME VOL...``

Writes 0 to the first block of each volume, prints ``ready``, then writes a rising number
there to each volume in turn, flushing none, until standard input ends or the volumes are
asked for.  Blocks 1 to 99 get other data, so that snapshots taken meanwhile have something
to preserve.
"""

import sys
import threading
from contextlib import ExitStack
from pathlib import Path

from ebsim.engine.open_volume import open_volume
from ebsim.ids import VolumeId
from tests.engine.stores import BLOCK, block_bytes, open_store


def main() -> None:
    region = open_store(Path(sys.argv[1]))
    with ExitStack() as stack:
        opened = [
            stack.enter_context(open_volume(region, VolumeId(name), "test", hydrates=False))
            for name in sys.argv[2:]
        ]
        ended = threading.Event()

        def wait_for_the_end() -> None:
            sys.stdin.read()
            ended.set()

        threading.Thread(target=wait_for_the_end, daemon=True).start()
        number = 0
        for volume in opened:
            volume.device.write_at(0, number.to_bytes(8, "little"))
        print("ready", flush=True)
        while not ended.is_set() and not opened[0].asked_to_stop.is_set():
            number += 1
            for volume in opened:
                volume.device.write_at(0, number.to_bytes(8, "little"))
                volume.device.write_at((1 + number % 99) * BLOCK, block_bytes(number))


if __name__ == "__main__":
    main()
