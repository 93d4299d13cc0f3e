"""Auditing the rows against each other, all of one moment.

One read transaction sees every table, so nothing found here is a race with a writer.  It
reads no pack; what is kept of two million chunks is some 20 MB: bits and counters.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ebsim.chunkstore.chunk_index import find_numbers
from ebsim.chunkstore.number_set import NumberSet
from ebsim.chunkstore.pack_format import HEADER_SIZE, Kind
from ebsim.chunkstore.rows import (
    COUNTS_PER_PAGE,
    LOCATION_SIZE,
    LOCATIONS_PER_PAGE,
    DeadExtent,
    PackRow,
    decode_chunk_number,
    decode_dead,
    decode_hold,
    decode_location,
    decode_node_row,
    decode_pack,
)
from ebsim.ids import Digest
from ebsim.metadata.transactions import Reader, Row, Table

_ROWS_PER_SCAN = 1024
_FREE = bytes(LOCATION_SIZE)


class Drift(NamedTuple):
    """A reference count that is not what the edges and holds add up to."""

    number: int
    stored: int
    counted: int


class Account(NamedTuple):
    """A pack's row, and what is alive in it by the locations."""

    pack_number: int
    row: PackRow
    live_bytes: int
    live_count: int


@dataclass(slots=True)
class Ledger:
    """What the rows say, and where they contradict each other.

    Attributes:
        numbers: Chunk numbers that have a location.
        nameless: Those of them that no digest leads to.
        stale: Digests that lead to a number which is free or has another digest already.
        rowless: Nodes without a row of edges.
        dangling: Edges to a number without location: the node's, the child's number.
        packless: Packs that locations speak of and that have no row.
        accounts: Packs whose live bytes or records are counted wrong.
        strays: Rows about a chunk or pack that does not exist.
        unqueued: Chunks that nothing references and that the reclaimer will not find.
        empty_packs: Packs with nothing alive in them.
        damaged: What is known already of damaged chunks.
    """

    chunk_count: int = 0
    node_count: int = 0
    reference_count: int = 0
    pack_count: int = 0
    numbers: NumberSet = field(default_factory=NumberSet)
    nameless: list[int] = field(default_factory=list)
    stale: list[tuple[Digest, int]] = field(default_factory=list)
    rowless: list[int] = field(default_factory=list)
    dangling: list[tuple[int, int]] = field(default_factory=list)
    packless: set[int] = field(default_factory=set)
    accounts: list[Account] = field(default_factory=list)
    strays: list[tuple[Table, bytes]] = field(default_factory=list)
    drifted: list[Drift] = field(default_factory=list)
    unqueued: list[int] = field(default_factory=list)
    empty_packs: list[tuple[int, str]] = field(default_factory=list)
    damaged: dict[int, str] = field(default_factory=dict)


def scan_all(reader: Reader, table: Table, start: bytes = b"") -> Iterator[Row]:
    """Yield every row of *table* from *start* on."""
    while True:
        rows = reader.scan(table, start, limit=_ROWS_PER_SCAN)
        yield from rows
        if len(rows) < _ROWS_PER_SCAN:
            return
        start = rows[-1][0] + b"\0"


class ReferenceTally:
    """Reference counts being counted anew, in pages as they are stored."""

    def __init__(self) -> None:
        self.pages: dict[int, array[int]] = {}

    def add(self, numbers: Iterable[int]) -> None:
        """Count one more reference on each of *numbers*."""
        pages = self.pages
        for number in numbers:
            page = pages.get(number >> 8)
            if page is None:
                page = pages[number >> 8] = array("I", bytes(4 * COUNTS_PER_PAGE))
            page[number & 0xFF] += 1

    def get(self, number: int) -> int:
        page = self.pages.get(number // COUNTS_PER_PAGE)
        return page[number % COUNTS_PER_PAGE] if page else 0


assert COUNTS_PER_PAGE == 1 << 8, "ReferenceTally.add divides by shifting"


def recount(reader: Reader) -> ReferenceTally:
    """Count the references of all chunks by the edges and holds there are."""
    tally = ReferenceTally()
    for _, value in scan_all(reader, Table.NODES):
        tally.add(decode_node_row(value).children)
    for _, value in scan_all(reader, Table.HOLDS):
        tally.add((decode_hold(value)[0],))
    return tally


def audit_rows(reader: Reader) -> Ledger:
    """Compare the rows of all tables of the chunk store with each other."""
    ledger = Ledger()
    nodes = _audit_locations(reader, ledger)
    _audit_digests(reader, ledger)
    tally = _audit_edges(reader, ledger, nodes)
    _audit_counts(reader, ledger, tally)
    _audit_dead(reader, ledger)
    return ledger


def _audit_locations(reader: Reader, ledger: Ledger) -> NumberSet:
    """Note what is located, and what is alive in each pack; return the nodes' numbers."""
    live: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
    nodes = NumberSet()
    for key, page in scan_all(reader, Table.LOCATIONS):
        first = int.from_bytes(key, "big") * LOCATIONS_PER_PAGE
        for slot in range(LOCATIONS_PER_PAGE):
            location = decode_location(page, slot)
            if location is None:
                continue
            ledger.numbers.add(first + slot)
            ledger.chunk_count += 1
            if location.kind != Kind.BLOCK:
                nodes.add(first + slot)
                ledger.node_count += 1
            sums = live[location.pack_number]
            sums[0] += HEADER_SIZE + location.payload_size
            sums[1] += 1
    for key, value in scan_all(reader, Table.PACKS):
        pack_number, row = int.from_bytes(key, "big"), decode_pack(value)
        live_bytes, live_count = live.pop(pack_number, [0, 0])
        ledger.pack_count += 1
        if (row.live_bytes, row.live_count) != (live_bytes, live_count):
            ledger.accounts.append(Account(pack_number, row, live_bytes, live_count))
        if not live_count:
            ledger.empty_packs.append((pack_number, row.name))
    ledger.packless.update(live)
    return nodes


def _audit_digests(reader: Reader, ledger: Ledger) -> None:
    named = NumberSet()
    for digest, value in scan_all(reader, Table.CHUNKS):
        number = decode_chunk_number(value)
        if number not in ledger.numbers or not named.add(number):
            ledger.stale.append((Digest(digest), number))
    ledger.nameless = [number for number in _located(reader) if number not in named]


def _located(reader: Reader) -> Iterator[int]:
    for key, page in scan_all(reader, Table.LOCATIONS):
        first = int.from_bytes(key, "big") * LOCATIONS_PER_PAGE
        for slot in range(LOCATIONS_PER_PAGE):
            if page[slot * LOCATION_SIZE : (slot + 1) * LOCATION_SIZE] != _FREE:
                yield first + slot


def located_numbers(reader: Reader) -> "array[int]":
    """All chunk numbers that have a location, in order."""
    return array("Q", _located(reader))


def _audit_edges(reader: Reader, ledger: Ledger, nodes: NumberSet) -> ReferenceTally:
    tally = ReferenceTally()
    rows = NumberSet()
    for key, value in scan_all(reader, Table.NODES):
        number = int.from_bytes(key, "big")
        children = decode_node_row(value).children
        if number not in nodes:
            ledger.strays.append((Table.NODES, key))
            continue
        rows.add(number)
        tally.add(children)
        ledger.reference_count += len(children)
        ledger.dangling += [(number, child) for child in children if child not in ledger.numbers]
    for key, value in scan_all(reader, Table.HOLDS):
        number, digest = decode_hold(value)
        if find_numbers(reader, [Digest(digest)]).get(Digest(digest)) != number:
            ledger.strays.append((Table.HOLDS, key))
        tally.add((number,))
        ledger.reference_count += 1
    if ledger.node_count:
        ledger.rowless = [n for n in _located(reader) if n in nodes and n not in rows]
    return tally


def _audit_counts(reader: Reader, ledger: Ledger, tally: ReferenceTally) -> None:
    unseen = set(tally.pages)
    queued = NumberSet()
    for key, _ in scan_all(reader, Table.RECLAIM):
        number = int.from_bytes(key, "big")
        queued.add(number)
        if number not in ledger.numbers:
            ledger.strays.append((Table.RECLAIM, key))
    for key, value in scan_all(reader, Table.DAMAGED):
        number = int.from_bytes(key, "big")
        if number in ledger.numbers:
            ledger.damaged[number] = value.decode(errors="replace")
        else:
            ledger.strays.append((Table.DAMAGED, key))
    for key, value in scan_all(reader, Table.COUNTS):
        page_number = int.from_bytes(key, "big")
        unseen.discard(page_number)
        stored = array("I", value)
        counted = tally.pages.get(page_number) or array("I", bytes(4 * COUNTS_PER_PAGE))
        if stored != counted:
            ledger.drifted += _drifts(page_number, stored, counted)
        if 0 in counted:
            _note_unqueued(ledger, page_number, counted, queued)
    for page_number in unseen:
        empty = array("I", bytes(4 * COUNTS_PER_PAGE))
        ledger.drifted += _drifts(page_number, empty, tally.pages[page_number])


def _drifts(page_number: int, stored: "array[int]", counted: "array[int]") -> list[Drift]:
    first = page_number * COUNTS_PER_PAGE
    pairs = enumerate(zip(stored, counted, strict=True), first)
    return [Drift(number, old, new) for number, (old, new) in pairs if old != new]


def _note_unqueued(
    ledger: Ledger, page_number: int, counted: "array[int]", queued: NumberSet
) -> None:
    for number, count in enumerate(counted, page_number * COUNTS_PER_PAGE):
        if not count and number in ledger.numbers and number not in queued:
            ledger.unqueued.append(number)


def _audit_dead(reader: Reader, ledger: Ledger) -> None:
    packs = {int.from_bytes(key, "big") for key, _ in scan_all(reader, Table.PACKS)}
    before = DeadExtent(0, 0, 0, punched=False)
    for key, value in scan_all(reader, Table.DEAD):
        extent = decode_dead(key, value)
        overlaps = extent.pack_number == before.pack_number and extent.start < before.stop
        if extent.pack_number not in packs or extent.stop <= extent.start or overlaps:
            ledger.strays.append((Table.DEAD, key))
        before = extent


def digests_of(reader: Reader, numbers: NumberSet) -> dict[int, Digest]:
    """The digests that lead to *numbers*; reads every row of the index."""
    found = {}
    for digest, value in scan_all(reader, Table.CHUNKS):
        number = decode_chunk_number(value)
        if number in numbers:
            found[number] = Digest(digest)
    return found
