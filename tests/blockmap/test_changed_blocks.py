import pytest
from hypothesis import given

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.changed_blocks import (
    ChangedBlock,
    changed_blocks,
    changed_leaves,
    rewritten_blocks,
)
from ebsim.blockmap.geometry import Geometry
from ebsim.blockmap.memory_nodes import MemoryNodes
from tests.blockmap.map_models import (
    Entry,
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


def differences(
    first: dict[int, Entry], second: dict[int, Entry], *, by_digest: bool
) -> list[ChangedBlock]:
    """What the models of two maps say has changed between them."""
    found = []
    for index in sorted(first.keys() | second.keys()):
        old, new = first.get(index), second.get(index)
        block = ChangedBlock(index, old[0] if old else None, new[0] if new else None)
        if block.first != block.second if by_digest else old != new:
            found.append(block)
    return found


@pytest.mark.slow
@given(geometries, histories, histories)
def test_changed_blocks_are_exactly_the_differences_of_the_models(
    geometry: Geometry, before: list[Update], after: list[Update]
) -> None:
    """Diffing two related maps lists each differing block once, in order."""
    first = replay(empty_map(geometry), before)
    second = replay(first, after)
    models = model_of(before), model_of([*before, *after])
    assert list(changed_blocks(first, second)) == differences(*models, by_digest=True)
    assert list(rewritten_blocks(first, second)) == differences(*models, by_digest=False)


@pytest.mark.slow
@given(geometries, changes, changes, block_indexes)
def test_unrelated_maps_of_different_stores_compare_from_any_block_on(
    geometry: Geometry, first: Update, second: Update, start: int
) -> None:
    maps = changed_map(empty_map(geometry), first), changed_map(empty_map(geometry), second)
    expected = differences(model_of([first]), model_of([second]), by_digest=True)
    assert list(changed_blocks(*maps, start)) == [
        block for block in expected if block.block_index >= start
    ]


@pytest.mark.slow
@given(geometries, histories, changes)
def test_the_reverse_comparison_swaps_the_sides(
    geometry: Geometry, history: list[Update], update: Update
) -> None:
    first = replay(empty_map(geometry), history)
    second = changed_map(first, update)
    there, back = changed_blocks(first, second), changed_blocks(second, first)
    assert [(index, b, a) for index, a, b in there] == list(back)


def test_rewriting_the_same_bytes_is_a_rewrite_and_no_change() -> None:
    first = changed_map(empty_map(), {7: entry(1, generation=1)})
    second = changed_map(first, {7: entry(1, generation=2)})
    assert list(changed_blocks(first, second)) == []
    assert list(rewritten_blocks(first, second)) == [ChangedBlock(7, entry(1)[0], entry(1)[0])]


def test_other_bytes_of_an_equal_generation_are_never_hidden() -> None:
    first = changed_map(empty_map(), {7: entry(1, generation=1)})
    second = changed_map(empty_map(), {7: entry(2, generation=1)})
    assert list(rewritten_blocks(first, second)) == [ChangedBlock(7, entry(1)[0], entry(2)[0])]


def test_equal_maps_are_compared_without_loading_a_node() -> None:
    store = MemoryNodes()
    root = full_map(1000, store).root
    before = store.load_count
    assert list(changed_blocks(BlockMap(root, store), BlockMap(root, MemoryNodes()))) == []
    assert store.load_count == before


def test_one_changed_block_is_found_by_loading_one_path_on_each_side() -> None:
    """In a map as tall as that of a full 1 TiB volume."""
    store = MemoryNodes()
    blocks = {index: entry(index) for index in range(0, 128**3, 128 * 61)}
    base = changed_map(empty_map(store=store), blocks)
    changed = changed_map(base, {128 * 61: entry(1)})
    before = store.load_count
    found = list(changed_blocks(BlockMap(base.root, store), BlockMap(changed.root, store)))
    assert [block.block_index for block in found] == [128 * 61]
    assert store.load_count - before == 6


def test_a_comparison_from_far_on_does_not_load_what_lies_before() -> None:
    store = MemoryNodes()
    first = full_map(128 * 128 * 2, store)
    second = changed_map(first, {index: entry(0, 9) for index in range(0, 128 * 128 * 2, 128)})
    before = store.load_count
    maps = BlockMap(first.root, store), BlockMap(second.root, store)
    assert len(list(rewritten_blocks(*maps, 128 * 128 * 2 - 128))) == 1
    assert store.load_count - before == 6


def test_growing_by_a_level_rereads_nothing_of_the_old_map() -> None:
    store = MemoryNodes()
    first = full_map(128 * 128, store)
    second = changed_map(first, {128 * 128: entry(1)})
    before = store.load_count
    maps = BlockMap(first.root, store), BlockMap(second.root, store)
    assert [block.block_index for block in changed_blocks(*maps)] == [128 * 128]
    # Both roots; beyond them the path of the new block, whose sibling is the old root.
    assert store.load_count - before == 4


def test_the_leaves_that_differ_come_with_both_sides() -> None:
    first = changed_map(empty_map(), {0: entry(1), 200: entry(2)})
    second = changed_map(first, {200: None, 1000: entry(3)})
    leaves = list(changed_leaves(first, second))
    assert [leaf.leaf_index for leaf in leaves] == [1, 7]
    assert [list(leaf.first.children) for leaf in leaves] == [[entry(2)[0]], []]
    assert [list(leaf.second.children) for leaf in leaves] == [[], [entry(3)[0]]]
