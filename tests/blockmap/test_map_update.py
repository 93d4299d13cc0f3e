import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.geometry import GEOMETRY, Geometry
from ebsim.blockmap.map_update import MapUpdate, updated_map
from ebsim.blockmap.memory_nodes import MemoryNodes
from ebsim.blockmap.node_format import decode_node
from ebsim.blockmap.node_store import NodeStore, empty_root
from ebsim.blockmap.reachable_nodes import ReachedNode, reachable_nodes
from ebsim.ids import Digest
from tests.blockmap.map_models import (
    SMALL,
    Entry,
    Update,
    changed_map,
    changes,
    empty_map,
    entry,
    full_map,
    geometries,
    histories,
    model_of,
    replay,
)


def reached(block_map: BlockMap) -> set[Digest]:
    """The digests of all nodes of a map."""
    seen: set[Digest] = set()

    def is_new(digest: Digest) -> bool:
        was_new = digest not in seen
        seen.add(digest)
        return was_new

    for found in reachable_nodes([block_map.root], block_map.store, is_new, block_map.geometry):
        assert isinstance(found, ReachedNode)
    return seen


@dataclass(frozen=True)
class StoredNode:
    """What a store was told of a node."""

    digest: Digest
    data: bytes
    level: int
    index: int
    children: Sequence[Digest]


class RecordingNodes:
    """Another store's nodes, and a list of what is stored through it."""

    def __init__(self, nodes: NodeStore) -> None:
        self.nodes = nodes
        self.stored: list[StoredNode] = []

    def load(self, digest: Digest) -> bytes:
        return self.nodes.load(digest)

    def store(
        self, digest: Digest, data: bytes, *, level: int, index: int, children: Sequence[Digest]
    ) -> None:
        self.stored.append(StoredNode(digest, data, level, index, children))
        self.nodes.store(digest, data, level=level, index=index, children=children)


@pytest.mark.slow
@given(geometries, histories)
def test_equal_maps_have_equal_roots_whatever_their_history(
    geometry: Geometry, history: list[Update]
) -> None:
    built_at_once = changed_map(empty_map(geometry), model_of(history))
    assert replay(empty_map(geometry), history).root == built_at_once.root


@pytest.mark.slow
@given(geometries, changes, changes)
def test_different_maps_have_different_roots(
    geometry: Geometry, first: Update, second: Update
) -> None:
    roots = [changed_map(empty_map(geometry), update).root for update in (first, second)]
    assert (roots[0] == roots[1]) == (model_of([first]) == model_of([second]))


@pytest.mark.slow
@given(geometries, histories, changes)
def test_every_node_stored_is_part_of_the_new_map(
    geometry: Geometry, history: list[Update], update: Update
) -> None:
    """So nothing is stored in vain."""
    base = replay(empty_map(geometry), history)
    recorder = RecordingNodes(base.store)
    new = BlockMap(
        updated_map(BlockMap(base.root, recorder, geometry), sorted(update.items())),
        base.store,
        geometry,
    )
    assert {node.digest for node in recorder.stored} <= reached(new)


@pytest.mark.slow
@given(geometries, histories, changes)
def test_nodes_are_stored_after_their_children(
    geometry: Geometry, history: list[Update], update: Update
) -> None:
    """Each with its place in the map and the children that its bytes name."""
    base = replay(empty_map(geometry), history)
    there = reached(base)
    recorder = RecordingNodes(base.store)
    updated_map(BlockMap(base.root, recorder, geometry), sorted(update.items()))
    for node in recorder.stored:
        assert node.level == 0 or set(node.children) <= there
        decoded = decode_node(node.data, geometry)
        assert (decoded.level, decoded.children) == (node.level, node.children)
        there.add(node.digest)


@given(geometries, changes)
def test_a_new_node_says_where_it_lies(geometry: Geometry, update: Update) -> None:
    base = empty_map(geometry)
    recorder = RecordingNodes(base.store)
    updated_map(BlockMap(base.root, recorder, geometry), sorted(update.items()))
    model = model_of([update])
    leaves = {geometry.split(index)[0] for index in model}
    assert {node.index for node in recorder.stored if node.level == 0 and node.children} == leaves
    for node in recorder.stored:
        if node.level > 0:
            below = {geometry.node_index(leaf, node.level - 1) for leaf in leaves}
            first = node.index * geometry.fan_out
            inside = [child for child in below if first <= child < first + geometry.fan_out]
            assert len(node.children) == len(inside)


def test_an_update_without_changes_touches_nothing() -> None:
    store = MemoryNodes()
    root = full_map(1000, store).root
    before = store.load_count, store.store_count
    assert MapUpdate(BlockMap(root, store)).finish() == root
    assert (store.load_count, store.store_count) == before


def test_setting_a_leaf_to_what_it_is_stores_nothing() -> None:
    store = MemoryNodes()
    block_map = full_map(40_000, store)
    before = store.store_count
    update = MapUpdate(BlockMap(block_map.root, store))
    for leaf_index, digest in block_map.leaves():
        update.set_leaf(leaf_index, digest)
    assert update.finish() == block_map.root
    assert store.store_count == before


def test_setting_a_block_to_what_it_is_stores_nothing() -> None:
    store = MemoryNodes()
    base = full_map(40_000, store)
    before = store.store_count
    assert changed_map(base, {30_000: entry(30_000), 40_001: None}).root == base.root
    assert store.store_count == before


def test_one_changed_block_costs_one_path() -> None:
    """In a map as tall as that of a full 1 TiB volume, 2 million blocks of 512 KiB."""
    store = MemoryNodes()
    base = sparse_map_of_three_levels(store)
    loads, stores = store.load_count, store.store_count
    changed_map(BlockMap(base.root, store), {128 * 128 * 64 + 700: entry(1, generation=2)})
    assert store.load_count - loads == 3
    assert store.store_count - stores == 3


def sparse_map_of_three_levels(store: MemoryNodes) -> BlockMap:
    blocks = {index: entry(index) for index in range(0, 128**3, 128 * 61)}
    blocks |= {index: entry(index) for index in range(128 * 128 * 64, 128 * 128 * 64 + 1000)}
    return changed_map(empty_map(store=store), blocks)


def test_the_update_itself_loads_two_nodes_for_one_changed_leaf() -> None:
    store = MemoryNodes()
    base = sparse_map_of_three_levels(store)
    loads, stores = store.load_count, store.store_count
    update = MapUpdate(BlockMap(base.root, store))
    update.set_leaf(128 * 64 + 5, Digest(bytes(32)))
    update.finish()
    assert store.load_count - loads == 2
    assert store.store_count - stores == 2


def test_removing_what_is_not_there_changes_nothing() -> None:
    store = MemoryNodes()
    base = changed_map(empty_map(store=store), {5: entry(1)})
    stores = store.store_count
    update = MapUpdate(BlockMap(base.root, store))
    for leaf_index in (1, 127, 128, 129, GEOMETRY.leaves_max - 1):
        update.set_leaf(leaf_index, None)
    assert update.finish() == base.root
    assert store.store_count == stores


def test_a_map_that_loses_all_its_blocks_is_the_empty_map() -> None:
    base = changed_map(empty_map(), {0: entry(1), 128**3: entry(2)})
    emptied = changed_map(base, {0: None, 128**3: None})
    assert emptied.root == empty_map().root == empty_root(GEOMETRY)


def test_a_map_shrinks_past_nodes_that_were_not_named() -> None:
    """Taking the far block leaves a chain of only children that nobody opened."""
    near = changed_map(empty_map(SMALL), {3: entry(1)})
    far = changed_map(near, {8**9: entry(2)})
    assert changed_map(far, {8**9: None}).root == near.root


def test_the_root_of_an_empty_map_is_stored_even_where_nothing_changed() -> None:
    store = MemoryNodes()
    root = MapUpdate(BlockMap(empty_root(GEOMETRY), store)).finish()
    assert list(store.nodes) == [root]


@pytest.mark.parametrize("leaf_indexes", [[5, 5], [5, 4]])
def test_leaves_that_do_not_rise_are_a_bug(leaf_indexes: list[int]) -> None:
    update = MapUpdate(empty_map())
    update.set_leaf(leaf_indexes[0], Digest(bytes(32)))
    with pytest.raises(AssertionError):
        update.set_leaf(leaf_indexes[1], Digest(bytes(32)))


def test_an_empty_leaf_may_not_be_set() -> None:
    update = MapUpdate(empty_map())
    with pytest.raises(AssertionError):
        update.set_leaf(0, empty_root(GEOMETRY))


def test_memory_is_one_path_however_many_leaves_change() -> None:
    """Four times the leaves, scattered over 16 TiB of blocks of 512 KiB: no more memory."""
    peaks = [_peak_of_scattered_update(count) for count in (500, 2000)]
    assert peaks[1] < 1.2 * peaks[0] + 65_536


def _peak_of_scattered_update(leaf_count: int) -> int:
    update = MapUpdate(BlockMap(empty_root(GEOMETRY), ForgetfulNodes()))
    tracemalloc.start()
    for position in range(leaf_count):
        update.set_leaf(position * (2**18 // leaf_count), entry(position)[0])
    update.finish()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak_bytes


class ForgetfulNodes:
    """A store that keeps nothing: what an update holds is the update's own."""

    def load(self, digest: Digest) -> bytes:
        raise AssertionError(f"an update from nothing loads {digest.hex()}")

    def store(
        self, digest: Digest, data: bytes, *, level: int, index: int, children: Sequence[Digest]
    ) -> None:
        del digest, data, level, index, children


@pytest.mark.slow
@given(geometries, st.lists(changes, min_size=1, max_size=3), changes)
def test_an_old_map_is_whole_after_any_update(
    geometry: Geometry, history: list[Update], update: Update
) -> None:
    base = replay(empty_map(geometry), history)
    changed_map(base, update)
    again = BlockMap(base.root, base.store, geometry)
    assert {block[0]: (block[1], block[2]) for block in again.blocks()} == model_of(history)


def test_changes_may_come_from_a_generator() -> None:
    def blocks() -> Iterator[tuple[int, Entry]]:
        for index in range(0, 100_000, 997):
            yield index, entry(index)

    base = empty_map()
    block_map = BlockMap(updated_map(base, blocks()), base.store)
    assert sum(1 for _ in block_map.blocks()) == len(range(0, 100_000, 997))
