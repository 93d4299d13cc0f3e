"""A node store in memory, which counts what is asked of it."""

from ebsim.blockmap.node_store import NewNode
from ebsim.content.digest import node_digest
from ebsim.errors import ChunkMissing
from ebsim.ids import Digest


class MemoryNodes:
    """Nodes in a dictionary; ``load_count`` and ``store_count`` count the calls."""

    def __init__(self) -> None:
        self.nodes: dict[Digest, NewNode] = {}
        self.load_count = 0
        self.store_count = 0

    def load(self, digest: Digest) -> bytes:
        self.load_count += 1
        node = self.nodes.get(digest)
        if node is None:
            raise ChunkMissing(digest)
        return node.data

    def store(self, node: NewNode) -> None:
        assert node.digest == node_digest(node.data), "the digest of these bytes"
        self.store_count += 1
        self.nodes.setdefault(node.digest, node)
