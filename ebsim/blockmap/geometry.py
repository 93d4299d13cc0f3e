"""The shape of the block map's tree: its fan-out, and where a block index lies in it.

Level 0 are the leaves.  A node of level L has ``fan_out`` slots, each standing for
``fan_out ** L`` blocks; node ``i`` of a level is the i-th from the left, whether the
nodes before it exist or not.  Bits of a block index, fan-out 128::

    33  28 27      21 20      14 13       7 6        0
    slot   slot       slot       slot       slot
    in the in level   in level   in level   in the
    level  3          2          1          leaf
    4 root

The fan-out is fixed by the format (``decisions/0004-node-fan-out.md``).  It is a value
and no bare constant so that the benchmark behind that page can vary it, and so that the
tests can grow trees of every height from a few blocks.
"""

from dataclasses import dataclass

BLOCK_INDEX_BITS = 34
BLOCKS_MAX = 1 << BLOCK_INDEX_BITS
"""The most blocks a map can hold: 64 TiB in blocks of 4 KiB."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """A tree whose nodes have ``2 ** fan_out_bits`` slots."""

    fan_out_bits: int

    def __post_init__(self) -> None:
        assert 3 <= self.fan_out_bits <= 16, "a presence bitmap is a whole number of bytes"

    @property
    def fan_out(self) -> int:
        """The slots of a node."""
        return 1 << self.fan_out_bits

    @property
    def bitmap_size(self) -> int:
        """The bytes of a presence bitmap."""
        return self.fan_out // 8

    @property
    def level_max(self) -> int:
        """The level of the tallest root: it covers ``BLOCKS_MAX`` blocks."""
        return (BLOCK_INDEX_BITS - 1) // self.fan_out_bits

    @property
    def leaves_max(self) -> int:
        """The most leaves of a map."""
        return BLOCKS_MAX >> self.fan_out_bits

    def slots_at(self, level: int) -> int:
        """The slots a node of *level* may use: fewer at the top, where ``BLOCKS_MAX`` ends."""
        return min(self.fan_out, BLOCKS_MAX >> (self.fan_out_bits * level))

    def node_index(self, leaf_index: int, level: int) -> int:
        """Which node of *level* covers *leaf_index*."""
        return leaf_index >> (self.fan_out_bits * level)

    def slot(self, leaf_index: int, level: int) -> int:
        """The slot that leads to *leaf_index* in the node of *level* (1 or more) above it."""
        return (leaf_index >> (self.fan_out_bits * (level - 1))) & (self.fan_out - 1)

    def split(self, block_index: int) -> tuple[int, int]:
        """The leaf index and the slot in that leaf of *block_index*."""
        return block_index >> self.fan_out_bits, block_index & (self.fan_out - 1)


FAN_OUT_BITS = 7
FAN_OUT = 1 << FAN_OUT_BITS
"""The blocks of a leaf, and the children of an inner node."""

GEOMETRY = Geometry(FAN_OUT_BITS)
