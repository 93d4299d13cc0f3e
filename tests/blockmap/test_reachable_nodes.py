from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.geometry import Geometry
from ebsim.blockmap.memory_nodes import MemoryNodes
from ebsim.blockmap.node_format import Inner, Leaf
from ebsim.blockmap.reachable_nodes import ReachedNode, UnreadableNode, reachable_nodes
from ebsim.errors import ChunkMissing
from ebsim.ids import Digest
from tests.blockmap.map_models import (
    Update,
    changed_map,
    changes,
    empty_map,
    entry,
    full_map,
    geometries,
    model_of,
)


class Seen:
    """Answers once that a digest is new."""

    def __init__(self) -> None:
        self.digests: set[Digest] = set()

    def is_new(self, digest: Digest) -> bool:
        was_new = digest not in self.digests
        self.digests.add(digest)
        return was_new


def walk(store: MemoryNodes, *roots: Digest) -> list[ReachedNode | UnreadableNode]:
    return list(reachable_nodes(roots, store, Seen().is_new))


@pytest.mark.slow
@given(geometries, st.lists(changes, min_size=1, max_size=4))
def test_every_node_of_every_map_is_reached_once(
    geometry: Geometry, history: list[Update]
) -> None:
    """Maps made one from the other in one store, all of them kept: no node is garbage."""
    store = MemoryNodes()
    block_map = empty_map(geometry, store)
    roots = [block_map.root]
    for update in history:
        block_map = changed_map(block_map, update)
        roots.append(block_map.root)

    found = list(reachable_nodes(roots, store, Seen().is_new, geometry))
    assert Counter(node.digest for node in found) == Counter(store.nodes.keys())
    leaves = [node.node for node in found if isinstance(node, ReachedNode)]
    blocks = {digest for node in leaves if isinstance(node, Leaf) for digest in node.children}
    history_models = [model_of(history[: count + 1]) for count in range(len(history))]
    assert blocks == {value[0] for model in history_models for value in model.values()}


def test_shared_nodes_are_loaded_once() -> None:
    store = MemoryNodes()
    first = full_map(3 * 128 * 128, store)
    second = changed_map(first, {5: entry(0, 2)})
    before = store.load_count
    nodes = walk(store, first.root, second.root)
    assert len(nodes) == store.load_count - before == (1 + 3 + 3 * 128) + 3


def test_a_parent_comes_before_its_children() -> None:
    store = MemoryNodes()
    nodes = walk(store, full_map(3 * 128 * 128, store).root)
    seen: set[Digest] = {nodes[0].digest}
    for found in nodes:
        assert found.digest in seen
        assert isinstance(found, ReachedNode)
        if isinstance(found.node, Inner):
            seen.update(found.node.children)


def test_leaves_come_in_the_order_of_their_blocks() -> None:
    store = MemoryNodes()
    block_map = full_map(3 * 128 * 128, store)
    nodes = walk(store, block_map.root)
    leaves = {digest: index for index, digest in block_map.leaves()}
    assert [leaves[node.digest] for node in nodes if node.digest in leaves] == list(range(384))


def test_damage_is_reported_and_the_walk_goes_on() -> None:
    store = MemoryNodes()
    block_map = full_map(128 * 128 * 2, store)
    root = BlockMap(block_map.root, store).root_node
    assert isinstance(root, Inner)
    gone = root.children[0]
    del store.nodes[gone]

    found = walk(store, block_map.root)
    unreadable = [node for node in found if isinstance(node, UnreadableNode)]
    assert [(node.digest, node.level) for node in unreadable] == [(gone, 1)]
    assert isinstance(unreadable[0].error, ChunkMissing)
    assert len(found) - 1 == 1 + 1 + 128


def test_a_root_that_is_gone_hides_no_other() -> None:
    store = MemoryNodes()
    block_map = full_map(10, store)
    missing = Digest(bytes(32))
    found = walk(store, missing, block_map.root)
    assert [type(node) for node in found] == [UnreadableNode, ReachedNode]
    assert found[0].digest == missing
