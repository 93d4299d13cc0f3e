"""Everything that must be true of a store at rest, found out without the store's own checks.

The audit walks from the catalog down to every record, counts references anew and compares
them with the counts kept, reads every chunk, and looks for whatever nobody needs.  It shares
the row codecs with the store, and none of the code that keeps the rows in step.
"""

from array import array
from collections import Counter
from collections.abc import Iterator
from random import Random

from ebsim.catalog.event import decode_event
from ebsim.catalog.fast_restore import FastRestoreState, scan_fast_restores
from ebsim.catalog.manifest import manifest_name, read_manifest
from ebsim.catalog.records import find_volume
from ebsim.catalog.snapshot import Snapshot, SnapshotState, decode_snapshot
from ebsim.catalog.snapshot_index import INDEX_TABLES, bin_rows, index_rows
from ebsim.catalog.volume import decode_volume
from ebsim.chunkstore.pack_format import HEADER_SIZE
from ebsim.chunkstore.rows import (
    COUNTS_PER_PAGE,
    LOCATIONS_PER_PAGE,
    Location,
    NodeRow,
    PackRow,
    decode_chunk_number,
    decode_dead,
    decode_hold,
    decode_holder,
    decode_location,
    decode_node_row,
    decode_pack,
)
from ebsim.engine.archive_check import archive_faults
from ebsim.engine.kept_records import kept_volume
from ebsim.engine.kept_settings import KEPT_TABLES, kept_rows
from ebsim.engine.region import Region
from ebsim.errors import EbsimError
from ebsim.ids import Digest
from ebsim.metadata.transactions import Table

_ALL = 1 << 20


class StoreAudit:
    """One audit; ``complaints`` is empty for a store at rest in good health."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._rows = region.metadata.read(
            lambda reader: {table: reader.scan(table, limit=_ALL) for table in Table}
        )
        self.locations = dict(self._located())
        self.counts = dict(self._counted())
        self.nodes: dict[int, NodeRow] = {
            _number(key): decode_node_row(row) for key, row in self._rows[Table.NODES]
        }
        self.packs: dict[int, PackRow] = {
            _number(key): decode_pack(row) for key, row in self._rows[Table.PACKS]
        }
        self.digests = {
            decode_chunk_number(row): Digest(key) for key, row in self._rows[Table.CHUNKS]
        }
        self.snapshots = [decode_snapshot(row) for _, row in self._rows[Table.SNAPSHOTS]]
        self.volumes = [decode_volume(row) for _, row in self._rows[Table.VOLUMES]]
        self.direct = {key.decode() for key, _ in self._rows[Table.DIRECT_SNAPSHOTS]}
        self.holds = [
            (decode_holder(key), *decode_hold(row)) for key, row in self._rows[Table.HOLDS]
        ]

    def complaints(self) -> list[str]:
        return [
            *self._about_references(),
            *self._about_chunks(),
            *self._about_packs(),
            *self._about_snapshots(),
            *self._about_direct_snapshots(),
            *self._about_archives(),
            *self._about_volumes(),
            *self._about_events(),
            *self._about_kept_rows(),
            *self._about_pools(),
            *self._about_leftovers(),
        ]

    def _located(self) -> Iterator[tuple[int, Location]]:
        for key, page in self._rows[Table.LOCATIONS]:
            for slot in range(LOCATIONS_PER_PAGE):
                location = decode_location(page, slot)
                if location is not None:
                    yield _number(key) * LOCATIONS_PER_PAGE + slot, location

    def _counted(self) -> Iterator[tuple[int, int]]:
        for key, page in self._rows[Table.COUNTS]:
            for slot, count in enumerate(array("I", page)):
                if count:
                    yield _number(key) * COUNTS_PER_PAGE + slot, count

    def _about_references(self) -> Iterator[str]:
        expected: Counter[int] = Counter()
        for row in self.nodes.values():
            expected.update(row.children)
        expected.update(number for _, number, _ in self.holds)
        for number in sorted(expected.keys() | self.counts.keys()):
            found = self.counts.get(number, 0)
            if found != expected[number]:
                yield f"chunk {number} counts {found} references, has {expected[number]}"
            if number not in self.locations:
                yield f"chunk {number} is referenced and has no location"
        for number in self.locations.keys() - self.counts.keys():
            yield f"chunk {number} has a location, no reference, and is in no queue"
        for holder, number, digest in self.holds:
            if self.digests.get(number) != digest:
                yield f"{holder} holds chunk {number} as {digest.hex()[:8]}, which it is not"

    def _about_chunks(self) -> Iterator[str]:
        if self.digests.keys() != self.locations.keys():
            odd = sorted(self.digests.keys() ^ self.locations.keys())
            yield f"chunks {odd} have a digest or a location, not both"
        for number in self.nodes.keys() - self.locations.keys():
            yield f"node {number} has edges and no location"
        for number, location in self.locations.items():
            if location.kind and number not in self.nodes:
                yield f"node {number} has no edges"
        # All looked up at once: a transaction for each would take longer than the reading.
        digests = list(self.digests.values())
        for digest, found in zip(digests, self._region.chunks.find(digests), strict=True):
            if found is None:
                yield f"chunk {digest.hex()[:8]} is not found"
                continue
            try:
                self._region.chunks.read_found(found)
            except EbsimError as error:
                yield str(error)

    def _about_packs(self) -> Iterator[str]:
        live_bytes: Counter[int] = Counter()
        live_count: Counter[int] = Counter()
        for location in self.locations.values():
            live_bytes[location.pack_number] += HEADER_SIZE + location.payload_size
            live_count[location.pack_number] += 1
        for number, row in self.packs.items():
            if (row.live_bytes, row.live_count) != (live_bytes[number], live_count[number]):
                yield f"{row.name} accounts for {row.live_count} records, has {live_count[number]}"
            if not row.live_count:
                yield f"{row.name} has nothing live and is still there"
            if self._region.backend.size_bytes(row.name) != row.size_bytes:
                yield f"{row.name} is not {row.size_bytes} bytes long"
        for number in live_count.keys() - self.packs.keys():
            yield f"pack {number} has live records and no row"
        for key, value in self._rows[Table.DEAD]:
            extent = decode_dead(key, value)
            if extent.pack_number not in self.packs:
                yield f"{extent} is of a pack that is gone"
            yield from self._live_inside(extent.pack_number, extent.start, extent.stop)

    def _live_inside(self, pack_number: int, start: int, stop: int) -> Iterator[str]:
        for number, location in self.locations.items():
            end = location.offset + HEADER_SIZE + location.payload_size
            if location.pack_number == pack_number and location.offset < stop and end > start:
                yield f"chunk {number} lies in a dead extent of pack {pack_number}"

    def _about_snapshots(self) -> Iterator[str]:
        held = {(holder.owner, digest) for holder, _, digest in self.holds}
        for snapshot in self.snapshots:
            if snapshot.state is SnapshotState.ERROR and snapshot.state_message:
                continue  # it failed, is listed as such, and nothing is kept for it
            if snapshot.state is not SnapshotState.COMPLETED:
                if snapshot.snapshot_id not in self.direct:
                    yield f"{snapshot.snapshot_id} is {snapshot.state}"
            elif snapshot.is_archived and snapshot.snapshot_id in {who for who, _ in held}:
                yield f"{snapshot.snapshot_id} is archived, and holds nodes"
            elif not snapshot.is_archived and (snapshot.snapshot_id, snapshot.root) not in held:
                yield f"{snapshot.snapshot_id} does not hold its root"
            else:
                yield from self._about_manifest(snapshot)
        wanted = {row for snapshot in self.snapshots for row in index_rows(snapshot)}
        wanted |= {row for volume in self.volumes for row in bin_rows(volume)}
        for table in INDEX_TABLES:
            keys = {key for key, _ in self._rows[table]}
            expected = {key for of_table, key in wanted if of_table is table}
            if keys != expected:
                yield f"{table} has {sorted(keys - expected)}, lacks {sorted(expected - keys)}"

    def _about_direct_snapshots(self) -> Iterator[str]:
        pending = {s.snapshot_id for s in self.snapshots if s.state is SnapshotState.PENDING}
        for snapshot_id in self.direct - pending:
            yield f"{snapshot_id} is not pending, and blocks can be put to it"
        checksums = {
            (key[:-9].decode(), _number(key[-8:])) for key, _ in self._rows[Table.DIRECT_CHECKSUMS]
        }
        puts = {
            (holder.owner.removeprefix("puts-"), holder.place)
            for holder, _, _ in self.holds
            if holder.owner.startswith("puts-") and holder.level == 0
        }
        if checksums != puts:
            yield f"the puts {sorted(checksums ^ puts)} have a hold or a checksum, not both"

    def _about_archives(self) -> Iterator[str]:
        archives = {
            snapshot.snapshot_id: snapshot.archive
            for snapshot in self.snapshots
            if snapshot.archive is not None
        }
        for snapshot_id, archive in archives.items():
            for fault in archive_faults(self._region.backend, archive, 1.0, Random(0)):
                yield f"the archive of {snapshot_id}: {fault.where}: {fault.what}"
        expected = {name for archive in archives.values() for name in archive.pack_names()}
        folder = self._region.path / "archive"
        found = {f"archive/{path.name}" for path in folder.iterdir()} if folder.exists() else set()
        if found != expected:
            yield f"archive has {sorted(found - expected)}, lacks {sorted(expected - found)}"
        if self._rows[Table.ARCHIVES_DROPPED]:
            yield "archives wait to be deleted"

    def _about_volumes(self) -> Iterator[str]:
        held = {(holder.owner, digest.hex()) for holder, _, digest in self.holds}
        named = {snapshot.volume_id for snapshot in self.snapshots}
        kept = {volume.volume_id for volume in self.volumes if not volume.is_deleted}
        for volume in self.volumes:
            if volume.is_deleted and volume.volume_id not in named:
                yield f"{volume.volume_id} is deleted, and no snapshot names it"
            if volume.origin is not None and (volume.volume_id, volume.origin) not in held:
                yield f"{volume.volume_id} does not hold its origin"
            if not volume.is_local or volume.is_deleted:
                kept.discard(volume.volume_id)
                continue
            try:
                found = kept_volume(self._region.files, self._region.path, volume.volume_id)
            except EbsimError as error:
                yield str(error)
                continue
            if found != volume:
                yield f"the kept record of {volume.volume_id} is not what the catalog says"
        folder = self._region.path / "volumes"
        found_names = {path.name for path in folder.iterdir()} if folder.exists() else set()
        if found_names != kept:
            yield f"volumes/ has {sorted(found_names)}, the catalog {sorted(kept)}"

    def _about_events(self) -> Iterator[str]:
        numbers = [_number(key) for key, _ in self._rows[Table.EVENTS]]
        ids = {decode_event(row).event_id for _, row in self._rows[Table.EVENTS]}
        counter = dict(self._rows[Table.STORE]).get(b"event_sequence", b"")
        newest = int.from_bytes(counter, "little")
        # Only the oldest ever go.
        if numbers != list(range(newest - len(numbers) + 1, newest + 1)):
            yield f"events are numbered {numbers}, the last one being {newest}"
        if len(ids) != len(numbers):
            yield f"{len(numbers)} events have {len(ids)} ids"

    def _about_pools(self) -> Iterator[str]:
        records = self._region.metadata.read(lambda reader: list(scan_fast_restores(reader)))
        marked = {one.volume_id for one in self.volumes if one.pooled_zone is not None}
        for record in records:
            # One that is being emptied names volumes that are gone already.
            if record.state is not FastRestoreState.DISABLING and set(record.pool) - marked:
                yield f"the pool {record.pool} has volumes that there are not"
            marked -= set(record.pool)
        if marked:
            yield f"{sorted(marked)} are of a pool, and in none"

    def _about_kept_rows(self) -> Iterator[str]:
        rows = {(table, key, row) for table in KEPT_TABLES for key, row in self._rows[table]}
        kept, complaints = kept_rows(self._region.files, self._region.path)
        yield from complaints
        for table, key, _ in sorted(rows ^ set(kept)):
            yield f"row {key!r} of {table} is not in its file, or only there"

    def _about_manifest(self, snapshot: Snapshot) -> Iterator[str]:
        volume = self._region.metadata.read(lambda reader: find_volume(reader, snapshot.volume_id))
        try:
            written, of_volume = read_manifest(self._region.backend, snapshot.snapshot_id)
        except EbsimError as error:
            yield str(error)
            return
        if written != snapshot:
            yield f"the manifest of {snapshot.snapshot_id} is not what the catalog says"
        if volume is None or of_volume.volume_id != volume.volume_id:
            yield f"the manifest of {snapshot.snapshot_id} names another volume"

    def _about_leftovers(self) -> Iterator[str]:
        known = {row.name for row in self.packs.values()}
        manifests = {
            manifest_name(snapshot.snapshot_id)
            for snapshot in self.snapshots
            if snapshot.state is SnapshotState.COMPLETED
        }
        for folder, expected in (("packs", known), ("snapshots", manifests)):
            found = {f"{folder}/{name}" for name in self._names(folder)}
            if found != expected:
                yield f"{folder} has {sorted(found - expected)}, lacks {sorted(expected - found)}"
        sessions = self._names("sessions")
        if sessions or self._rows[Table.SESSIONS]:
            yield f"sessions are left: {sessions}, {self._rows[Table.SESSIONS]}"
        ids = {snapshot.snapshot_id for snapshot in self.snapshots} | self._interrupted()
        ids |= {f"puts-{snapshot_id}" for snapshot_id in self.direct}
        ids |= {volume.volume_id for volume in self.volumes if volume.origin is not None}
        for holder, number, _ in self.holds:
            if holder.owner not in ids:
                yield f"{holder.owner} holds chunk {number} and is gone"
        for table in (Table.RECLAIM, Table.DAMAGED):
            if self._rows[table]:
                yield f"{table} has {len(self._rows[table])} rows"

    def _names(self, folder: str) -> list[str]:
        return [path.name for path in (self._region.path / folder).iterdir()]

    def _interrupted(self) -> set[str]:
        prefix = b"interrupted/"
        return {row.decode() for key, row in self._rows[Table.STORE] if key.startswith(prefix)}


def complaints_about(region: Region) -> list[str]:
    """What is wrong with a store that nobody is using."""
    return list(StoreAudit(region).complaints())


def _number(key: bytes) -> int:
    return int.from_bytes(key, "big")
