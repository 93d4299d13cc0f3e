"""The block map's nodes as the chunk store has them, for reading."""

from collections.abc import Sequence

from ebsim.chunkstore.chunk_source import ChunkSource
from ebsim.ids import Digest


class StoredNodes:
    """A ``NodeStore`` that only reads, and counts what it reads."""

    def __init__(self, chunks: ChunkSource) -> None:
        self._chunks = chunks
        self.load_count = 0

    def load(self, digest: Digest) -> bytes:
        self.load_count += 1
        return bytes(self._chunks.read(digest))

    def store(
        self, digest: Digest, data: bytes, *, level: int, index: int, children: Sequence[Digest]
    ) -> None:
        del data, level, index, children
        raise AssertionError(f"a map that is only read stores no node ({digest.hex()})")
