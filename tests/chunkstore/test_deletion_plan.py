"""What a plan says would be freed is what is then freed."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.chunkstore.chunk_index import find_numbers
from ebsim.chunkstore.deletion_plan import plan_deletion
from ebsim.chunkstore.rows import Holder, decode_hold, hold_prefix
from ebsim.content.digest import block_digest
from ebsim.errors import MetadataCorrupt
from ebsim.metadata.transactions import Table
from tests.chunkstore.small_store import SmallStore, block_of, faults, inner_node, put_leaf

SIZES = (60, 300, 2000)
leaf_contents = st.lists(st.integers(0, 9), min_size=1, max_size=4)
trees = st.lists(leaf_contents, min_size=1, max_size=4)
histories = st.lists(st.tuples(trees, st.sampled_from(["keep", "drop", "gone"])), max_size=6)


def put_tree(store: SmallStore, owner: str, leaves: list[list[int]]) -> None:
    with store.writing() as writer:
        digests = [
            put_leaf(writer, owner, [block_of(seed, SIZES[seed % 3]) for seed in seeds], at)
            for at, seeds in enumerate(leaves)
        ]
        writer.put_node(inner_node(Holder(owner, 1, 0), digests, range(len(digests))))


def roots_of(store: SmallStore, owner: str) -> list[int]:
    prefix = hold_prefix(owner)
    return [
        decode_hold(value)[0]
        for key, value in store.rows(Table.HOLDS).items()
        if key.startswith(prefix)
    ]


@pytest.mark.slow
@given(histories)
def test_a_plan_for_any_history_is_what_reclaim_frees(history):
    with tempfile.TemporaryDirectory() as directory:
        store = SmallStore(Path(directory))
        for index, (leaves, fate) in enumerate(history):
            put_tree(store, f"snap-{index}", leaves)
            if fate == "gone":
                store.release(f"snap-{index}")
                store.reclaimer.run()
        dropped = [f"snap-{i}" for i, (_, fate) in enumerate(history) if fate == "drop"]
        numbers = [number for owner in dropped for number in roots_of(store, owner)]
        before = {table: store.rows(table) for table in Table}
        plan = plan_deletion(store.metadata, numbers)
        assert {table: store.rows(table) for table in Table} == before
        for owner in dropped:
            store.release(owner)
        done = store.reclaimer.run()
        assert plan.chunk_count == done.chunk_count
        assert plan.freed_bytes == done.freed_bytes
        assert plan.block_count == done.chunk_count - done.node_count
        assert faults(store) == []


def test_two_roots_that_share_all_free_it_only_together(store):
    put_tree(store, "snap-a", [[1, 2], [3]])
    put_tree(store, "snap-b", [[1, 2], [3]])
    roots = [number for owner in ("snap-a", "snap-b") for number in roots_of(store, owner)]
    assert plan_deletion(store.metadata, roots[:1]).chunk_count == 0
    assert plan_deletion(store.metadata, roots).chunk_count == 6


def test_a_block_counts_as_often_as_what_is_deleted_refers_to_it(store):
    put_tree(store, "snap-a", [[1, 1, 1], [2]])
    plan = plan_deletion(store.metadata, roots_of(store, "snap-a"))
    one, two = (store.location(block_digest(block_of(n, SIZES[n]))) for n in (1, 2))
    assert plan.block_count == 2
    assert plan.block_reference_bytes == 3 * (64 + one.payload_size) + 64 + two.payload_size


def test_a_count_that_has_drifted_is_reported_and_not_passed_over(store):
    leaf = store.put_leaf("snap-a", [block_of(1)])
    number = store.metadata.read(lambda reader: find_numbers(reader, [leaf]))[leaf]
    with pytest.raises(MetadataCorrupt, match=f"chunk number {number} has too few"):
        plan_deletion(store.metadata, [number, number])


def test_nothing_deleted_frees_nothing(store):
    store.put_leaf("snap-a", [block_of(1)])
    plan = plan_deletion(store.metadata, [])
    assert (plan.chunk_count, plan.freed_bytes) == (0, 0)
