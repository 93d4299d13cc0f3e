"""Compaction: the live records of packs that are mostly waste are moved to new packs.

A pack is worth rewriting when less than 40 % of what it *occupies* is live.  Its size does
not count: a dead part that was punched costs nothing, and moving the rest would read and
write much to give back little.  Where holes cannot be punched, or were too small to be,
the two are the same.  Packs with very little in them are merged, if there are several.

What becomes durable, in this order:

1. Live records are copied as they are, header and payload proved by their checksums and
   never decoded, into packs of the compaction's own session, and these are sealed.
2. A transaction lets the index point at the copies, where it still points at the
   originals; those become dead.  A chunk freed or healed meanwhile leaves a dead copy.
3. A pack with nothing live loses its row, then its object.

A crash leaves packs of a dead session that no row names, or an original and its copy of
which the index names one.  Nobody waits: a reader who misses looks once more, and packs
of sessions at work are left alone.  A record that is damaged stays where it is, and so
does its pack.  What has been moved stays moved when a later step fails.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ebsim.backends.backend import Backend
from ebsim.chunkstore.chunk_index import find_locations, find_numbers, find_packs
from ebsim.chunkstore.chunk_reader import verified_payload
from ebsim.chunkstore.dead_space import dead_extents
from ebsim.chunkstore.node_commit import (
    Committed,
    PackInProgress,
    location_of,
    register_records,
)
from ebsim.chunkstore.pack_accounts import retire
from ebsim.chunkstore.pack_format import (
    ENTRY_SIZE,
    HEADER_SIZE,
    TRAILER_SIZE,
    PackDamaged,
    Record,
)
from ebsim.chunkstore.pack_scan import read_pack
from ebsim.chunkstore.pack_writer import PackWriter, Placed
from ebsim.chunkstore.reclaim import (
    HOLE_SIZE_MIN,
    Reclaimer,
    hole_size,
    session_of,
    worth_punching,
)
from ebsim.chunkstore.rows import Location, PackRow, decode_pack, number_key, pack_key
from ebsim.chunkstore.sessions import Session
from ebsim.ids import Digest
from ebsim.metadata.transactions import Metadata, Reader, Table, Transaction
from ebsim.progress import Progress
from ebsim.units import MIB

_LIVE_PERCENT_MIN = 40
_SMALL_LIVE_BYTES = 4 * MIB
# Fewer would be rewritten again and again, each time with one more.
_SMALL_COUNT_MIN = 4

_PACKS_PER_STEP = 256
_RECORDS_PER_STEP = 1024


@dataclass(frozen=True, slots=True)
class WastefulPack:
    """A pack to be rewritten; *allocated_bytes* as it will be once its holes are punched."""

    pack_number: int
    name: str
    live_count: int
    live_bytes: int
    allocated_bytes: int

    @property
    def is_sparse(self) -> bool:
        """Whether rewriting it alone gives back enough."""
        wasted = self.allocated_bytes - self.live_bytes - self.live_count * ENTRY_SIZE
        return (
            wasted - TRAILER_SIZE >= HOLE_SIZE_MIN
            and self.live_bytes * 100 < self.allocated_bytes * _LIVE_PERCENT_MIN
        )


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """What compaction would do.

    Attributes:
        packs: To be rewritten, in the order in which they were written.
        empty_bytes: What packs with nothing live occupy: they are deleted.
        punched_bytes: What punching dead extents gives back, in packs not rewritten too.
    """

    packs: tuple[WastefulPack, ...]
    empty_bytes: int
    punched_bytes: int

    @property
    def live_bytes(self) -> int:
        """What there is to copy."""
        return sum(pack.live_bytes for pack in self.packs)

    @property
    def freed_bytes(self) -> int:
        """What the device gets back, about: file systems round as they like."""
        live_count = sum(pack.live_count for pack in self.packs)
        allocated = sum(pack.allocated_bytes for pack in self.packs)
        rewritten = max(0, allocated - self.live_bytes - live_count * ENTRY_SIZE)
        return rewritten + self.empty_bytes + self.punched_bytes


class DamageFound(NamedTuple):
    """A record that could not be moved; without digest, a pack of which some
    live records cannot even be found."""

    digest: Digest | None
    pack_name: str
    offset_bytes: int
    found: str


@dataclass(slots=True)
class Compacted:
    """What compaction did."""

    moved_count: int = 0
    moved_bytes: int = 0
    deleted_pack_count: int = 0
    written_pack_count: int = 0
    damage: list[DamageFound] = field(default_factory=list)


def plan_compaction(
    backend: Backend, metadata: Metadata, is_alive: Callable[[str], bool]
) -> CompactionPlan:
    """Choose the packs to rewrite.  Changes nothing; looks at the rows of all packs."""
    sparse, small = [], []
    empty_bytes = punched_bytes = 0
    for pack_number, row in _pack_rows(metadata):
        if is_alive(session_of(row.name)):
            continue
        allocated = backend.allocated_bytes(row.name) or 0
        if row.live_count == 0:
            empty_bytes += allocated
            continue
        punchable = _punchable_bytes(metadata, pack_number, row)
        punched_bytes += punchable
        pack = WastefulPack(
            pack_number, row.name, row.live_count, row.live_bytes, allocated - punchable
        )
        if pack.is_sparse:
            sparse.append(pack)
        elif pack.live_bytes < _SMALL_LIVE_BYTES:
            small.append(pack)
    chosen = sparse + (small if len(small) >= _SMALL_COUNT_MIN else [])
    chosen.sort(key=lambda pack: pack.pack_number)
    return CompactionPlan(tuple(chosen), empty_bytes, punched_bytes)


def plan_merge(
    backend: Backend, metadata: Metadata, pack_numbers: Sequence[int]
) -> CompactionPlan:
    """The very small ones of some packs that nobody adds to any more, if they are several."""
    rows = metadata.read(lambda reader: find_packs(reader, pack_numbers))
    small = tuple(
        WastefulPack(
            pack_number,
            row.name,
            row.live_count,
            row.live_bytes,
            backend.allocated_bytes(row.name) or 0,
        )
        for pack_number, row in sorted(rows.items())
        if 0 < row.live_bytes < _SMALL_LIVE_BYTES
    )
    return CompactionPlan(small if len(small) >= _SMALL_COUNT_MIN else (), 0, 0)


def _pack_rows(metadata: Metadata) -> Iterator[tuple[int, PackRow]]:
    start = b""
    while True:
        rows = metadata.read(
            lambda reader: reader.scan(Table.PACKS, start, limit=_PACKS_PER_STEP)  # noqa: B023 (called at once)
        )
        for key, value in rows:
            yield int.from_bytes(key, "big"), decode_pack(value)
        if len(rows) < _PACKS_PER_STEP:
            return
        start = pack_key(int.from_bytes(rows[-1][0], "big") + 1)


def _punchable_bytes(metadata: Metadata, pack_number: int, row: PackRow) -> int:
    if row.size_bytes - row.live_bytes < HOLE_SIZE_MIN:
        return 0
    extents = metadata.read(lambda reader: dead_extents(reader, pack_number))
    return sum(hole_size(extent) for extent in worth_punching(extents))


class _Copied(NamedTuple):
    """A record that was copied: where the original lies, and where the copy."""

    digest: Digest
    original: Location
    copy: Placed


class Compaction:
    """One run of a plan, for one ``execute``, in one thread."""

    def __init__(
        self, backend: Backend, metadata: Metadata, session: Session, reclaimer: Reclaimer
    ) -> None:
        """*session* is the compaction's own: the new packs are named for it."""
        self._backend = backend
        self._metadata = metadata
        self._reclaimer = reclaimer
        self._packs = PackWriter(backend, session.next_pack_name)
        self._pack_numbers: dict[int, int] = {}
        self._copied: deque[_Copied] = deque()
        # Packs whose live records were copied, with the index of the last copy's pack.
        self._left: deque[tuple[WastefulPack, int]] = deque()
        self._done = Compacted()

    def execute(self, plan: CompactionPlan, progress: Progress) -> Compacted:
        """Rewrite the packs of *plan*.

        Memory: the list of the records copied to packs that are not durable yet.

        Raises:
            StorageFull, StorageUnavailable: what was moved before stays moved.
        """
        try:
            for pack in plan.packs:
                self._copy(pack, progress)
                self._repoint(self._packs.sealed_count)
            self._packs.flush()
            self._repoint(self._packs.sealed_count)
        finally:
            self._packs.close()
        for index, pack_number in self._pack_numbers.items():
            # All that was copied to it may have been freed meanwhile.
            self._reclaimer.delete_pack(pack_number, self._packs.names[index])
        self._done.written_pack_count = len(self._pack_numbers)
        return self._done

    def _copy(self, pack: WastefulPack, progress: Progress) -> None:
        """Append copies of the pack's live records to the new packs."""
        try:
            contents = read_pack(self._backend, pack.name)
        except FileNotFoundError:
            return
        under_way = {copied.digest for copied in self._copied}
        live_count = 0
        for record in self._live(pack, contents.records):
            live_count += 1
            # One healed from another pack of the plan while this ran; the next run has it.
            if record.digest in under_way:
                continue
            original = location_of(record, pack.pack_number)
            payload = self._payload(pack, record, original)
            if payload is not None:
                copy = self._packs.append_encoded(record, payload)
                self._copied.append(_Copied(record.digest, original, copy))
            progress.advance(HEADER_SIZE + record.payload_size)
        if contents.complaint and live_count < pack.live_count:
            self._done.damage.append(DamageFound(None, pack.name, 0, contents.complaint))
        last = self._copied[-1].copy.pack_index if self._copied else -1
        self._left.append((pack, last))

    def _live(self, pack: WastefulPack, records: Sequence[Record]) -> Iterator[Record]:
        """Yield those of *records* that the index points at, in the order of the pack."""
        for start in range(0, len(records), _RECORDS_PER_STEP):
            step = records[start : start + _RECORDS_PER_STEP]
            digests = [record.digest for record in step]
            found = self._metadata.read(lambda reader: _locations_of(reader, digests))  # noqa: B023 (called at once)
            for record in step:
                if found.get(record.digest) == location_of(record, pack.pack_number):
                    yield record

    def _payload(
        self, pack: WastefulPack, record: Record, original: Location
    ) -> memoryview | None:
        """The record's payload, proved; ``None`` where it is damaged or has gone away."""
        try:
            raw = self._backend.read(pack.name, record.offset, HEADER_SIZE + record.payload_size)
            return memoryview(verified_payload(record, raw))
        except (PackDamaged, FileNotFoundError) as error:
            found = str(error) if isinstance(error, PackDamaged) else "the pack is not there"
        # What was moved or freed since it was found reads as another's, or as zeros.
        if self._metadata.run(lambda txn: _note_damage(txn, record.digest, original, found)):
            damage = DamageFound(record.digest, pack.name, record.offset, found)
            self._done.damage.append(damage)
        return None

    def _repoint(self, sealed_count: int) -> None:
        """Let the index point at the copies that are durable, and delete emptied packs."""
        while self._copied and self._copied[0].copy.pack_index < sealed_count:
            step: list[_Copied] = []
            while (
                self._copied
                and self._copied[0].copy.pack_index < sealed_count
                and len(step) < _RECORDS_PER_STEP
            ):
                step.append(self._copied.popleft())
            self._repoint_step(step)
        emptied: dict[int, str] = {}
        while self._left and self._left[0][1] < sealed_count:
            pack, _ = self._left.popleft()
            emptied[pack.pack_number] = pack.name
        self._done.deleted_pack_count += self._reclaimer.delete_packs(emptied)

    def _repoint_step(self, copied: Sequence[_Copied]) -> None:
        packs = {
            index: PackInProgress(
                self._packs.names[index],
                self._packs.sizes[index],
                self._pack_numbers.get(index, 0),
            )
            for index in {one.copy.pack_index for one in copied}
        }
        done, moved_count = self._metadata.run(lambda txn: _repoint(txn, copied, packs))
        self._pack_numbers.update(done.pack_numbers)
        self._done.moved_count += moved_count
        self._done.moved_bytes += done.stored_bytes


def _locations_of(reader: Reader, digests: Iterable[Digest]) -> dict[Digest, Location]:
    numbers = find_numbers(reader, digests)
    locations = find_locations(reader, numbers.values())
    return {digest: locations[number] for digest, number in numbers.items()}


def _note_damage(txn: Transaction, digest: Digest, location: Location, found: str) -> bool:
    """Note that the chunk is damaged, so that it is stored again when it next comes by.

    Returns whether the index still says that it lies at *location*.
    """
    numbers = find_numbers(txn, [digest])
    if find_locations(txn, numbers.values()).get(numbers.get(digest, 0)) != location:
        return False
    txn.put_many(Table.DAMAGED, [(number_key(numbers[digest]), found.encode())])
    return True


def _repoint(
    txn: Transaction, copied: Sequence[_Copied], packs: dict[int, PackInProgress]
) -> tuple[Committed, int]:
    """Move those of *copied* that the index still finds where they were."""
    numbers = find_numbers(txn, [one.digest for one in copied])
    locations = find_locations(txn, numbers.values())
    moved = {
        one.digest: one.original
        for one in copied
        if locations.get(numbers.get(one.digest, 0)) == one.original
    }
    done = Committed()
    register_records(
        txn,
        {digest: numbers[digest] for digest in moved},
        {one.digest for one in copied} - moved.keys(),
        {one.digest: one.copy for one in copied},
        packs,
        done=done,
    )
    retire(txn, moved.values())
    return done, len(moved)
