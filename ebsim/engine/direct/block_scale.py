"""Blocks of 512 KiB, as the EBS direct APIs read them, of a map in blocks of any size.

Both sizes are powers of two.  A block of 512 KiB is made of whole smaller ones, which lie in
one leaf, or is a part of a larger one:

    present     any of the blocks that it is made of is; what is absent reads as zeros
    written     any of them was; of a larger block all parts were

So a list may name more than a finer look would, and never less.
"""

from collections.abc import Iterator

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.geometry import FAN_OUT, FAN_OUT_BITS
from ebsim.blockmap.node_format import slots_of
from ebsim.engine.direct.start_direct_snapshot import DIRECT_BLOCK_SIZE

Buffer = bytes | bytearray | memoryview


class BlockScale:
    """How blocks of a map and blocks of 512 KiB lie in each other.

    Attributes:
        per_block: So many blocks of the map make one of 512 KiB; 1 if they are not smaller.
        is_same: The map's blocks are of 512 KiB.
    """

    def __init__(self, block_size: int) -> None:
        assert block_size.bit_count() == 1, "a power of two"
        bits = DIRECT_BLOCK_SIZE.bit_length() - block_size.bit_length()
        self._split_bits = max(bits, 0)
        self._join_bits = max(-bits, 0)
        self.is_same = bits == 0
        self.per_block = 1 << self._split_bits
        assert self.per_block <= FAN_OUT, "blocks of 4 KiB and more"

    def first_in_map(self, index: int) -> int:
        """The first of the map's blocks that block *index* is made of, or a part of."""
        return index << self._split_bits >> self._join_bits

    def indexes_of(self, map_index: int) -> range:
        """The blocks that one of the map's makes, or is a part of."""
        first = map_index >> self._split_bits << self._join_bits
        return range(first, first + (1 << self._join_bits))

    def present(self, block_map: BlockMap, start: int) -> Iterator[int]:
        """Yield the blocks that are present from block *start* on, by rising index.

        Cost: the leaves alone, and where a leaf is no more than a block not even those.
        """
        first_leaf = self.first_in_map(start) >> FAN_OUT_BITS
        is_leaf_a_block = self.per_block == FAN_OUT
        for leaf_index, digest in block_map.leaves(first_leaf):
            slots = (0,) if is_leaf_a_block else slots_of(block_map.leaf(digest).bitmap)
            in_leaf = leaf_index << FAN_OUT_BITS
            if self.is_same:
                yield from (in_leaf + slot for slot in slots if in_leaf + slot >= start)
                continue
            for indexes in dict.fromkeys(self.indexes_of(in_leaf + slot) for slot in slots):
                yield from range(max(indexes.start, start), indexes.stop)

    def part(self, data: Buffer, index: int) -> Buffer:
        """What block *index* is of a larger one whose bytes are *data*."""
        start = (index - self.indexes_of(self.first_in_map(index)).start) * DIRECT_BLOCK_SIZE
        return memoryview(data)[start : start + DIRECT_BLOCK_SIZE]
