"""Compaction: what is chosen, moved, left where it is, and survives others at work."""

import pytest

from ebsim.backends.backend import Backend, ObjectWriter
from ebsim.backends.memory import Memory
from ebsim.chunkstore.compaction import Compaction, plan_compaction
from ebsim.chunkstore.pack_format import HEADER_SIZE
from ebsim.chunkstore.rows import number_key
from ebsim.content.digest import block_digest
from ebsim.errors import ChunkCorrupt, StorageFull
from ebsim.metadata.transactions import Table
from ebsim.progress import Unwatched
from ebsim.units import KIB
from tests.chunkstore.small_store import SmallStore, block_of, faults, put_leaf

BIG = 40 * KIB


class Unpunchable(Memory):
    """A file system without holes."""

    __slots__ = ()

    def punch(self, name: str, offset_bytes: int, size_bytes: int) -> int:
        del name, offset_bytes, size_bytes
        return 0


@pytest.fixture
def solid(tmp_path) -> SmallStore:
    """A store whose packs cannot be punched."""
    return SmallStore(tmp_path, Unpunchable())


def sparse_pack(store: SmallStore, *, kept: int = 1, dropped: int = 4) -> list[bytes]:
    """Write a pack of which the blocks of owner ``snap-drop`` are dead; return the live ones."""
    blocks = [block_of(seed, BIG) for seed in range(kept + dropped)]
    with store.writing() as writer:
        for place, block in enumerate(blocks):
            put_leaf(writer, "snap-keep" if place < kept else "snap-drop", [block], place)
    store.release("snap-drop")
    store.reclaimer.run()
    return blocks[:kept]


def plan(store: SmallStore):
    return plan_compaction(store.backend, store.metadata, store.sessions.is_alive)


def readable(store: SmallStore, blocks: list[bytes]) -> bool:
    return all(bytes(store.reader.read(block_digest(b))) == b for b in blocks)


def test_a_mostly_dead_pack_is_rewritten_and_deleted(solid):
    live = sparse_pack(solid)
    (name,) = solid.backend.names("packs")
    done = solid.compact()
    assert (done.moved_count, done.deleted_pack_count, done.damage) == (2, 1, [])
    assert name not in solid.backend.names("packs")
    assert readable(solid, live)
    assert faults(solid) == []


def test_a_pack_whose_dead_part_was_punched_is_left_as_it_is(store):
    sparse_pack(store)
    assert plan(store).packs == ()


def test_a_pack_that_is_live_enough_is_left_as_it_is(solid):
    sparse_pack(solid, kept=3, dropped=3)
    assert plan(solid).packs == ()


def test_a_second_compaction_finds_nothing_to_do(solid):
    sparse_pack(solid)
    for seed in range(6):
        solid.put_leaf(f"snap-{seed}", [block_of(100 + seed)])
    assert len(plan(solid).packs) == 7
    solid.compact()
    assert plan(solid).packs == ()


def test_small_packs_are_merged_into_one(store):
    blocks = [block_of(seed) for seed in range(5)]
    for seed, block in enumerate(blocks):
        store.put_leaf(f"snap-{seed}", [block])
    done = store.compact()
    assert (done.deleted_pack_count, done.written_pack_count) == (5, 1)
    assert len(list(store.backend.names("packs"))) == 1
    assert readable(store, blocks)
    assert faults(store) == []


def test_three_small_packs_are_not_worth_merging(store):
    for seed in range(3):
        store.put_leaf(f"snap-{seed}", [block_of(seed)])
    assert plan(store).packs == ()


def test_packs_of_a_session_at_work_are_left_alone(solid):
    session = solid.sessions.open()
    writer = solid.writer(session)
    for seed in range(6):
        put_leaf(writer, f"snap-{seed}", [block_of(seed)], seed)
        writer.flush()
    assert plan(solid).packs == ()
    writer.close()
    session.close()
    assert len(plan(solid).packs) == 6


def test_records_are_moved_as_they_are_without_being_decoded(solid):
    blocks = [bytes(BIG), block_of(1, BIG)]  # One that zstd shrinks, one stored as it is.
    with solid.writing() as writer:
        put_leaf(writer, "snap-keep", blocks)
        put_leaf(writer, "snap-drop", [block_of(seed, BIG) for seed in range(9, 19)], 1)
    solid.release("snap-drop")
    solid.reclaimer.run()

    def raw(block: bytes) -> bytes:
        (found,) = solid.reader.find([block_digest(block)])
        return solid.reader.read_record(found)

    before = [raw(block) for block in blocks]
    places = [solid.location(block_digest(block)) for block in blocks]
    solid.compact()
    assert [raw(block) for block in blocks] == before
    assert all(solid.location(block_digest(b)) not in places for b in blocks)


@pytest.mark.parametrize("offset", [0, 20, HEADER_SIZE, HEADER_SIZE + BIG - 1])
def test_a_damaged_record_stays_with_its_pack_and_is_reported(solid, offset):
    live = sparse_pack(solid, kept=2, dropped=8)
    (name,) = solid.backend.names("packs")
    damaged = block_digest(live[0])
    at = solid.location(damaged)
    old = solid.backend.read(name, at.offset + offset, 1)
    solid.overwrite(name, at.offset + offset, bytes([old[0] ^ 1]))
    done = solid.compact()
    assert [(d.digest, d.pack_name, d.offset_bytes) for d in done.damage] == [
        (damaged, name, at.offset)
    ]
    assert solid.location(damaged) == at
    assert done.deleted_pack_count == 0
    assert readable(solid, live[1:])
    with pytest.raises(ChunkCorrupt):
        solid.reader.read(damaged)


def test_a_chunk_found_damaged_is_stored_again_when_it_comes_by(solid):
    live = sparse_pack(solid, kept=1, dropped=8)
    (name,) = solid.backend.names("packs")
    solid.overwrite(name, solid.location(block_digest(live[0])).offset + 100, b"rot")
    solid.compact()
    assert len(solid.rows(Table.DAMAGED)) == 1
    solid.put_leaf("snap-new", live)
    assert readable(solid, live)
    assert solid.rows(Table.DAMAGED) == {}
    assert faults(solid) == []
    assert solid.compact().damage == []


def test_a_pack_whose_footer_is_damaged_is_rewritten_all_the_same(solid):
    live = sparse_pack(solid)
    (name,) = solid.backend.names("packs")
    size = solid.backend.size_bytes(name)
    solid.overwrite(name, size - 1, b"\xff\xff"[:1])
    done = solid.compact()
    assert (done.moved_count, done.deleted_pack_count, done.damage) == (2, 1, [])
    assert readable(solid, live)


def test_a_reader_that_looked_before_the_move_reads_after_it(solid):
    (block,) = sparse_pack(solid)
    (found,) = solid.reader.find([block_digest(block)])
    solid.compact()
    assert bytes(solid.reader.read_found(found)) == block


def test_a_reader_follows_a_chunk_that_moves_twice(solid):
    (block,) = sparse_pack(solid)
    (found,) = solid.reader.find([block_digest(block)])
    finds = []

    class Mover(type(solid.reader)):
        def find(self, digests):
            """Look up, and let the chunk move again before it can be read there."""
            result = super().find(digests)
            if len(finds) < 2:
                finds.append(result)
                for seed in range(4):
                    solid.put_leaf(f"snap-{len(finds)}-{seed}", [block_of(1000 + seed)])
                solid.compact()
            return result

    solid.compact()
    assert bytes(Mover(solid.backend, solid.metadata).read_found(found)) == block
    assert len(finds) == 2


class Interrupting:
    """A backend of which *before_seal* is called before a pack is sealed."""

    def __init__(self, inner: Backend, before_seal) -> None:
        self._inner = inner
        self._before_seal = before_seal

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    def create(self, name: str) -> ObjectWriter:
        return _InterruptingWriter(self._inner.create(name), self._before_seal)


class _InterruptingWriter:
    def __init__(self, inner: ObjectWriter, before_seal) -> None:
        self._inner = inner
        self._before_seal = before_seal

    def __getattr__(self, name: str):
        return getattr(self._inner, name)

    def seal(self) -> None:
        self._before_seal()
        self._inner.seal()


def compact_while(store: SmallStore, before_seal):
    """Compact; *before_seal* happens after the copies were made and before they count."""
    chosen = plan(store)
    session = store.sessions.open()
    backend = Interrupting(store.backend, before_seal)
    compaction = Compaction(backend, store.metadata, session, store.reclaimer)
    try:
        return compaction.execute(chosen, Unwatched())
    finally:
        session.close()


def test_a_chunk_freed_while_it_is_moved_leaves_nothing(solid):
    (block,) = sparse_pack(solid)

    def free() -> None:
        solid.release("snap-keep")
        solid.reclaimer.run()

    done = compact_while(solid, free)
    assert done.moved_count == 0
    assert not solid.has(block_digest(block))
    assert list(solid.backend.names("packs")) == []
    assert solid.packs() == {}
    assert faults(solid) == []


def test_a_chunk_released_while_it_is_moved_is_freed_where_it_went(solid):
    sparse_pack(solid)
    done = compact_while(solid, lambda: solid.release("snap-keep"))
    assert done.moved_count == 2
    solid.reclaimer.run()
    assert list(solid.backend.names("packs")) == []
    assert faults(solid) == []


def test_of_two_compactions_at_once_one_moves_and_none_loses(solid):
    live = sparse_pack(solid)
    inner = []
    done = compact_while(solid, lambda: inner.append(solid.compact()))
    assert [inner[0].moved_count, done.moved_count] == [2, 0]
    assert readable(solid, live)
    assert len(list(solid.backend.names("packs"))) == 1
    assert faults(solid) == []


def test_a_full_disk_fails_the_compaction_and_nothing_else(solid):
    live = sparse_pack(solid)

    def fail() -> None:
        raise StorageFull("no room. Nothing was changed.")

    with pytest.raises(StorageFull):
        compact_while(solid, fail)
    assert readable(solid, live)
    assert faults(solid) == []
    assert solid.compact().moved_count == 2


def test_a_dry_plan_changes_no_row_and_no_pack(solid):
    sparse_pack(solid)
    before = {table: solid.rows(table) for table in Table}
    packs = sorted(solid.backend.names("packs"))
    chosen = plan(solid)
    assert chosen.live_bytes == sum(row.live_bytes for row in solid.packs().values())
    assert {table: solid.rows(table) for table in Table} == before
    assert sorted(solid.backend.names("packs")) == packs


def test_the_plan_foretells_what_the_device_gets_back(solid):
    sparse_pack(solid)

    def occupied() -> int:
        return sum(solid.backend.allocated_bytes(n) for n in solid.backend.names("packs"))

    before, foretold = occupied(), plan(solid).freed_bytes
    solid.compact()
    assert abs(before - occupied() - foretold) <= 4096


def test_a_damage_note_names_the_chunk_number(solid):
    live = sparse_pack(solid, kept=1, dropped=8)
    (name,) = solid.backend.names("packs")
    (found,) = solid.reader.find([block_digest(live[0])])
    solid.overwrite(name, found.location.offset + 200, b"rot")
    solid.compact()
    assert list(solid.rows(Table.DAMAGED)) == [number_key(found.number)]
