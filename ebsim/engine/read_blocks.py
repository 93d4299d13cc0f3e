"""Reading a snapshot's blocks, leaf by leaf, in several threads.

Restoring, verifying and exporting are this walk with something done to each block.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple, TypeVar

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.geometry import FAN_OUT_BITS
from ebsim.chunkstore.chunk_reader import ChunkReader, Found
from ebsim.engine.stored_nodes import StoredNodes
from ebsim.errors import ChunkMissing
from ebsim.ids import Digest

T = TypeVar("T")
S = TypeVar("S")


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


def in_threads(
    work: Callable[[S], T], items: Iterator[S], thread_count: int, waiting_max: int
) -> Iterator[T]:
    """Yield ``work(item)`` for each of *items*, in order, made by several threads.

    At most *waiting_max* results are made ahead.  Whoever stops early ends the work.
    """
    with ThreadPoolExecutor(thread_count, "read") as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for item in islice(items, waiting_max):
                waiting.append(pool.submit(work, item))
            while waiting:
                result = waiting.popleft().result()
                for item in islice(items, 1):
                    waiting.append(pool.submit(work, item))
                yield result
        finally:
            for future in waiting:
                future.cancel()
