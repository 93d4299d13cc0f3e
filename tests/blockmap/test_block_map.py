import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.blockmap.block_map import BlockMap, MappedBlock
from ebsim.blockmap.geometry import BLOCKS_MAX, GEOMETRY, Geometry
from ebsim.blockmap.memory_nodes import MemoryNodes
from ebsim.blockmap.node_format import EMPTY_LEAF, NodeMalformed, inner_node
from ebsim.blockmap.node_store import store_node
from ebsim.errors import ChunkMissing
from tests.blockmap.map_models import (
    Update,
    block_indexes,
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


@pytest.mark.slow
@given(geometries, histories, block_indexes)
def test_a_map_lists_exactly_what_its_model_holds(
    geometry: Geometry, history: list[Update], start: int
) -> None:
    block_map, model = replay(empty_map(geometry), history), model_of(history)

    present = [MappedBlock(index, *model[index]) for index in sorted(model)]
    assert list(block_map.blocks()) == present
    assert list(block_map.blocks(start)) == [block for block in present if block[0] >= start]
    assert block_map.highest() == max(model, default=None)


@pytest.mark.slow
@given(geometries, histories, st.lists(block_indexes, max_size=10))
def test_a_map_answers_for_each_block_what_its_model_does(
    geometry: Geometry, history: list[Update], asked: list[int]
) -> None:
    block_map, model = replay(empty_map(geometry), history), model_of(history)
    for index in [*asked, *model]:
        expected = MappedBlock(index, *model[index]) if index in model else None
        assert block_map.get(index) == expected


@given(geometries, changes, block_indexes)
def test_a_map_lists_the_leaves_that_hold_its_blocks(
    geometry: Geometry, update: Update, start_block: int
) -> None:
    block_map = changed_map(empty_map(geometry), update)
    start, _ = geometry.split(start_block)
    held = sorted({geometry.split(index)[0] for index in model_of([update])})
    leaves = list(block_map.leaves(start))
    assert [index for index, _ in leaves] == [index for index in held if index >= start]
    assert all(block_map.leaf_digest(index) == digest for index, digest in leaves)


def test_a_read_loads_one_path_and_the_next_one_nearby_only_its_leaf() -> None:
    store = MemoryNodes()
    root = full_map(3 * 128 * 128, store).root
    block_map, before = BlockMap(root, store), store.load_count
    assert block_map.get(128 * 128 + 5) == MappedBlock(128 * 128 + 5, *entry(128 * 128 + 5))
    assert store.load_count - before == 3
    block_map.get(128 * 128 + 500)
    assert store.load_count - before == 4


def test_listing_leaves_loads_no_leaf() -> None:
    store = MemoryNodes()
    root = full_map(3 * 128 * 128, store).root
    before = store.load_count
    assert len(list(BlockMap(root, store).leaves())) == 3 * 128
    assert store.load_count - before == 1 + 3


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    store = MemoryNodes()
    block_map = BlockMap(full_map(1000, store).root, store)
    before = store.load_count
    leaves = block_map.leaves()
    assert store.load_count == before
    next(leaves)
    assert store.load_count == before + 1


def test_the_empty_map_has_nothing() -> None:
    block_map = empty_map()
    assert list(block_map.blocks()) == []
    assert list(block_map.leaves()) == []
    assert block_map.get(0) is None
    assert block_map.get(BLOCKS_MAX - 1) is None


def test_a_root_that_is_taller_than_its_blocks_need_is_refused() -> None:
    store = MemoryNodes()
    block_map = changed_map(empty_map(store=store), {0: entry(1)})
    node = inner_node(1, {0: block_map.root})
    assert node is not None
    tall = store_node(store, node, index=0)
    with pytest.raises(NodeMalformed, match="only its first child"):
        BlockMap(tall, store).get(0)
    assert block_map.get(0) is not None


@pytest.mark.parametrize(("child_level", "level"), [(0, 2), (1, 1), (1, 3)])
def test_a_child_of_the_wrong_kind_or_level_is_refused(child_level: int, level: int) -> None:
    """A leaf where an inner node belongs, the other way round, and two levels down."""
    store = MemoryNodes()
    child = changed_map(empty_map(store=store), {0: entry(1), 128**child_level: entry(2)}).root
    node = inner_node(level, {0: child, 1: child})
    assert node is not None
    wrong = store_node(store, node, index=0)
    with pytest.raises(NodeMalformed, match="belongs"):
        BlockMap(wrong, store).get(0)


def test_an_empty_leaf_below_an_inner_node_is_refused() -> None:
    store = MemoryNodes()
    node = inner_node(1, {1: store_node(store, EMPTY_LEAF, index=1)})
    assert node is not None
    wrong = store_node(store, node, index=0)
    with pytest.raises(NodeMalformed, match="an empty leaf"):
        BlockMap(wrong, store).get(128)


def test_a_node_that_is_gone_is_reported_by_its_digest() -> None:
    store = MemoryNodes()
    block_map = changed_map(empty_map(store=store), {0: entry(1), 128: entry(2)})
    gone = block_map.leaf_digest(1)
    assert gone is not None
    del store.nodes[gone]
    assert block_map.get(0) is not None
    with pytest.raises(ChunkMissing) as caught:
        block_map.get(128)
    assert gone.hex()[:16] in str(caught.value)


def test_the_leaf_indexes_of_the_last_block_are_in_the_map() -> None:
    assert GEOMETRY.split(BLOCKS_MAX - 1) == (GEOMETRY.leaves_max - 1, 127)
