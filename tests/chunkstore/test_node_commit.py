"""Committing nodes: what is counted, held, shared, healed, and refused."""

from array import array
from dataclasses import replace
from itertools import pairwise

import pytest

from ebsim.chunkstore.chunk_index import find_numbers
from ebsim.chunkstore.node_commit import ChunksFreed, PackInProgress, commit_nodes
from ebsim.chunkstore.pack_format import Kind, Record
from ebsim.chunkstore.pack_writer import Placed
from ebsim.chunkstore.rows import (
    Holder,
    decode_chunk_number,
    decode_dead,
    decode_hold,
    decode_holder,
    decode_node_row,
    number_key,
)
from ebsim.content.digest import block_digest
from ebsim.errors import Conflict
from ebsim.metadata.transactions import Table
from tests.chunkstore.small_store import (
    SmallStore,
    block_of,
    faults,
    inner_node,
    leaf_node,
    put_leaf,
)


def holders(store: SmallStore) -> list[Holder]:
    return [decode_holder(key) for key in store.rows(Table.HOLDS)]


def number_of(store: SmallStore, digest) -> int:
    return store.metadata.read(lambda reader: find_numbers(reader, [digest]))[digest]


def test_a_node_holds_one_reference_on_each_child_for_each_time_it_names_it(store):
    store.put_leaf("snap-a", [block_of(1), block_of(2), block_of(1)])
    counts = [store.count(block_digest(block_of(seed))) for seed in (1, 2)]
    assert counts == [2, 1]


def test_a_node_that_is_there_takes_a_hold_and_none_of_its_children(store):
    leaf = store.put_leaf("snap-a", [block_of(1)])
    assert store.put_leaf("snap-b", [block_of(1)]) == leaf
    assert (store.count(leaf), store.count(block_digest(block_of(1)))) == (2, 1)
    assert sorted(holders(store)) == [Holder("snap-a", 0, 0), Holder("snap-b", 0, 0)]
    assert len(store.packs()) == 1


def test_two_equal_nodes_in_one_commit_are_counted_once(store):
    with store.writing() as writer:
        leaf = put_leaf(writer, "snap-a", [block_of(1)], 0)
        assert put_leaf(writer, "snap-a", [block_of(1)], 1) == leaf
    assert (store.count(leaf), store.count(block_digest(block_of(1)))) == (2, 1)
    assert faults(store) == []


def test_chunk_numbers_are_given_in_pack_order(store):
    blocks = [block_of(seed) for seed in range(20)]
    leaf = store.put_leaf("snap-a", blocks)
    by_offset = sorted(
        [*map(block_digest, blocks), leaf], key=lambda digest: store.location(digest).offset
    )
    assert [number_of(store, digest) for digest in by_offset] == list(range(1, 22))


def test_an_inner_node_takes_over_its_owners_holds_without_a_count_changing(store):
    with store.writing() as writer:
        leaves = [put_leaf(writer, "snap-a", [block_of(at)], at) for at in range(3)]
        writer.flush()
        assert [store.count(leaf) for leaf in leaves] == [1, 1, 1]
        root = inner_node(Holder("snap-a", 1, 0), leaves, range(3))
        writer.put_node(root)
        writer.flush()
        assert [store.count(leaf) for leaf in leaves] == [1, 1, 1]
    assert holders(store) == [Holder("snap-a", 1, 0)]
    assert store.rows(Table.RECLAIM) == {}
    assert faults(store) == []


def test_an_inner_node_that_was_there_drops_the_holds_on_its_children(store):
    """The copy's children are referenced by the node already; the owner holds just that."""
    roots = []
    for owner in ("snap-a", "snap-b"):
        with store.writing() as writer:
            leaves = [put_leaf(writer, owner, [block_of(at)], at) for at in range(2)]
            writer.flush()
            root = inner_node(Holder(owner, 1, 0), leaves, range(2))
            writer.put_node(root)
            roots.append(root.digest)
    assert roots[0] == roots[1]
    assert [store.count(digest) for digest in (roots[0], *leaves)] == [2, 1, 1]
    assert sorted(holders(store)) == [Holder("snap-a", 1, 0), Holder("snap-b", 1, 0)]
    assert faults(store) == []


def test_another_owners_holds_stay_when_a_node_takes_over(store):
    other = store.put_leaf("snap-b", [block_of(0)])
    with store.writing() as writer:
        leaf = put_leaf(writer, "snap-a", [block_of(0)], 0)
        writer.put_node(inner_node(Holder("snap-a", 1, 0), [leaf], range(1)))
    assert leaf == other
    assert store.count(leaf) == 2
    assert Holder("snap-b", 0, 0) in holders(store)


def test_a_hold_names_the_node_it_is_on(store):
    leaf = store.put_leaf("snap-a", [block_of(1)], 7)
    ((key, value),) = store.rows(Table.HOLDS).items()
    assert decode_holder(key) == Holder("snap-a", 0, 7)
    assert decode_hold(value) == (number_of(store, leaf), leaf)


def committed(store: SmallStore, node, placed=(), packs=()):
    return store.metadata.run(lambda txn: commit_nodes(txn, [node], dict(placed), dict(packs)))


def test_a_chunk_that_is_neither_stored_nor_placed_is_reported_and_nothing_changes(store):
    store.put_leaf("snap-a", [block_of(1)])
    node = leaf_node(Holder("snap-b", 0, 0), [block_of(1), block_of(2)])
    before = {table: store.rows(table) for table in Table}
    with pytest.raises(ChunksFreed) as caught:
        committed(store, node)
    assert caught.value.digests == {node.digest, block_digest(block_of(2))}
    assert {table: store.rows(table) for table in Table} == before


def test_a_child_known_by_the_number_of_a_chunk_that_is_gone_is_refused(store):
    """An interrupted upload's leaf was read for its numbers, and then dropped."""
    gone = block_digest(block_of(1))
    store.put_leaf("snap-a", [block_of(1)])
    number = number_of(store, gone)
    store.release("snap-a")
    store.reclaimer.run()
    node = replace(
        leaf_node(Holder("snap-b", 0, 0), [block_of(1)]),
        children=array("Q", [number]),
        unknown=[],
    )
    size = len(node.encoded)
    placed = {node.digest: Placed(0, Record(node.digest, 0, size, size, Kind.LEAF, 0))}
    before = {table: store.rows(table) for table in Table}
    with pytest.raises(Conflict, match="deleted meanwhile"):
        committed(store, node, placed, {0: PackInProgress("packs/x.pack", 500)})
    assert {table: store.rows(table) for table in Table} == before


def test_a_child_known_by_number_that_waits_in_the_queue_is_taken(store):
    digest = block_digest(block_of(1))
    store.put_leaf("snap-a", [block_of(1)])
    number = number_of(store, digest)
    store.release("snap-a")
    with store.writing() as writer:
        node = leaf_node(Holder("snap-b", 0, 0), [block_of(1)])
        writer.put_node(replace(node, children=array("Q", [number]), unknown=[]))
    store.reclaimer.run()
    assert bytes(store.reader.read(digest)) == block_of(1)
    assert faults(store) == []


def test_a_chunk_freed_between_look_up_and_commit_is_stored_again(store):
    blocks = [block_of(1), block_of(2)]
    store.put_leaf("snap-a", blocks)
    with store.writing(blocks) as writer:
        put_leaf(writer, "snap-b", blocks)
        store.release("snap-a")
        assert store.reclaimer.run().chunk_count == 3
    assert [bytes(store.reader.read(block_digest(b))) for b in blocks] == blocks
    assert faults(store) == []


def test_a_freed_chunk_whose_block_cannot_be_read_again_fails_the_flush(store):
    store.put_leaf("snap-a", [block_of(1)])
    session = store.sessions.open()
    writer = store.writer(session, blocks=[])
    put_leaf(writer, "snap-b", [block_of(1)])
    store.release("snap-a")
    store.reclaimer.run()
    with pytest.raises(Conflict, match="block 0 relied on a chunk that was deleted"):
        writer.flush()
    writer.close()
    session.close()
    assert faults(store) == []


def test_of_two_writers_of_one_chunk_the_second_record_is_dead_at_once(store):
    sessions = [store.sessions.open() for _ in range(2)]
    both = [store.writer(session) for session in sessions]
    for owner, writer in zip(("snap-a", "snap-b"), both, strict=True):
        put_leaf(writer, owner, [block_of(1)])
    for writer, session in zip(both, sessions, strict=True):
        writer.flush()
        writer.close()
        session.close()
    first, second = sorted(store.packs().items())
    assert (first[1].live_count, second[1].live_count) == (2, 0)
    extents = [decode_dead(key, value) for key, value in store.rows(Table.DEAD).items()]
    assert [(e.pack_number, e.start) for e in extents] == [(second[0], 0)]
    assert both[1].stored_bytes == 0
    assert faults(store) == []


def note_damage(store: SmallStore, digest) -> None:
    key = number_key(number_of(store, digest))
    store.metadata.run(lambda txn: txn.put_many(Table.DAMAGED, [(key, b"rot")]))


def test_a_damaged_chunk_is_healed_by_whoever_stores_it_again(store):
    digest = block_digest(block_of(1))
    store.put_leaf("snap-a", [block_of(1), block_of(2)])
    number, before = number_of(store, digest), store.location(digest)
    note_damage(store, digest)
    store.put_leaf("snap-b", [block_of(1)])
    assert number_of(store, digest) == number
    assert store.location(digest).pack_number != before.pack_number
    assert store.rows(Table.DAMAGED) == {}
    assert store.count(digest) == 2
    assert faults(store) == []


def test_a_damaged_node_is_healed_as_a_block_is(store):
    leaf = store.put_leaf("snap-a", [block_of(1)])
    before = store.location(leaf)
    note_damage(store, leaf)
    store.put_leaf("snap-b", [block_of(1)])
    assert store.location(leaf) != before
    assert store.rows(Table.DAMAGED) == {}
    assert faults(store) == []


def test_a_leaf_that_lost_its_fingerprints_gets_them_back(store):
    node = leaf_node(Holder("snap-a", 0, 0), [block_of(1)], marks=False)
    with store.writing() as writer:
        writer.put_blocks([(block_digest(block_of(1)), block_of(1))])
        writer.put_node(node)
    store.put_leaf("snap-b", [block_of(1)])
    (row,) = store.rows(Table.NODES).values()
    assert decode_node_row(row).fingerprints == block_digest(block_of(1))[:16]
    assert store.count(block_digest(block_of(1))) == 1


def test_what_a_commit_added_is_told(store):
    blocks = [block_of(1), block_of(2)]
    with store.writing() as writer:
        put_leaf(writer, "snap-a", blocks)
    assert writer.chunk_count == 3
    assert writer.stored_bytes == sum(row.live_bytes for row in store.packs().values())


def numbers_of(store, table=Table.CHUNKS):
    return sorted(decode_chunk_number(value) for value in store.rows(table).values())


def test_numbers_are_never_used_again(store):
    used: list[int] = []
    for seed in (0, 1, 2, 0):
        store.put_leaf("snap-a", [block_of(seed)])
        used += numbers_of(store)
        store.release("snap-a")
        store.reclaimer.run()
    assert len(set(used)) == len(used) == 8


def test_nodes_have_neighbouring_numbers_whatever_blocks_come_between(store):
    for seed in range(300):
        store.put_leaf(f"snap-{seed}", [block_of(seed), block_of(1000 + seed)])
    nodes = sorted(int.from_bytes(key, "big") for key in store.rows(Table.NODES))
    steps = [after - before for before, after in pairwise(nodes)]
    assert len(nodes) == 300
    assert len([step for step in steps if step != 1]) <= 1
    assert len(set(numbers_of(store))) == 900


def test_packs_are_numbered_from_one_and_forgotten_when_empty(store):
    for seed in range(3):
        store.put_leaf("snap-a", [block_of(seed)])
        store.release("snap-a")
        store.reclaimer.run()
    store.put_leaf("snap-a", [block_of(0)])
    assert list(store.packs()) == [4]
