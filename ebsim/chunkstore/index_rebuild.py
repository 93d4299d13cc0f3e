"""Making the index anew from the packs, in metadata that holds nothing yet.

    1  every pack's records get chunk numbers in pack order, and locations; their digests go
       to bucket files by their first bits
    2  bucket by bucket, sorted, digests enter the index by rising key, which fills its
       pages; of several records of one digest the first that proves whole is taken
    3  (the engine walks the trees: edges, counts, what is reached)
    4  pack by pack, what was not reached becomes dead space

So memory does not grow with the store: a bucket of digests, and a bit and a counter a
chunk.  Only footers are read, and headers where a footer is damaged.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ebsim.backends.backend import Backend
from ebsim.chunkstore.chunk_index import (
    NEXT_CHUNK_NUMBER,
    NEXT_PACK_NUMBER,
    allocate_numbers,
    find_locations,
    find_packs,
    set_locations,
    set_packs,
)
from ebsim.chunkstore.chunk_reader import verified_chunk
from ebsim.chunkstore.dead_space import add_dead
from ebsim.chunkstore.node_commit import location_of
from ebsim.chunkstore.number_set import NumberSet
from ebsim.chunkstore.pack_format import HEADER_SIZE, PackDamaged, Record
from ebsim.chunkstore.pack_scan import read_pack
from ebsim.chunkstore.rows import (
    DeadExtent,
    Location,
    PackRow,
    decode_chunk_number,
    encode_chunk_number,
)
from ebsim.ids import DIGEST_SIZE, Digest
from ebsim.metadata.transactions import Metadata, Row, Table, Transaction
from ebsim.progress import Progress

_BUCKETS = 64
_ROWS_PER_STEP = 1 << 14
_BUCKET_BUFFER = 1 << 16
_ENTRY_SIZE = DIGEST_SIZE + len(encode_chunk_number(0))


class ScannedPack(NamedTuple):
    """A pack and the chunk numbers that its records got: *record_count* from *first_number* on."""

    pack_number: int
    name: str
    size_bytes: int
    first_number: int
    record_count: int
    complaint: str


class _Bucket:
    """Digests of one range and their chunk numbers, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._buffer = bytearray()

    def add(self, entry: bytes) -> None:
        self._buffer += entry
        if len(self._buffer) >= _BUCKET_BUFFER:
            self._write()

    def _write(self) -> None:
        with self._path.open("ab") as file:
            file.write(self._buffer)
        self._buffer.clear()

    def sorted_entries(self) -> list[bytes]:
        """Its entries in order; the file is gone afterwards."""
        self._write()
        data = self._path.read_bytes()
        self._path.unlink()
        return sorted(data[at : at + _ENTRY_SIZE] for at in range(0, len(data), _ENTRY_SIZE))


class IndexRebuild:
    """Makes an index in *metadata*, which is empty; *scratch* is a directory to work in."""

    def __init__(
        self, backend: Backend, metadata: Metadata, scratch: Path, progress: Progress
    ) -> None:
        self._backend = backend
        self._metadata = metadata
        self._progress = progress
        self._buckets = [_Bucket(scratch / f"bucket-{i:02x}") for i in range(_BUCKETS)]
        self.packs: list[ScannedPack] = []
        self.freed_count = 0

    def index_packs(self) -> None:
        """Steps 1 and 2."""
        names = sorted(n for n in self._backend.names("packs") if n.endswith(".pack"))
        sizes = (self._backend.size_bytes(name) for name in names)
        self._progress.begin("rebuild", sum(size or 0 for size in sizes))
        for name in names:
            self._add_pack(name)
        rows: list[Row] = []
        losers: list[int] = []
        for bucket in self._buckets:
            self._index_bucket(bucket.sorted_entries(), rows, losers)
            if len(rows) >= _ROWS_PER_STEP:
                self._write_index(rows, losers)
                rows, losers = [], []
        self._write_index(rows, losers)
        self._progress.end()

    def _add_pack(self, name: str) -> None:
        contents = read_pack(self._backend, name)
        records = contents.records

        def begin(txn: Transaction) -> tuple[int, int]:
            pack_number = allocate_numbers(txn, NEXT_PACK_NUMBER, 1)
            first = allocate_numbers(txn, NEXT_CHUNK_NUMBER, len(records)) if records else 0
            set_packs(txn, {pack_number: PackRow(contents.size_bytes, 0, 0, name)})
            places = (location_of(record, pack_number) for record in records)
            set_locations(txn, dict(enumerate(places, first)))
            return pack_number, first

        pack_number, first = self._metadata.run(begin)
        for number, record in enumerate(records, first):
            digest = record.digest
            entry = digest + encode_chunk_number(number)
            self._buckets[digest[0] * _BUCKETS >> 8].add(entry)
        self.packs.append(
            ScannedPack(
                pack_number, name, contents.size_bytes, first, len(records), contents.complaint
            )
        )
        self._progress.advance(contents.size_bytes)

    def _index_bucket(self, entries: Sequence[bytes], rows: list[Row], losers: list[int]) -> None:
        """Add the index's *rows* for *entries*, and the numbers that are not needed."""
        for key, group in groupby(entries, key=_digest_of):
            numbers = [decode_chunk_number(entry[DIGEST_SIZE:]) for entry in group]
            number = numbers[0]
            if len(numbers) > 1:
                number = self._first_whole(Digest(key), numbers)
                losers += [other for other in numbers if other != number]
            rows.append((key, encode_chunk_number(number)))

    def _write_index(self, rows: Sequence[Row], losers: Sequence[int]) -> None:
        def put(txn: Transaction) -> None:
            txn.put_many(Table.CHUNKS, rows)
            set_locations(txn, dict.fromkeys(losers))

        self._metadata.run(put)

    def _first_whole(self, digest: Digest, numbers: Sequence[int]) -> int:
        """The first of several records of one chunk that is undamaged, else the first."""
        return next((n for n in numbers if self._is_whole(digest, n)), numbers[0])

    def _is_whole(self, digest: Digest, number: int) -> bool:
        location = self._metadata.read(lambda reader: find_locations(reader, [number]))[number]
        rows = self._metadata.read(lambda reader: find_packs(reader, [location.pack_number]))
        size = HEADER_SIZE + location.payload_size
        raw = self._backend.read(rows[location.pack_number].name, location.offset, size)
        try:
            verified_chunk(digest, raw, location.offset)
        except PackDamaged:
            return False
        return True

    def settle(self, reached: NumberSet, *, may_free: bool) -> int:
        """Step 4; return how many chunks there are.

        Without *may_free* what was not reached stays as it is: something that led to it
        could not be read, and may yet be healed.
        """
        chunk_count = 0
        for pack in self.packs:
            records = read_pack(self._backend, pack.name).records
            chunk_count += self._metadata.run(
                lambda txn: self._settle_pack(txn, pack, records, reached, may_free=may_free)  # noqa: B023 (called at once)
            )
        return chunk_count

    def _settle_pack(
        self,
        txn: Transaction,
        pack: ScannedPack,
        records: Sequence[Record],
        reached: NumberSet,
        *,
        may_free: bool,
    ) -> int:
        numbers = range(pack.first_number, pack.first_number + pack.record_count)
        located = find_locations(txn, numbers)
        freed = [n for n in located if may_free and n not in reached]
        by_number = dict(zip(numbers, records, strict=True))
        live = [by_number[n] for n in sorted(located.keys() - set(freed))]
        txn.delete_many(Table.CHUNKS, sorted(by_number[n].digest for n in freed))
        set_locations(txn, dict.fromkeys(freed))
        self.freed_count += len(freed)
        row = PackRow(
            pack.size_bytes,
            sum(record.stop - record.offset for record in live),
            len(live),
            pack.name,
        )
        set_packs(txn, {pack.pack_number: row})
        if not pack.complaint:
            # Where the footer is lost, what lies between records may be one that is damaged.
            add_dead(txn, list(_gaps(pack.pack_number, live, records[-1].stop if records else 0)))
        return len(live)


class LostChunks:
    """Gives chunks that are referenced, and in no pack, a number and a place that is none.

    They lie in a pack without a row, as those of a pack that was lost do: reading them
    fails, and the next snapshot that meets their content stores it under that number.
    """

    def __init__(self) -> None:
        self._pack_number = 0
        self.numbers: dict[Digest, int] = {}

    def number_of(self, txn: Transaction, digest: Digest, kind: int) -> int:
        number = self.numbers.get(digest)
        if number is None:
            if not self._pack_number:
                self._pack_number = allocate_numbers(txn, NEXT_PACK_NUMBER, 1)
            number = self.numbers[digest] = allocate_numbers(txn, NEXT_CHUNK_NUMBER, 1)
            set_locations(txn, {number: Location(self._pack_number, 0, 0, kind, 0)})
            txn.put_many(Table.CHUNKS, [(digest, encode_chunk_number(number))])
        return number


def _digest_of(entry: bytes) -> bytes:
    return entry[:DIGEST_SIZE]


def _gaps(pack_number: int, live: Sequence[Record], stop: int) -> Iterator[DeadExtent]:
    """What lies between the *live* records of a pack whose records reach to *stop*."""
    position = 0
    for record in live:
        if record.offset > position:
            yield DeadExtent(pack_number, position, record.offset, punched=False)
        position = record.stop
    if position < stop:
        yield DeadExtent(pack_number, position, stop, punched=False)
