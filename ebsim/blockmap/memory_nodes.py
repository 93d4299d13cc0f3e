"""A node store in memory, which counts what is asked of it."""

from collections.abc import Sequence

from ebsim.content.digest import node_digest
from ebsim.errors import ChunkMissing
from ebsim.ids import Digest


class MemoryNodes:
    """Nodes in a dictionary; ``load_count`` and ``store_count`` count the calls."""

    def __init__(self) -> None:
        self.nodes: dict[Digest, bytes] = {}
        self.load_count = 0
        self.store_count = 0

    def load(self, digest: Digest) -> bytes:
        self.load_count += 1
        data = self.nodes.get(digest)
        if data is None:
            raise ChunkMissing(digest)
        return data

    def store(
        self, digest: Digest, data: bytes, *, level: int, index: int, children: Sequence[Digest]
    ) -> None:
        del level, index, children  # It counts no references and knows no snapshots.
        assert digest == node_digest(data), "the digest of these bytes"
        self.store_count += 1
        self.nodes[digest] = data
