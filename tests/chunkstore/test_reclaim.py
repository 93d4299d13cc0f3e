"""Giving space back: what is freed, what is kept, and what that costs."""

import pytest

from ebsim.chunkstore.chunk_index import find_numbers
from ebsim.chunkstore.reclaim import Reclaimer
from ebsim.chunkstore.rows import Holder, decode_dead
from ebsim.content.digest import block_digest
from ebsim.metadata.memory_metadata import MemoryMetadata
from ebsim.metadata.transactions import Table
from ebsim.units import KIB
from tests.chunkstore.small_store import (
    SmallStore,
    block_of,
    faults,
    inner_node,
    leaf_node,
    put_leaf,
)


def put_tree(store: SmallStore, owner: str, leaves: list[list[bytes]]) -> None:
    """A root over *leaves*, all in one pack, held by *owner* at the root alone."""
    with store.writing() as writer:
        digests = [put_leaf(writer, owner, blocks, at) for at, blocks in enumerate(leaves)]
        root = inner_node(Holder(owner, 1, 0), digests, range(len(leaves)))
        writer.put_node(root)


def test_dropping_the_last_hold_frees_the_tree_and_its_pack(store):
    put_tree(store, "snap-a", [[block_of(1), block_of(2)], [block_of(3)]])
    before = sum(row.live_bytes for row in store.packs().values())
    store.release("snap-a")
    done = store.reclaimer.run()
    assert (done.chunk_count, done.node_count, done.freed_bytes) == (6, 3, before)
    assert done.deleted_pack_count == 1
    for table in set(Table) - {Table.STORE, Table.COUNTS}:
        assert store.rows(table) == {}, table
    assert not any(b"".join(store.rows(Table.COUNTS).values()))
    assert list(store.backend.names("packs")) == []


def test_what_another_tree_needs_is_kept(store):
    shared = [block_of(1), block_of(2)]
    put_tree(store, "snap-a", [shared, [block_of(3)]])
    put_tree(store, "snap-b", [shared, [block_of(4)]])
    store.release("snap-a")
    assert store.reclaimer.run().chunk_count == 3  # A root, a leaf and its one block.
    assert not store.has(block_digest(block_of(3)))
    for seed in (1, 2, 4):
        assert bytes(store.reader.read(block_digest(block_of(seed)))) == block_of(seed)
    assert faults(store) == []


def test_a_block_that_one_leaf_names_twice_is_freed_with_it(store):
    store.put_leaf("snap-a", [block_of(1), block_of(1), block_of(2)])
    assert store.count(block_digest(block_of(1))) == 2
    store.release("snap-a")
    assert store.reclaimer.run().chunk_count == 3


def test_a_chunk_referenced_again_while_it_waited_is_kept(store):
    digest = store.put_leaf("snap-a", [block_of(1)])
    store.release("snap-a")
    assert len(store.rows(Table.RECLAIM)) == 1
    assert store.put_leaf("snap-b", [block_of(1)]) == digest
    assert store.reclaimer.run().chunk_count == 0
    assert store.rows(Table.RECLAIM) == {}
    assert bytes(store.reader.read(block_digest(block_of(1)))) == block_of(1)
    assert faults(store) == []


class CountingMetadata(MemoryMetadata):
    """Counts the rows that are read and written."""

    def __init__(self) -> None:
        super().__init__()
        self.row_count = 0

    def read(self, fn):
        return super().read(lambda reader: fn(_Counting(reader, self)))

    def run(self, fn):
        return super().run(lambda txn: fn(_Counting(txn, self)))


class _Counting:
    def __init__(self, inner, counter: CountingMetadata) -> None:
        self._inner, self._counter = inner, counter

    def __getattr__(self, name: str):
        def counted(table, *arguments, **options):
            result = getattr(self._inner, name)(table, *arguments, **options)
            self._counter.row_count += len(result if result is not None else arguments[0])
            return result

        return counted


def rows_touched_by_deleting(directory, kept_count: int, dropped_count: int) -> int:
    metadata = CountingMetadata()
    store = SmallStore(directory, metadata=metadata)
    kept = [[block_of(seed, 100) for seed in range(n, n + 8)] for n in range(0, kept_count, 8)]
    dropped = [[block_of(10**6 + n, 100)] for n in range(dropped_count)]
    put_tree(store, "snap-keep", kept)
    put_tree(store, "snap-drop", kept + dropped)
    store.release("snap-drop")
    metadata.row_count = 0
    assert store.reclaimer.run().chunk_count == 1 + 2 * dropped_count
    return metadata.row_count


def test_the_cost_follows_what_is_freed_and_not_what_is_kept(tmp_path):
    costs = [
        rows_touched_by_deleting(tmp_path, kept, dropped)
        for kept, dropped in [(8, 10), (800, 10), (8, 100)]
    ]
    assert costs[1] <= costs[0] + 110  # The root's 100 more children: a count each at the most.
    assert costs[2] <= costs[0] * 12


def test_work_of_many_steps_is_done_to_the_end(store):
    leaves = [[block_of(100 * leaf + n, 50) for n in range(100)] for leaf in range(6)]
    put_tree(store, "snap-a", leaves)
    store.release("snap-a")
    assert store.reclaimer.run().chunk_count == 1 + 6 + 600
    assert store.rows(Table.LOCATIONS) == {}


def test_a_chunk_whose_header_cannot_be_read_is_freed_and_counts_as_absent(store):
    """Its row in the index stays, since nobody can tell its digest.

    A snapshot that then met the same block took the number that is free for the chunk,
    and stored nothing.
    """
    blocks = [block_of(1), block_of(2)]
    store.put_leaf("snap-a", blocks)
    store.put_leaf("snap-keep", [block_of(3)])
    lost = block_digest(block_of(1))
    (name,) = {row.name for number, row in store.packs().items() if number == 1}
    store.overwrite(name, store.location(lost).offset, b"rot")
    store.release("snap-a")
    assert store.reclaimer.run().chunk_count == 3
    assert lost in store.rows(Table.CHUNKS)
    assert not store.has(lost)
    assert store.metadata.read(lambda reader: find_numbers(reader, [lost])) == {}
    store.put_leaf("snap-b", blocks)
    assert [bytes(store.reader.read(block_digest(b))) for b in blocks] == blocks
    assert faults(store) == []


class MovingReclaimer(Reclaimer):
    """Lets the records move after their digests were read, or could not be."""

    def __init__(self, store: SmallStore) -> None:
        super().__init__(store.backend, store.metadata, store.sessions.is_alive)
        self._store = store
        self.move_count = 0

    def _digests(self, locations):
        if self.move_count == 0:
            self.move_count += self._store.compact().moved_count
        return super()._digests(locations)


def test_a_chunk_that_moves_while_it_is_freed_leaves_no_row(store):
    for seed in range(5):
        store.put_leaf(f"snap-{seed}", [block_of(seed)])
        store.release(f"snap-{seed}")
    reclaimer = MovingReclaimer(store)
    assert reclaimer.run().chunk_count == 10
    assert reclaimer.move_count == 10
    assert store.rows(Table.CHUNKS) == {}
    assert list(store.backend.names("packs")) == []
    assert faults(store) == []


def test_an_empty_pack_of_a_session_at_work_stays_until_it_is_over(store):
    session = store.sessions.open()
    writer = store.writer(session)
    put_leaf(writer, "snap-a", [block_of(1)])
    writer.flush()
    store.release("snap-a")
    assert store.reclaimer.run().deleted_pack_count == 0
    assert len(store.packs()) == 1
    writer.close()
    session.close()
    assert store.reclaimer.sweep().deleted_pack_count == 1
    assert list(store.backend.names("packs")) == []
    assert faults(store) == []


@pytest.mark.parametrize(("size_bytes", "is_punched"), [(40 * KIB, False), (80 * KIB, True)])
def test_only_holes_of_64_kib_are_punched(store, size_bytes, is_punched):
    with store.writing() as writer:
        put_leaf(writer, "snap-keep", [block_of(1)], 0)
        put_leaf(writer, "snap-drop", [block_of(2, size_bytes)], 1)
    (name,) = store.backend.names("packs")
    before = store.backend.allocated_bytes(name)
    store.release("snap-drop")
    done = store.reclaimer.run()
    assert (done.punched_bytes > 0) == is_punched
    assert before - store.backend.allocated_bytes(name) == done.punched_bytes
    extents = [decode_dead(key, value) for key, value in store.rows(Table.DEAD).items()]
    assert [extent.punched for extent in extents] == [is_punched]
    assert bytes(store.reader.read(block_digest(block_of(1)))) == block_of(1)


def test_neighbours_that_die_one_after_the_other_make_a_hole_worth_punching(store):
    with store.writing() as writer:
        for place in range(3):
            put_leaf(writer, f"snap-{place}", [block_of(place, 40 * KIB)], place)
    store.release("snap-0")
    assert store.reclaimer.run().punched_bytes == 0
    store.release("snap-1")
    assert store.reclaimer.run().punched_bytes >= 72 * KIB
    assert bytes(store.reader.read(block_digest(block_of(2, 40 * KIB)))) == block_of(2, 40 * KIB)


def test_a_sweep_punches_what_a_process_that_died_left_unpunched(store):
    with store.writing() as writer:
        put_leaf(writer, "snap-keep", [block_of(1)], 0)
        put_leaf(writer, "snap-drop", [block_of(2, 100 * KIB)], 1)
    store.release("snap-drop")

    class Dying(Reclaimer):
        def _give_back(self, *_):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Dying(store.backend, store.metadata, store.sessions.is_alive).run()
    assert store.reclaimer.run().punched_bytes == 0  # Nothing is queued any more.
    assert store.reclaimer.sweep().punched_bytes >= 96 * KIB
    assert store.reclaimer.sweep().punched_bytes == 0


def test_a_leaf_put_again_after_it_was_freed_is_stored_again(store):
    store.put_leaf("snap-a", [block_of(1)])
    store.release("snap-a")
    store.reclaimer.run()
    digest = store.put_leaf("snap-b", [block_of(1)])
    assert leaf_node(Holder("x", 0, 0), [block_of(1)]).digest == digest
    assert bytes(store.reader.read(block_digest(block_of(1)))) == block_of(1)
    assert faults(store) == []


def test_more_empty_packs_than_one_transaction_takes_are_all_deleted(store):
    for seed in range(40):
        store.put_leaf(f"snap-{seed}", [block_of(seed, 100)])
        store.release(f"snap-{seed}")
    assert store.reclaimer.run().deleted_pack_count == 40
    assert list(store.backend.names("packs")) == []
    assert store.packs() == {}
