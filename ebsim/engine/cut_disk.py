"""The blocks of a live volume's cut, as a snapshot reads them."""

import os
from collections.abc import Iterator, Mapping

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.geometry import FAN_OUT, FAN_OUT_BITS
from ebsim.engine.leaf_scan import LeafTask
from ebsim.ids import Digest
from ebsim.volumes.cut import CutReader


class CutDisk:
    """A :class:`~ebsim.engine.disk.Disk` that reads what changed, and what may have."""

    caution = None
    can_be_read_again = True

    def __init__(self, reader: CutReader) -> None:
        self._reader = reader

    @property
    def size_bytes(self) -> int:
        return self._reader.size_bytes

    @property
    def data_bytes(self) -> int:
        return self._reader.bits.count() * self._reader.block_size

    def tasks(
        self, block_size: int, parent: BlockMap, interrupted: Mapping[int, Digest]
    ) -> Iterator[LeafTask]:
        """A task for each leaf with a block of the cut.

        What an interrupted snapshot stored is found by digest: its leaves are of another
        moment, and the blocks outside of this cut would be taken from them.
        """
        del block_size, interrupted
        bits, count = self._reader.bits, self._reader.block_count
        position = 0
        while (run := next(bits.runs(position), None)) is not None:
            base = run[0] >> FAN_OUT_BITS << FAN_OUT_BITS
            position = min(base + FAN_OUT, count)
            wanted = 0
            for start, stop in bits.runs(base, position):
                wanted |= (1 << stop - base) - (1 << start - base)
            holes = self._holes(base, position) & wanted
            leaf = parent.leaf_digest(base >> FAN_OUT_BITS)
            if wanted != holes or leaf is not None:
                yield LeafTask(base >> FAN_OUT_BITS, leaf, leaf, wanted & ~holes, holes)

    def _holes(self, first: int, stop: int) -> int:
        """The blocks from *first* up to *stop*, a bit each, of which nothing is on the disk."""
        size, mask = self._reader.block_size, 0
        for hole in self._reader.holes(first, stop):
            start = -(-hole.start // size) - first
            end = (stop if hole.stop == self.size_bytes else hole.stop // size) - first
            if start < end:
                mask |= (1 << end) - (1 << start)
        return mask

    def thread_count(self, asked: int | None) -> int:
        return asked or len(os.sched_getaffinity(0))

    def read_into(self, buffer: memoryview, offset_bytes: int) -> None:
        self._reader.read(buffer, offset_bytes)

    def read_again(self, block_index: int, block_size: int) -> bytes:
        block = bytearray(block_size)
        self._reader.read(memoryview(block), block_index * block_size)
        return bytes(block)

    def changed_since_opened(self) -> None:
        """A cut holds still."""
