"""Healing: finding a damaged chunk's bytes somewhere else, and writing them anew.

Where they are looked for, the nearest first; whatever is found is proved by its digest:

1. any record of the chunk, in any pack: its own, where only the header is hit, or one
   that was stored twice
2. for a node, its row of edges, the digests of its children and, where a leaf's
   generations are wanted, leaves that share blocks with it
3. for a block, the file or device that it was read from
4. the other regions of the home
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack

from ebsim.blockmap.geometry import GEOMETRY
from ebsim.blockmap.node_format import Inner, Leaf, decode_node, encode_node
from ebsim.catalog.records import find_volume
from ebsim.catalog.snapshot import decode_snapshot
from ebsim.chunkstore.chunk_index import find_locations, find_node_rows
from ebsim.chunkstore.ledger import digests_of, scan_all
from ebsim.chunkstore.number_set import NumberSet
from ebsim.chunkstore.pack_format import HEADER_SIZE, Kind, Record
from ebsim.chunkstore.pack_scan import read_pack
from ebsim.chunkstore.record_moves import NewRecord, write_records_anew
from ebsim.chunkstore.rows import Location, NodeRow, decode_node_row
from ebsim.chunkstore.sessions import Session
from ebsim.content.compression import LEVEL_DEFAULT, CodecError, decode, encode
from ebsim.content.digest import block_digest, node_digest
from ebsim.engine.blast_radius import children_of
from ebsim.engine.home import region_names, region_path
from ebsim.engine.region import Region, open_region
from ebsim.errors import EbsimError, IntegrityError
from ebsim.ids import Digest, VolumeId
from ebsim.metadata.lmdb_environment import DATA_FILE
from ebsim.metadata.transactions import Reader, Table
from ebsim.sources.open_source import open_source
from ebsim.sources.source import Source

Buffer = bytes | bytearray | memoryview
_LEAVES_ALIKE_MAX = 4

BlockPlace = tuple[VolumeId, int, int]
"""Where a block was read: the volume, the block's index, the size of its blocks."""


def heal_chunks(
    region: Region,
    session: Session,
    numbers: Iterable[int],
    sources: Mapping[int, Sequence[BlockPlace]],
) -> list[int]:
    """Write the chunks of *numbers* anew from wherever they can be had; return which were."""
    with ExitStack() as opened:
        healer = _Healer(region, set(numbers), sources, opened)
        return write_records_anew(region.backend, region.metadata, session, healer.found())


class _Healer:
    """Looks for the bytes of some chunks."""

    def __init__(
        self,
        region: Region,
        numbers: set[int],
        sources: Mapping[int, Sequence[BlockPlace]],
        opened: ExitStack,
    ) -> None:
        self._region = region
        self._sources = sources
        self._opened = opened
        self._disks: dict[VolumeId, Source | None] = {}
        self._regions: list[Region] | None = None
        wanted = NumberSet(numbers)
        self._digests = region.metadata.read(lambda reader: digests_of(reader, wanted))
        self._old = region.metadata.read(lambda reader: find_locations(reader, numbers))

    def found(self) -> Iterator[NewRecord]:
        """Yield a new record for each chunk whose bytes are found."""
        left = {digest: number for number, digest in self._digests.items() if number in self._old}
        for digest, chunk in self._in_packs(set(left)):
            number = left.pop(digest, None)
            if number is not None:
                yield _new_record(number, self._old[number], digest, chunk)
        for digest, number in left.items():
            kind = self._old[number].kind
            elsewhere = self._blocks_at if kind == Kind.BLOCK else self._nodes_from_rows
            for chunk in (*elsewhere(number), *self._in_regions(digest)):
                if _digest_of(kind, chunk) == digest:
                    yield _new_record(number, self._old[number], digest, chunk)
                    break

    def _in_packs(self, wanted: set[Digest]) -> Iterator[tuple[Digest, Buffer]]:
        for name in sorted(self._region.backend.names("packs")):
            try:
                records = read_pack(self._region.backend, name).records
                for record in records:
                    if record.digest in wanted:
                        chunk = self._salvaged(name, record)
                        if chunk is not None:
                            yield record.digest, chunk
            except FileNotFoundError:
                continue

    def _salvaged(self, name: str, record: Record) -> Buffer | None:
        """The chunk of *record* whatever its header looks like, if the payload is whole."""
        start = record.offset + HEADER_SIZE
        payload = self._region.backend.read(name, start, record.payload_size)
        try:
            chunk = decode(record.codec, payload, record.chunk_size)
        except CodecError:
            return None
        return chunk if _digest_of(record.kind, chunk) == record.digest else None

    def _nodes_from_rows(self, number: int) -> Iterator[Buffer]:
        """Yield what the node may have been, by its row."""
        (row,) = self._region.metadata.read(lambda reader: find_node_rows(reader, [number]))
        if row is None:
            return
        children = NumberSet(row.children)
        digests = self._region.metadata.read(lambda reader: digests_of(reader, children))
        if all(child in digests for child in row.children):
            joined = b"".join(digests[child] for child in row.children)
            yield from self._candidates(number, row, joined)

    def _candidates(self, number: int, row: NodeRow, digests: bytes) -> Iterator[Buffer]:
        bitmap = int.from_bytes(row.bitmap, "little")
        if row.kind == Kind.LEAF:
            # The row lacks the generations.  A leaf has its parent's, and its own
            # snapshot's where blocks changed: so try each beside those of leaves alike.
            own = children_of(row)
            for known in ({}, *self._generations_alike(number, own)):
                for generation in self._region.metadata.read(_generations):
                    each = [known.get(slot, generation) for slot in own]
                    yield encode_node(Leaf(bitmap, digests, struct.pack(f"<{len(each)}Q", *each)))
            return
        for level in range(1, GEOMETRY.level_max + 1):
            if not bitmap >> GEOMETRY.slots_at(level):
                yield encode_node(Inner(level, bitmap, digests))

    def _generations_alike(
        self, number: int, own: Mapping[int, int]
    ) -> Iterator[Mapping[int, int]]:
        """Yield the generations by slot of blocks that leaves like leaf *number* share with it."""
        alike = self._region.metadata.read(lambda reader: _leaves_alike(reader, number, own))
        wanted = NumberSet(alike)
        digests = self._region.metadata.read(lambda reader: digests_of(reader, wanted))
        for other in alike:
            try:
                leaf = decode_node(bytes(self._region.chunks.read(digests[other])))
            except IntegrityError:
                continue
            if isinstance(leaf, Leaf):
                entries = leaf.entries()
                yield {slot: entries[slot][1] for slot in alike[other] if slot in entries}

    def _blocks_at(self, number: int) -> Iterator[Buffer]:
        """Yield what the places hold now at which the block was once read."""
        for volume_id, block_index, block_size in self._sources.get(number, ()):
            disk = self._disk(volume_id)
            if disk is None:
                continue
            block = bytearray(block_size)
            try:
                disk.read_into(memoryview(block), block_index * block_size)
            except EbsimError:
                continue
            yield block

    def _disk(self, volume_id: VolumeId) -> Source | None:
        if volume_id not in self._disks:
            volume = self._region.metadata.read(lambda reader: find_volume(reader, volume_id))
            disk = None
            if volume is not None and volume.location:
                try:
                    disk = open_source(volume.location)
                except EbsimError:
                    # It is gone or unreadable: one place fewer to look at.
                    disk = None
                else:
                    self._opened.callback(disk.close)
            self._disks[volume_id] = disk
        return self._disks[volume_id]

    def _in_regions(self, digest: Digest) -> Iterator[Buffer]:
        if self._regions is None:
            self._regions = list(self._open_others())
        for other in self._regions:
            try:
                chunk = other.chunks.read(digest)
            except EbsimError:
                continue
            yield chunk

    def _open_others(self) -> Iterator[Region]:
        home = self._region.home
        for name in region_names(home):
            path = region_path(home, name)
            if name == self._region.name or not (path / "metadata" / DATA_FILE).exists():
                continue
            try:
                other = open_region(home, name, self._region.account_id, create=False)
            except EbsimError:
                continue
            self._opened.callback(other.close)
            yield other


def _generations(reader: Reader) -> list[int]:
    return sorted(
        {decode_snapshot(row).generation for _, row in scan_all(reader, Table.SNAPSHOTS)}
    )


def _leaves_alike(reader: Reader, number: int, own: Mapping[int, int]) -> dict[int, list[int]]:
    """The leaves that share most blocks in the same slots, and which slots those are."""
    shared: dict[int, list[int]] = {}
    for key, value in scan_all(reader, Table.NODES):
        row = decode_node_row(value)
        other = int.from_bytes(key, "big")
        if row.kind == Kind.LEAF and other != number:
            slots = [slot for slot, child in children_of(row).items() if own.get(slot) == child]
            if slots:
                shared[other] = slots
    best = sorted(shared, key=lambda other: -len(shared[other]))[:_LEAVES_ALIKE_MAX]
    return {other: shared[other] for other in best}


def _digest_of(kind: int, chunk: Buffer) -> Digest:
    return block_digest(chunk) if kind == Kind.BLOCK else node_digest(chunk)


def _new_record(number: int, old: Location, digest: Digest, chunk: Buffer) -> NewRecord:
    codec, payload = encode(chunk, LEVEL_DEFAULT)
    record = Record(digest, 0, len(payload), len(chunk), old.kind, codec)
    return NewRecord(number, old, record, payload)
