"""A new block map from an old one, copying only the paths that lead to what changed.

Leaves come in by rising index.  Above the newest one the inner nodes on its path are
open; a node is closed, which stores it if it came out changed, as soon as a leaf beyond
it comes in.  So memory is one path, and a node is stored after its children.

Canonical shape: the root is the node of least level that covers the highest block.  How
tall the map will be is known only at the end, so a node 0 that has nothing but its first
child is not stored: it hands that child up as it is, a *low* subtree.  A node above it
that does get a second child fills in the levels between (``_raise_first``).

Invariants:

1. Every node stored is part of the finished map; nothing is stored in vain.
2. Every node loaded lies on the path to a leaf that was named, or, where the map loses
   height, between the old root and the new one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.node_format import EMPTY_LEAF, Inner, inner_node
from ebsim.blockmap.node_store import empty_root, store_node
from ebsim.ids import DIGEST_SIZE, Digest


@dataclass(frozen=True, slots=True)
class _Subtree:
    """A finished part of the map."""

    level: int
    digest: Digest
    is_least: bool
    """Whether, as node 0, it is known to have the least level that covers its blocks."""


@dataclass(slots=True)
class _OpenNode:
    """An inner node whose children are still coming in."""

    level: int
    index: int
    base: _Subtree | None = None
    base_node: Inner | None = None
    changes: dict[int, Digest | None] = field(default_factory=dict)
    low_first: _Subtree | None = None
    """In slot 0 of a node 0: a subtree that need not reach up to ``level - 1``."""


class MapUpdate:
    """A new map, made of an old one and the leaves that differ.

    The store sees each new inner node once, children first; leaves are the caller's to
    store, before they are set.  For use by one thread.
    """

    def __init__(self, base: BlockMap) -> None:
        """Begin with *base*: nodes are loaded through it, and new ones go to its store."""
        self._base = base
        self._store = base.store
        self._geometry = base.geometry
        self._path: list[_OpenNode] = []  # from the top down
        self._newest_leaf = -1
        self._is_finished = False

    def set_leaf(self, leaf_index: int, digest: Digest | None) -> None:
        """Put the leaf *digest* at *leaf_index*, or nothing where it is ``None``.

        Leaf indexes must rise from call to call.
        """
        assert not self._is_finished, "the map is finished"
        assert self._newest_leaf < leaf_index < self._geometry.leaves_max, "rising, in the map"
        assert digest is None or len(digest) == DIGEST_SIZE, "a leaf's digest"
        assert digest != empty_root(self._geometry), "a leaf without blocks is set to None"
        self._newest_leaf = leaf_index
        if not self._path:
            self._open_base()
        while not self._covers(self._path[0], leaf_index):
            self._grow()
        while not self._covers(self._path[-1], leaf_index):
            self._close_into_parent()
        while self._path[-1].level > 1:
            self._open_child(leaf_index)
        self._path[-1].changes[self._geometry.slot(leaf_index, 1)] = digest

    def finish(self) -> Digest:
        """Store what is still open and return the root of the new map.

        Without changes it loads and stores nothing and returns the old root; save for
        the empty map, whose root is stored, for nobody may have stored it yet.
        """
        assert not self._is_finished, "the map is finished"
        self._is_finished = True
        root = self._base.root
        if self._path:
            result = self._close_all()
            root = empty_root(self._geometry) if result is None else self._least_root(result)
        if root == empty_root(self._geometry):
            store_node(self._store, EMPTY_LEAF, index=0, geometry=self._geometry)
        return root

    def _covers(self, node: _OpenNode, leaf_index: int) -> bool:
        return self._geometry.node_index(leaf_index, node.level) == node.index

    def _open_base(self) -> None:
        """Open the root of the old map, or a node above it if it is a leaf."""
        root, node = self._base.root, self._base.root_node
        if isinstance(node, Inner):
            base = _Subtree(node.level, root, is_least=True)
            self._path.append(_OpenNode(node.level, 0, base=base, base_node=node))
        elif node.bitmap:
            self._path.append(_OpenNode(1, 0, changes={0: root}))
        else:
            self._path.append(_OpenNode(level=1, index=0))

    def _grow(self) -> None:
        """Close everything and open a node one level above."""
        level = self._path[0].level + 1
        first = self._close_all()
        top = _OpenNode(level, 0)
        if first is not None:
            top.changes[0] = first.digest
            top.low_first = first
        self._path.append(top)

    def _open_child(self, leaf_index: int) -> None:
        """Open the child of the lowest open node that leads to *leaf_index*."""
        parent = self._path[-1]
        level = parent.level - 1
        index = self._geometry.node_index(leaf_index, level)
        slot = self._geometry.slot(leaf_index, parent.level)
        digest = parent.base_node.get(slot) if parent.base_node is not None else None
        if digest is None:
            self._path.append(_OpenNode(level, index))
            return
        base_node = self._base.inner(digest, level)
        base = _Subtree(level, digest, is_least=base_node.bitmap != 1)
        self._path.append(_OpenNode(level, index, base=base, base_node=base_node))

    def _close_into_parent(self) -> None:
        """Close the lowest open node and enter what it became in the node above."""
        node = self._path.pop()
        result = self._close(node)
        parent = self._path[-1]
        slot = node.index & (self._geometry.fan_out - 1)
        parent.changes[slot] = None if result is None else result.digest
        if node.index == 0:
            parent.low_first = result

    def _close_all(self) -> _Subtree | None:
        """Close the whole path and return what the top became."""
        while len(self._path) > 1:
            self._close_into_parent()
        return self._close(self._path.pop())

    def _close(self, node: _OpenNode) -> _Subtree | None:
        """What *node* became: nothing, its old self, its first child, or a new node."""
        base_children = node.base_node.entries() if node.base_node is not None else {}
        merged = {**base_children, **node.changes}
        children = {slot: digest for slot, digest in merged.items() if digest is not None}
        if not children:
            return None
        if children == base_children:
            return node.base
        if node.index == 0 and children.keys() == {0}:
            return node.low_first or _Subtree(node.level - 1, children[0], node.level == 1)
        if node.low_first is not None and 0 in children:
            children[0] = self._raise_first(node.low_first, node.level - 1)
        return self._stored(node.level, node.index, children)

    def _raise_first(self, first: _Subtree, level: int) -> Digest:
        """The digest of a node 0 of *level* that has nothing but *first* below it."""
        digest = first.digest
        for level_above in range(first.level + 1, level + 1):
            digest = self._stored(level_above, 0, {0: digest}).digest
        return digest

    def _stored(self, level: int, index: int, children: dict[int, Digest]) -> _Subtree:
        node = inner_node(level, children)
        assert node is not None, "it has children"
        digest = store_node(self._store, node, index=index, geometry=self._geometry)
        return _Subtree(level, digest, is_least=node.bitmap != 1)

    def _least_root(self, top: _Subtree) -> Digest:
        """The root below *top* that has the least level covering its blocks."""
        level, digest = top.level, top.digest
        while level and not top.is_least:
            node = self._base.inner(digest, level)
            if node.bitmap != 1:
                break
            level, digest = level - 1, node.children[0]
        return digest


def updated_map(
    base: BlockMap, changes: Iterable[tuple[int, tuple[Digest, int] | None]]
) -> Digest:
    """The root of *base* with *changes* applied; leaves and inner nodes are stored.

    Args:
        base: The old map; the new one is stored beside it.
        changes: Block index, and the digest and write generation to put there, or
            ``None`` to take the block out; by rising block index.
    """
    geometry, store = base.geometry, base.store
    update = MapUpdate(base)
    for leaf_index, group in groupby(changes, key=lambda change: geometry.split(change[0])[0]):
        base_digest = base.leaf_digest(leaf_index)
        base_leaf = EMPTY_LEAF if base_digest is None else base.leaf(base_digest)
        leaf = base_leaf.with_changes({geometry.split(at)[1]: entry for at, entry in group})
        if leaf is None:
            update.set_leaf(leaf_index, None)
        elif leaf != base_leaf:
            digest = store_node(store, leaf, index=leaf_index, geometry=geometry)
            update.set_leaf(leaf_index, digest)
    return update.finish()
