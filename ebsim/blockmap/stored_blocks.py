"""The blocks of a map as the chunk store has them: located a leaf at a time, read one by one."""

from typing import NamedTuple

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.geometry import FAN_OUT_BITS
from ebsim.blockmap.stored_nodes import StoredNodes
from ebsim.chunkstore.chunk_reader import ChunkReader, Found
from ebsim.errors import ChunkMissing
from ebsim.ids import Digest


class PresentBlock(NamedTuple):
    """A block of a map: its index, its digest, and where it lies if the store has it."""

    block_index: int
    digest: Digest
    found: Found | None

    def read(self, chunks: ChunkReader) -> bytes | bytearray | memoryview:
        """The block's bytes, proved.

        Raises:
            ChunkMissing, ChunkCorrupt: they are not to be had.
        """
        if self.found is None:
            raise ChunkMissing(self.digest)
        return chunks.read_found(self.found)


def block_map_of(chunks: ChunkReader, root: Digest) -> BlockMap:
    """The block map of *root*, read through *chunks*."""
    return BlockMap(root, StoredNodes(chunks))


def leaf_blocks(
    chunks: ChunkReader, block_map: BlockMap, leaf_index: int, leaf_digest: Digest
) -> list[PresentBlock]:
    """The blocks of one leaf, located with one look-up."""
    entries = block_map.leaf(leaf_digest).entries()
    digests = [digest for digest, _ in entries.values()]
    first = leaf_index << FAN_OUT_BITS
    return [
        PresentBlock(first + slot, digest, found)
        for slot, digest, found in zip(entries, digests, chunks.find(digests), strict=True)
    ]
