"""Writing packs: when they roll, in which order they become durable, what a failure leaves."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from ebsim.backends.backend import ObjectWriter
from ebsim.backends.memory import Memory
from ebsim.chunkstore.chunk_reader import verified_chunk
from ebsim.chunkstore.pack_format import (
    HEADER_SIZE,
    PACK_SIZE_MAX,
    TRAILER_SIZE,
    Kind,
    Record,
    decode_footer,
    decode_trailer,
)
from ebsim.chunkstore.pack_writer import PackWriter
from ebsim.content.digest import block_digest
from ebsim.errors import StorageFull
from ebsim.units import MIB
from tests.chunkstore.small_store import block_of


class Scripted(Memory):
    """Memory whose seals and appends do what a test wants before they happen."""

    __slots__ = ("before_append", "before_seal", "discarded", "sealed")

    def __init__(self, before_seal=lambda _: None, before_append=lambda _: None) -> None:
        super().__init__()
        self.before_seal = before_seal
        self.before_append = before_append
        self.sealed: list[str] = []
        self.discarded: list[str] = []

    def create(self, name: str) -> ObjectWriter:
        return _ScriptedWriter(self, name, super().create(name))


class _ScriptedWriter:
    def __init__(self, scripted: Scripted, name: str, inner: ObjectWriter) -> None:
        self._scripted, self._name, self._inner = scripted, name, inner

    @property
    def size_bytes(self) -> int:
        return self._inner.size_bytes

    def append(self, parts) -> int:
        self._scripted.before_append(self._name)
        return self._inner.append(parts)

    def seal(self) -> None:
        self._scripted.before_seal(self._name)
        self._inner.seal()
        self._scripted.sealed.append(self._name)

    def discard(self) -> None:
        self._scripted.discarded.append(self._name)
        self._inner.discard()


def writer_to(backend: Memory) -> PackWriter:
    numbers = count(1)
    return PackWriter(backend, lambda: f"packs/{next(numbers):02x}.pack")


def append(packs: PackWriter, seed: int, size_bytes: int = 1000):
    block = block_of(seed, size_bytes)
    return packs.append(Kind.BLOCK, block_digest(block), block, 1)


def append_stored(packs: PackWriter, payload: bytes):
    """Append as it is, without the time that compressing takes."""
    record = Record(block_digest(payload[:64]), 0, len(payload), len(payload), Kind.BLOCK, 0)
    return packs.append_encoded(record, payload)


def fill(packs: PackWriter, pack_count: int) -> None:
    """Append until *pack_count* packs are full and one more is open."""
    payload = bytes(4 * MIB - HEADER_SIZE)
    for _ in range(15 * pack_count + 1):
        append_stored(packs, payload)


def records_in(backend: Memory, name: str) -> list[Record]:
    size = backend.size_bytes(name)
    trailer = decode_trailer(backend.read(name, size - TRAILER_SIZE, TRAILER_SIZE), size)
    footer = backend.read(name, trailer.footer_offset, trailer.footer_size)
    return decode_footer(footer, trailer)


def test_what_was_appended_reads_back_by_the_footer():
    backend = Memory()
    packs = writer_to(backend)
    placed = [append(packs, seed) for seed in range(5)]
    packs.flush()
    packs.close()
    records = records_in(backend, "packs/01.pack")
    assert records == [place.record for place in placed]
    for seed, record in enumerate(records):
        raw = backend.read("packs/01.pack", record.offset, HEADER_SIZE + record.payload_size)
        assert bytes(verified_chunk(record.digest, raw, record.offset)) == block_of(seed, 1000)


@pytest.mark.slow
def test_a_pack_is_never_larger_than_the_limit_footer_and_trailer_included():
    backend = Memory()
    packs = writer_to(backend)
    fill(packs, 1)
    first_free = PACK_SIZE_MAX - 15 * 4 * MIB - TRAILER_SIZE - 16 * 48 - HEADER_SIZE
    packs.flush()
    packs.close()
    other = writer_to(backend_two := Memory())
    for _ in range(15):
        append_stored(other, bytes(4 * MIB - HEADER_SIZE))
    exact = append_stored(other, bytes(first_free))
    beyond = append_stored(other, b"\1")
    other.flush()
    other.close()
    assert max(packs.sizes) <= PACK_SIZE_MAX
    assert (exact.pack_index, beyond.pack_index) == (0, 1)
    assert backend_two.size_bytes("packs/01.pack") == PACK_SIZE_MAX


def test_one_byte_more_than_fits_begins_the_next_pack():
    packs = writer_to(Memory())
    for _ in range(15):
        append_stored(packs, bytes(4 * MIB - HEADER_SIZE))
    room = PACK_SIZE_MAX - 15 * 4 * MIB - TRAILER_SIZE - 16 * 48 - HEADER_SIZE
    assert append_stored(packs, bytes(room + 1)).pack_index == 1
    packs.close()


@pytest.mark.slow
def test_packs_become_durable_in_the_order_in_which_they_were_filled():
    backend = Scripted()
    packs = writer_to(backend)
    fill(packs, 3)
    packs.flush()
    packs.close()
    assert backend.sealed == packs.names == [f"packs/0{n}.pack" for n in (1, 2, 3, 4)]
    assert packs.sealed_count == 4
    assert packs.sizes == [backend.size_bytes(name) for name in packs.names]


def test_a_pack_counts_as_sealed_only_once_it_is():
    reached, go_on = threading.Event(), threading.Event()

    def wait(_: str) -> None:
        reached.set()
        assert go_on.wait(30)

    packs = writer_to(Scripted(before_seal=wait))
    append(packs, 1)
    with ThreadPoolExecutor(1) as pool:
        flush = pool.submit(packs.flush)
        assert reached.wait(30)
        assert packs.sealed_count == 0
        go_on.set()
        flush.result(30)
    assert packs.sealed_count == 1
    packs.close()


def failing_at(name: str):
    def fail(at: str) -> None:
        if at == name:
            raise StorageFull(f"no room for {at}. Nothing was changed.")

    return fail


def test_after_a_seal_that_failed_no_later_pack_counts_as_sealed():
    backend = Scripted(before_seal=failing_at("packs/02.pack"))
    packs = writer_to(backend)
    with pytest.raises(StorageFull, match="02"):
        fill(packs, 8)
    with pytest.raises(StorageFull, match="02"):
        packs.flush()
    assert packs.sealed_count == 1
    packs.close()
    assert list(backend.names("packs")) == ["packs/01.pack"]


def test_whoever_appends_or_flushes_after_a_failed_seal_is_told_of_it():
    """Else a flush would return with records that never become durable."""
    packs = writer_to(Scripted(before_seal=failing_at("packs/01.pack")))
    append(packs, 1)
    for attempt in (packs.flush, packs.flush, lambda: append(packs, 2)):
        with pytest.raises(StorageFull, match="01"):
            attempt()
    packs.close()


def test_whoever_appends_after_a_broken_append_is_told_of_the_same_failure():
    """A pack with half a record in it takes no other: its records would not touch."""
    backend = Scripted()
    packs = writer_to(backend)
    append(packs, 1)
    backend.before_append = failing_at("packs/01.pack")
    with pytest.raises(StorageFull):
        append(packs, 2)
    backend.before_append = lambda _: None
    for attempt in (lambda: append(packs, 3), packs.flush):
        with pytest.raises(StorageFull):
            attempt()
    packs.close()
    assert list(backend.names("packs")) == []
    assert backend.discarded == ["packs/01.pack"]


def test_closing_discards_every_pack_that_was_not_sealed():
    """One that waited behind a slow seal would else keep its room as long as the process."""
    reached, go_on = threading.Event(), threading.Event()

    def wait(_: str) -> None:
        reached.set()
        assert go_on.wait(30)

    backend = Scripted(before_seal=wait)
    packs = writer_to(backend)
    fill(packs, 2)
    assert reached.wait(30)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(packs.close)
        go_on.set()
        closing.result(30)
    assert sorted(backend.sealed + backend.discarded) == packs.names
    assert "packs/03.pack" in backend.discarded


def test_many_threads_append_to_packs_whose_records_touch():
    backend = Memory()
    packs = writer_to(backend)
    with ThreadPoolExecutor(4) as pool:
        placed = list(pool.map(lambda seed: append(packs, seed), range(200)))
    packs.flush()
    packs.close()
    records = records_in(backend, "packs/01.pack")
    assert sorted(place.record for place in placed) == sorted(records)
