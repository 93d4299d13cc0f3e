"""A process that has a volume open while the disk of its store is lost.

Prints ``ready``, waits for a line, and then tells a line for each block it reads, and for
what it wrote: ``INDEX whole``, ``INDEX StorageUnavailable``, ``flushed``.
"""

import sys
from contextlib import closing
from pathlib import Path

from ebsim.engine.open_volume import open_volume
from ebsim.errors import EbsimError
from ebsim.ids import VolumeId
from ebsim.volumes.live_volume import LiveVolume
from tests.engine.stores import BLOCK, block_bytes, open_store

BLOCKS = 3000
PRESENT = 5
WRITTEN = 7
ANSWERED = b"answered" * (BLOCK // 8)


def tell(*words: object) -> None:
    print(*words, flush=True)


def read_each(device: LiveVolume) -> None:
    for index in (PRESENT, *range(100, BLOCKS, 100)):
        block = bytearray(BLOCK)
        try:
            device.read_at(index * BLOCK, memoryview(block))
        except EbsimError as error:
            tell(index, type(error).__name__)
        else:
            tell(index, "whole" if block == block_bytes(index) else "torn")


def main(home: Path, volume_id: VolumeId) -> None:
    with (
        closing(open_store(home)) as region,
        open_volume(region, volume_id, "test", hydrates=False) as opened,
    ):
        opened.device.read_at(PRESENT * BLOCK, memoryview(bytearray(BLOCK)))
        tell("ready")
        sys.stdin.readline()
        opened.device.write_at(WRITTEN * BLOCK, ANSWERED)
        opened.device.flush()
        tell("flushed")
        read_each(opened.device)
        tell("read")


if __name__ == "__main__":
    main(Path(sys.argv[1]), VolumeId(sys.argv[2]))
