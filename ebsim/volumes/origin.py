"""The blocks that a volume was made from, as the store has them."""

from collections.abc import Iterator
from functools import lru_cache, partial

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.geometry import FAN_OUT_BITS
from ebsim.blockmap.node_format import EMPTY_LEAF, Leaf
from ebsim.blockmap.stored_blocks import PresentBlock, block_map_of, leaf_blocks
from ebsim.chunkstore.chunk_reader import ChunkReader
from ebsim.ids import Digest

_LEAVES_CACHED = 64
_SLOT_MASK = (1 << FAN_OUT_BITS) - 1

Buffer = bytes | bytearray | memoryview


class Origin:
    """The block map of *root*, read a block at a time.  Safe from many threads.

    Whoever uses it sees to it that *root* is held.
    """

    def __init__(self, root: Digest, chunks: ChunkReader) -> None:
        self.root = root
        self._chunks = chunks
        self._map = block_map_of(chunks, root)
        # Of a function, not a method: a method would tie this object to itself.
        self._leaf = lru_cache(_LEAVES_CACHED)(partial(_load_leaf, self._map))

    def mask(self, leaf_index: int) -> int:
        """Which blocks of a leaf it has, a bit each; the others are zeros."""
        return self._leaf(leaf_index).bitmap

    def has_block(self, block_index: int) -> bool:
        """Whether the block is there; if not it is zeros."""
        leaf = self._leaf(block_index >> FAN_OUT_BITS)
        return bool(leaf.bitmap >> (block_index & _SLOT_MASK) & 1)

    def read(self, block_index: int) -> Buffer | None:
        """A whole block's bytes, proved; ``None`` for one that is zeros.

        Cost: a leaf loaded unless it was used lately, one look-up, one read.

        Raises:
            ChunkMissing, ChunkCorrupt: they are not to be had.
            StorageUnavailable: the store's disk failed.
        """
        digest = self.block_digest(block_index)
        return None if digest is None else self._chunks.read(digest)

    def block_digest(self, block_index: int) -> Digest | None:
        """The digest of a block; ``None`` for one that is zeros."""
        entry = self._leaf(block_index >> FAN_OUT_BITS).get(block_index & _SLOT_MASK)
        return None if entry is None else entry[0]

    def leaves(self, start: int) -> Iterator[tuple[int, Digest]]:
        """Yield index and digest of each leaf from leaf *start* on."""
        return self._map.leaves(start)

    def leaf_digest(self, leaf_index: int) -> Digest | None:
        """The digest of a leaf, ``None`` where all of its blocks are zeros."""
        return self._map.leaf_digest(leaf_index)

    def leaf_blocks(self, leaf_index: int, leaf_digest: Digest) -> list[PresentBlock]:
        """The blocks of a leaf, located with one look-up."""
        return leaf_blocks(self._chunks, self._map, leaf_index, leaf_digest)

    def read_located(self, block: PresentBlock) -> Buffer:
        """The bytes of a block that ``leaf_blocks`` located, proved."""
        return block.read(self._chunks)


def _load_leaf(block_map: BlockMap, leaf_index: int) -> Leaf:
    digest = block_map.leaf_digest(leaf_index)
    return EMPTY_LEAF if digest is None else block_map.leaf(digest)
