"""Comparing packs with the index, and reading what they hold.

Looking at a pack takes no lock and no long transaction, so records may be moved or freed
while it is read.  What looks wrong is therefore looked at again before it is believed:
``recheck`` reads the chunk where the index says that it lies *now*.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from ebsim.backends.backend import Backend
from ebsim.chunkstore.chunk_index import (
    find_chunks,
    find_locations,
    find_numbers,
    find_packs,
)
from ebsim.chunkstore.chunk_reader import verified_chunk, verified_payload
from ebsim.chunkstore.dead_space import dead_extents
from ebsim.chunkstore.node_commit import location_of
from ebsim.chunkstore.pack_format import (
    HEADER_SIZE,
    Kind,
    PackDamaged,
    Record,
    decode_header,
)
from ebsim.chunkstore.pack_scan import read_pack
from ebsim.chunkstore.rows import Location
from ebsim.chunkstore.scrub import scrub_records
from ebsim.metadata.transactions import Metadata, Reader

Buffer = bytes | bytearray | memoryview
OnChunk = Callable[[int, Record, Buffer], None]
"""Takes each chunk that was decoded: its number, its record, its bytes."""

_RECORDS_PER_READ = 4096


class BadChunk(NamedTuple):
    """A chunk that the index has and that cannot be read as it says."""

    number: int
    location: Location
    pack_name: str
    complaint: str


@dataclass(slots=True)
class PackFindings:
    """What was found in one pack.

    Attributes:
        complaint: What is wrong with the pack as a whole, or empty.
        proven: The numbers of the chunks that lie where the index says.
        suspects: Those of them whose records failed.
        overlaps: Dead extents that reach into live records.
    """

    pack_number: int
    name: str
    complaint: str = ""
    is_missing: bool = False
    proven: list[int] = field(default_factory=list)
    suspects: list[int] = field(default_factory=list)
    overlaps: list[tuple[int, int]] = field(default_factory=list)
    read_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of each pack to read: blocks beside the nodes, and what share of them."""

    read_data: bool
    sample: float
    random: Random
    known_damaged: frozenset[int]


class PackChecker:
    """Checks packs one by one; ``check`` runs in several threads at once."""

    def __init__(self, backend: Backend, metadata: Metadata, reading: Reading) -> None:
        self._backend = backend
        self._metadata = metadata
        self._reading = reading

    def check(self, pack_number: int, name: str, on_chunk: OnChunk) -> PackFindings:
        """Compare the pack with the index; read its nodes, and of its blocks what is asked."""
        found = PackFindings(pack_number, name)
        try:
            contents = read_pack(self._backend, name)
        except FileNotFoundError:
            found.complaint, found.is_missing = "the pack is not there", True
            return found
        found.complaint = contents.complaint
        live = self._live(pack_number, contents.records)
        found.proven = [number for number, _ in live]
        row = self._metadata.read(lambda reader: find_packs(reader, [pack_number]))
        if pack_number in row and row[pack_number].size_bytes != contents.size_bytes:
            expected = row[pack_number].size_bytes
            found.complaint = f"it has {contents.size_bytes} bytes, expected {expected}"
        found.overlaps = self._metadata.read(
            lambda reader: _overlaps(reader, pack_number, [record for _, record in live])
        )
        try:
            self._read(found, live, on_chunk)
        except FileNotFoundError:
            found.complaint, found.is_missing = "the pack is not there", True
        return found

    def _live(self, pack_number: int, records: Sequence[Record]) -> list[tuple[int, Record]]:
        """Those *records* that the index points at, with their numbers."""
        live: list[tuple[int, Record]] = []
        for first in range(0, len(records), _RECORDS_PER_READ):
            batch = records[first : first + _RECORDS_PER_READ]
            live += self._metadata.read(lambda reader: _pointed_at(reader, pack_number, batch))  # noqa: B023 (called at once)
        return live

    def _read(
        self, found: PackFindings, live: Sequence[tuple[int, Record]], on_chunk: OnChunk
    ) -> None:
        reading = self._reading
        chosen: dict[int, int] = {}
        nodes, blocks = [], []
        for number, record in live:
            chosen[record.offset] = number
            if record.kind != Kind.BLOCK or number in reading.known_damaged:
                nodes.append(record)
            elif reading.read_data and reading.random.random() < reading.sample:
                blocks.append(record)
            elif found.complaint:
                self._read_header(found, number, record)
        for records, random in ((nodes, None), (blocks, reading.random)):
            for record, chunk, complaint in scrub_records(
                self._backend, found.name, records, random
            ):
                number = chosen[record.offset]
                found.read_bytes += HEADER_SIZE + record.payload_size
                if complaint:
                    found.suspects.append(number)
                elif chunk is not None:
                    on_chunk(number, record, chunk)

    def _read_header(self, found: PackFindings, number: int, record: Record) -> None:
        """Prove a record's header where the footer cannot be relied on."""
        header = self._backend.read(found.name, record.offset, HEADER_SIZE)
        try:
            is_right = decode_header(header, record.offset)[0] == record
        except PackDamaged:
            is_right = False
        if not is_right:
            found.suspects.append(number)

    def recheck(self, numbers: Iterable[int], *, whole: bool) -> list[BadChunk]:
        """Those *numbers* that are bad where the index says that they lie now.

        *whole* reads their payloads too; a node's is read in any case.
        """
        bad = []
        for number in numbers:
            before = None
            while True:
                place = self._metadata.read(lambda reader: _place_of(reader, number))  # noqa: B023 (called at once)
                if place is None:
                    break
                complaint = self._complaint(number, *place, whole=whole)
                if not complaint:
                    break
                if place == before:
                    bad.append(BadChunk(number, *place, complaint))
                    break
                before = place
        return bad

    def _complaint(self, number: int, location: Location, pack_name: str, *, whole: bool) -> str:
        if not pack_name:
            return f"pack number {location.pack_number} has no row"
        size = HEADER_SIZE + location.payload_size
        try:
            raw = self._backend.read(pack_name, location.offset, size)
        except FileNotFoundError:
            return "the pack is not there"
        try:
            record, _ = decode_header(raw, location.offset)
            if location_of(record, location.pack_number) != location:
                return "the record's header is not the one that the index describes"
            if whole or record.kind != Kind.BLOCK:
                verified_payload(record, raw)
                verified_chunk(record.digest, raw, location.offset)
        except PackDamaged as error:
            return str(error)
        named = self._metadata.read(lambda reader: find_numbers(reader, [record.digest]))
        if named.get(record.digest) != number:
            return WRONG_DIGEST
        return ""


WRONG_DIGEST = "the index has no row that leads from the record's digest to it"
"""The complaint about a chunk that is whole, and that nobody can find."""


def _pointed_at(
    reader: Reader, pack_number: int, records: Sequence[Record]
) -> list[tuple[int, Record]]:
    chunks = find_chunks(reader, [record.digest for record in records])
    found = []
    for record in records:
        number, location = chunks.get(record.digest, (0, None))
        if location == location_of(record, pack_number):
            found.append((number, record))
    return found


def _place_of(reader: Reader, number: int) -> tuple[Location, str] | None:
    location = find_locations(reader, [number]).get(number)
    if location is None:
        return None
    row = find_packs(reader, [location.pack_number]).get(location.pack_number)
    return location, row.name if row else ""


def _overlaps(
    reader: Reader, pack_number: int, records: Sequence[Record]
) -> list[tuple[int, int]]:
    """The dead extents that overlap those of *records* that are still alive."""
    extents = dead_extents(reader, pack_number)
    if not extents:
        return []
    live = [record for _, record in _pointed_at(reader, pack_number, records)]
    found = []
    position = 0
    for extent in extents:
        while position < len(live) and live[position].stop <= extent.start:
            position += 1
        if position < len(live) and live[position].offset < extent.stop:
            found.append((extent.start, extent.stop))
    return found
