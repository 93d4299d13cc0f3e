"""What the block map needs of storage: nodes by digest.

Implemented by the chunk store and by memory (``memory_nodes.py``).
"""

from collections.abc import Sequence
from functools import cache
from typing import Protocol

from ebsim.blockmap.geometry import GEOMETRY, Geometry
from ebsim.blockmap.node_format import (
    EMPTY_LEAF,
    Inner,
    Leaf,
    Node,
    NodeMalformed,
    decode_node,
    encode_node,
)
from ebsim.content.digest import node_digest
from ebsim.ids import Digest


class NodeStore(Protocol):
    """Nodes by digest.  ``load`` is safe from many threads at once."""

    def load(self, digest: Digest) -> bytes:
        """The bytes of the node, proved against *digest*.

        Raises:
            ChunkMissing: no such node.
            ChunkCorrupt: its bytes are damaged.
        """

    def store(
        self, digest: Digest, data: bytes, *, level: int, index: int, children: Sequence[Digest]
    ) -> None:
        """Keep a node.  Its children were stored before it, or are in the store already.

        A node that is there already is accepted and changes nothing but references.

        Args:
            digest: Proved by the caller to be that of *data*.
            data: The node's bytes.
            level: 0 for a leaf.
            index: Which node of its level it is in the map being built: it covers the
                leaves from ``index * fan_out ** level`` up to, not including,
                ``(index + 1) * fan_out ** level``.  What a pending snapshot held of
                these is from now on held through this node.
            children: By rising slot; digests of blocks for a leaf, of nodes otherwise.
                One may occur twice, and counts twice.
        """


def store_node(
    store: NodeStore, node: Node, *, index: int, geometry: Geometry = GEOMETRY
) -> Digest:
    """Store *node*, node *index* of its level in the map being built; return its digest."""
    data = encode_node(node, geometry)
    assert decode_node(data, geometry) == node, "a node reads back as it was written"
    digest = node_digest(data)
    store.store(digest, data, level=node.level, index=index, children=node.children)
    return digest


@cache
def empty_root(geometry: Geometry = GEOMETRY) -> Digest:
    """The root digest of a map without blocks."""
    return node_digest(encode_node(EMPTY_LEAF, geometry))


def load_root(store: NodeStore, root: Digest, geometry: Geometry = GEOMETRY) -> Node:
    """The root node of a map.

    Raises:
        NodeMalformed: it is no canonical root: one child less would cover the map as well.
    """
    node = decode_node(store.load(root), geometry)
    if isinstance(node, Inner) and node.bitmap == 1:
        raise NodeMalformed(root, f"a root of level {node.level} with only its first child")
    return node


def load_inner(
    store: NodeStore, digest: Digest, level: int, geometry: Geometry = GEOMETRY
) -> Inner:
    """The inner node *digest*, which its parent says is of *level*."""
    node = decode_node(store.load(digest), geometry)
    if not isinstance(node, Inner) or node.level != level:
        raise NodeMalformed(digest, f"level {node.level} where {level} belongs")
    return node


def load_leaf(store: NodeStore, digest: Digest, geometry: Geometry = GEOMETRY) -> Leaf:
    """The leaf *digest* of a map that has blocks."""
    node = decode_node(store.load(digest), geometry)
    if not isinstance(node, Leaf):
        raise NodeMalformed(digest, f"level {node.level} where a leaf belongs")
    if not node.bitmap:
        raise NodeMalformed(digest, "an empty leaf")
    return node
