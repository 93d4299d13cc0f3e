"""The block map of one snapshot, for reading."""

from collections.abc import Iterator
from functools import cached_property, lru_cache, partial
from typing import NamedTuple

from ebsim.blockmap.geometry import BLOCKS_MAX, GEOMETRY, Geometry
from ebsim.blockmap.node_format import EMPTY_LEAF, Inner, Leaf, Node
from ebsim.blockmap.node_store import NodeStore, empty_root, load_inner, load_leaf, load_root
from ebsim.ids import Digest

# About half a megabyte of inner nodes: the paths of a few readers at different places.
_INNER_NODES_CACHED = 128


class MappedBlock(NamedTuple):
    """A block that is present in a map."""

    block_index: int
    digest: Digest
    generation: int


class BlockMap:
    """An immutable map from block index to digest and write generation.

    A block never written, or found to be zeros by a scan, is absent and reads as zeros.
    Nothing is loaded before it is asked for; iterating holds one path of nodes, whatever
    the size of the map.  Block indexes run from 0 to ``BLOCKS_MAX - 1``.

    Safe to share between threads: nothing in a map ever changes.  Every method that
    loads may raise what the store raises, and ``NodeMalformed``.
    """

    def __init__(self, root: Digest, store: NodeStore, geometry: Geometry = GEOMETRY) -> None:
        self.root = root
        self.store = store
        self.geometry = geometry
        # Caches a function and not a method: a method would tie the map to itself.
        self._load_inner = lru_cache(_INNER_NODES_CACHED)(
            partial(load_inner, store, geometry=geometry)
        )

    @cached_property
    def root_node(self) -> Node:
        """The root, decoded; kept once it is loaded.

        That of the empty map is known and never loaded, so ``BlockMap(empty_root(), store)``
        is an empty map over any store.
        """
        if self.root == empty_root(self.geometry):
            return EMPTY_LEAF
        return load_root(self.store, self.root, self.geometry)

    def inner(self, digest: Digest, level: int) -> Inner:
        """The inner node *digest* of this map, which is of *level*."""
        if digest == self.root and isinstance(self.root_node, Inner):
            return self.root_node
        return self._load_inner(digest, level)

    def leaf(self, digest: Digest) -> Leaf:
        """The leaf *digest* of this map.  Leaves are not cached."""
        if digest == self.root and isinstance(self.root_node, Leaf):
            return self.root_node
        return load_leaf(self.store, digest, self.geometry)

    def leaf_digest(self, leaf_index: int) -> Digest | None:
        """The digest of a leaf, or ``None`` where none of its blocks is present.

        Asked by rising index it loads each inner node once.
        """
        assert 0 <= leaf_index < self.geometry.leaves_max, "within the map"
        level = self.root_node.level
        if self.geometry.node_index(leaf_index, level) or not self.root_node.bitmap:
            return None
        digest: Digest | None = self.root
        while level and digest is not None:
            digest = self.inner(digest, level).get(self.geometry.slot(leaf_index, level))
            level -= 1
        return digest

    def get(self, block_index: int) -> MappedBlock | None:
        """The block at *block_index*, or ``None`` where it is absent."""
        assert 0 <= block_index < BLOCKS_MAX, "within the map"
        leaf_index, slot = self.geometry.split(block_index)
        digest = self.leaf_digest(leaf_index)
        entry = None if digest is None else self.leaf(digest).get(slot)
        return None if entry is None else MappedBlock(block_index, *entry)

    def leaves(self, start: int = 0) -> Iterator[tuple[int, Digest]]:
        """Yield index and digest of each leaf from leaf *start* on, by rising index.

        Loads inner nodes only.
        """
        if self.root_node.bitmap and not self.geometry.node_index(start, self.root_node.level):
            yield from self._leaves_below(self.root, self.root_node.level, 0, start)

    def _leaves_below(
        self, digest: Digest, level: int, index: int, start: int
    ) -> Iterator[tuple[int, Digest]]:
        """The leaves from *start* on below node *index* of *level*."""
        if level == 0:
            yield index, digest
            return
        first_child = index << self.geometry.fan_out_bits
        start_child = self.geometry.node_index(start, level - 1)
        for slot, child in self.inner(digest, level).entries().items():
            if first_child + slot >= start_child:
                yield from self._leaves_below(child, level - 1, first_child + slot, start)

    def blocks(self, start: int = 0) -> Iterator[MappedBlock]:
        """Yield the blocks from block *start* on, by rising index."""
        start_leaf, _ = self.geometry.split(start)
        for leaf_index, digest in self.leaves(start_leaf):
            first = leaf_index << self.geometry.fan_out_bits
            for slot, (block_digest, generation) in self.leaf(digest).entries().items():
                if first + slot >= start:
                    yield MappedBlock(first + slot, block_digest, generation)

    def highest(self) -> int | None:
        """The highest block index present, or ``None`` in an empty map.  Loads one path."""
        node, index = self.root_node, 0
        while node.bitmap:
            slot = node.bitmap.bit_length() - 1
            index = (index << self.geometry.fan_out_bits) + slot
            if isinstance(node, Leaf):
                return index
            child = node.children[-1]
            node = self.leaf(child) if node.level == 1 else self.inner(child, node.level - 1)
        return None
