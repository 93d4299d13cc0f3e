"""Checking snapshots, volumes and manifests against each other.

Each snapshot is looked at by itself: its rows, its manifest, its rows again.  If those
changed meanwhile, or a session is at work on the snapshot, that is no finding.
"""

from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from ebsim.catalog.direct_snapshot import find_direct, snapshot_of_puts
from ebsim.catalog.manifest import ManifestDamaged, read_manifest, snapshot_id_of
from ebsim.catalog.records import find_snapshot, find_volume, source_key
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.snapshot_index import (
    INDEX_TABLES,
    bin_rows,
    index_rows,
    snapshot_id_in,
    volume_id_in,
)
from ebsim.catalog.volume import Volume, decode_volume
from ebsim.chunkstore.chunk_index import find_numbers
from ebsim.chunkstore.ledger import scan_all
from ebsim.chunkstore.rows import Holder, decode_hold, decode_holder, hold_prefix
from ebsim.engine.check_report import FindingKind
from ebsim.engine.holds import reader_of, root_holder, volume_holder
from ebsim.engine.kept_records import VOLUMES, volume_ids
from ebsim.engine.kept_settings import kept_path, unsettled_rows
from ebsim.engine.recovery import interrupted_uploads
from ebsim.engine.region import Region
from ebsim.engine.volume_recovery import GONE_PREFIX, NEW_PREFIX
from ebsim.errors import UnsupportedFormat
from ebsim.ids import Digest, SnapshotId, VolumeId, is_whole_id
from ebsim.metadata.transactions import Reader, Table


class Mend(Enum):
    """What puts a fault right."""

    WRITE_MANIFEST = auto()  # from the rows
    RESTORE_ROWS = auto()  # from the manifest
    PUT_ROWS = auto()  # the index rows, from the snapshot's own
    HOLD_ROOT = auto()
    DROP_HOLDS = auto()
    DROP_ROW = auto()
    NOTHING = auto()


class CatalogFault(NamedTuple):
    """Something wrong with a snapshot, or with the row *key* of *table*."""

    kind: FindingKind
    subject: str
    what: str
    mend: Mend
    is_lost: bool = False
    table: Table = Table.SNAPSHOTS
    key: bytes = b""


class _Rows(NamedTuple):
    """What the metadata says of one snapshot at one moment."""

    snapshot: Snapshot | None
    volume: Volume | None
    indexed: bool
    root_number: int | None
    held_number: int | None
    is_busy: bool
    is_direct: bool


def check_catalog(region: Region) -> tuple[int, list[CatalogFault], list[str]]:
    """Return how many snapshots there are, what is wrong with them, and notes."""
    notes = []
    ids = set()
    for name in region.backend.names("snapshots"):
        snapshot_id = snapshot_id_of(name)
        if is_whole_id(snapshot_id, "snap") and name.endswith(".json"):
            ids.add(snapshot_id)
        else:
            notes.append(f"{name} is not a name that ebsim gives; it was left alone")
    rows = region.metadata.read(lambda reader: list(_keys(reader, Table.SNAPSHOTS)))
    ids.update(SnapshotId(key.decode()) for key in rows)
    faults: list[CatalogFault] = []
    for snapshot_id in sorted(ids):
        faults += snapshot_faults(region, snapshot_id)
    faults += region.metadata.read(_stray_index_rows)
    faults += _unheld_origins(region)
    faults += _unmatched_folders(region)
    faults += _stray_direct_rows(region)
    faults += _stray_holds(region)
    faults += _unkept_rows(region)
    uploads = region.metadata.read(interrupted_uploads)
    notes += [f"{volume} has an interrupted upload, {upload}" for volume, upload in uploads]
    return len(rows), faults, notes


def _keys(reader: Reader, table: Table) -> Iterator[bytes]:
    return (key for key, _ in scan_all(reader, table))


def snapshot_faults(region: Region, snapshot_id: SnapshotId) -> list[CatalogFault]:
    """What is wrong with one snapshot, as long as nobody is at work on it."""
    while True:
        before = region.metadata.read(lambda reader: _rows_of(reader, region, snapshot_id))
        if before.is_busy:
            return []
        try:
            manifest, complaint = read_manifest(region.backend, snapshot_id), ""
        except (ManifestDamaged, UnsupportedFormat) as error:
            manifest, complaint = None, str(error)
        except FileNotFoundError:
            continue
        if region.metadata.read(lambda reader: _rows_of(reader, region, snapshot_id)) == before:
            return list(_compare(snapshot_id, before, manifest, complaint))


def _rows_of(reader: Reader, region: Region, snapshot_id: SnapshotId) -> _Rows:
    snapshot = find_snapshot(reader, snapshot_id)
    notes = (key.decode().partition("/") for key in _keys(reader, Table.SESSIONS))
    is_busy = any(
        noted == snapshot_id and region.sessions.is_alive(session) for session, _, noted in notes
    )
    if snapshot is None:
        return _Rows(None, None, True, None, None, is_busy, is_direct=False)
    root_number = None
    if snapshot.root is not None:
        root_number = find_numbers(reader, [snapshot.root]).get(snapshot.root)
    (hold,) = reader.get_many(Table.HOLDS, [root_holder(snapshot_id).key()])
    return _Rows(
        snapshot,
        find_volume(reader, snapshot.volume_id),
        all(reader.get_many(table, [key]) != [None] for table, key in index_rows(snapshot)),
        root_number,
        decode_hold(hold)[0] if hold is not None else None,
        is_busy,
        find_direct(reader, snapshot_id) is not None,
    )


def _compare(
    snapshot_id: SnapshotId,
    rows: _Rows,
    manifest: tuple[Snapshot, Volume] | None,
    complaint: str,
) -> Iterator[CatalogFault]:
    snapshot = rows.snapshot
    if snapshot is None:
        if manifest is not None:
            what = "the metadata has no row for its manifest"
            yield CatalogFault(FindingKind.SNAPSHOT, snapshot_id, what, Mend.RESTORE_ROWS)
        elif "it is not there" not in complaint:
            yield CatalogFault(
                FindingKind.MANIFEST, snapshot_id, complaint, Mend.NOTHING, is_lost=True
            )
        return
    if snapshot.state is SnapshotState.ERROR:
        # It failed, is listed as such, and nothing is kept for it.
        yield from _unfound(snapshot_id, rows)
        return
    if snapshot.state is SnapshotState.PENDING and rows.is_direct:
        return  # it waits for blocks, or to be completed
    if snapshot.state is not SnapshotState.COMPLETED:
        what = f"it is {snapshot.state}, and no process is at work on it"
        yield CatalogFault(FindingKind.SNAPSHOT, snapshot_id, what, Mend.NOTHING)
        return
    yield from _compare_rows(snapshot_id, rows)
    if manifest is None:
        yield CatalogFault(FindingKind.MANIFEST, snapshot_id, complaint, Mend.WRITE_MANIFEST)
    elif manifest[0] != snapshot:
        what = "its manifest and its row do not say the same"
        yield CatalogFault(FindingKind.MANIFEST, snapshot_id, what, Mend.WRITE_MANIFEST)


def _unfound(snapshot_id: SnapshotId, rows: _Rows) -> Iterator[CatalogFault]:
    if not rows.indexed:
        what = "rows that find it are missing"
        yield CatalogFault(FindingKind.SNAPSHOT, snapshot_id, what, Mend.PUT_ROWS)


def _compare_rows(snapshot_id: SnapshotId, rows: _Rows) -> Iterator[CatalogFault]:
    if rows.volume is None:
        what = "its volume has no row"
        yield CatalogFault(FindingKind.SNAPSHOT, snapshot_id, what, Mend.RESTORE_ROWS)
    yield from _unfound(snapshot_id, rows)
    if rows.snapshot is not None and rows.snapshot.is_archived:
        return
    if rows.root_number is None:
        what = "the root of its block map is not in the store"
        yield CatalogFault(FindingKind.SNAPSHOT, snapshot_id, what, Mend.HOLD_ROOT, is_lost=True)
    elif rows.held_number != rows.root_number:
        what = "it does not hold its root"
        yield CatalogFault(FindingKind.SNAPSHOT, snapshot_id, what, Mend.HOLD_ROOT)


def _unheld_origins(region: Region) -> list[CatalogFault]:
    """Volumes that need blocks of the store and do not hold them."""

    def look(reader: Reader) -> list[CatalogFault]:
        faults = []
        for _, row in scan_all(reader, Table.VOLUMES):
            volume = decode_volume(row)
            if volume.origin is None:
                continue
            root = Digest(bytes.fromhex(volume.origin))
            number = find_numbers(reader, [root]).get(root)
            (hold,) = reader.get_many(Table.HOLDS, [volume_holder(volume.volume_id).key()])
            if number is None:
                what, mend = "the root of what it was made from is not in the store", Mend.NOTHING
            elif hold is None or decode_hold(hold)[0] != number:
                what, mend = "it does not hold what it was made from", Mend.HOLD_ROOT
            else:
                continue
            faults.append(CatalogFault(FindingKind.VOLUME, volume.volume_id, what, mend))
        return faults

    return region.metadata.read(look)


def _unmatched_folders(region: Region) -> list[CatalogFault]:
    """Volumes whose bytes are gone, and bytes whose volume is unknown: a rebuild knows it."""
    folders = region.path / VOLUMES
    wanted = region.metadata.read(_local_volumes)
    found = set(volume_ids(region.files, region.path))
    faults = []
    for volume_id in sorted(wanted ^ found):
        # Somebody may have made or removed it between the two looks.
        is_wanted = volume_id in region.metadata.read(_local_volumes)
        names = (volume_id, f"{NEW_PREFIX}{volume_id}", f"{GONE_PREFIX}{volume_id}")
        is_found = [region.files.status(folders / name) is not None for name in names]
        if is_wanted and not any(is_found):
            what = "its folder is not there"
        elif is_found[0] and not is_wanted:
            what = "its folder is there and no row; run 'ebsim store rebuild'"
        else:
            continue
        faults.append(CatalogFault(FindingKind.VOLUME, volume_id, what, Mend.NOTHING))
    return faults


def _local_volumes(reader: Reader) -> set[VolumeId]:
    volumes = (decode_volume(row) for _, row in scan_all(reader, Table.VOLUMES))
    return {one.volume_id for one in volumes if one.is_local and not one.is_deleted}


def _stray_index_rows(reader: Reader) -> list[CatalogFault]:
    """Index rows that lead to nothing, and volumes that their location does not lead to."""
    faults = [
        _stray(subject, f"a row of {table} leads to nothing that it is about", table, key)
        for table in INDEX_TABLES
        for key in _keys(reader, table)
        if (subject := _stray_subject(reader, table, key))
    ]
    wanted = {}
    for _, value in scan_all(reader, Table.VOLUMES):
        volume = decode_volume(value)
        faults += [
            _unindexed(volume.volume_id, "a row of the recycle bin is missing")
            for table, key in bin_rows(volume)
            if reader.get_many(table, [key]) == [None]
        ]
        if volume.location:
            wanted[source_key(volume.owner_id, volume.location)] = volume.volume_id
    for key, value in scan_all(reader, Table.VOLUMES_BY_SOURCE):
        if wanted.pop(key, None) != value.decode():
            what = "its location's row leads to no such volume"
            faults.append(_stray(value.decode(), what, Table.VOLUMES_BY_SOURCE, key))
    faults += [
        _unindexed(volume_id, "no row leads from its location to it")
        for volume_id in wanted.values()
    ]
    return faults


def _stray_subject(reader: Reader, table: Table, key: bytes) -> str:
    """What an index row claims to be about, if that has no such row."""
    volume_id = volume_id_in(key)
    if table in (Table.RECYCLE_BIN, Table.RECYCLE_BIN_BY_OWNER) and is_whole_id(volume_id, "vol"):
        volume = find_volume(reader, volume_id)
        return "" if volume and (table, key) in bin_rows(volume) else volume_id
    snapshot_id = snapshot_id_in(key)
    snapshot = find_snapshot(reader, snapshot_id)
    return "" if snapshot and (table, key) in index_rows(snapshot) else snapshot_id


def _unindexed(volume_id: VolumeId, what: str) -> CatalogFault:
    return CatalogFault(
        FindingKind.SNAPSHOT,
        volume_id,
        what,
        Mend.PUT_ROWS,
        table=Table.VOLUMES,
        key=volume_id.encode(),
    )


def _takes_puts(rows: _Rows) -> bool:
    """Whether what is kept of puts is there for a reason."""
    is_pending = rows.snapshot is not None and rows.snapshot.state is SnapshotState.PENDING
    return rows.is_busy or (is_pending and rows.is_direct)


def _stray_direct_rows(region: Region) -> list[CatalogFault]:
    """Rows about snapshots being written block by block that are over, or gone."""

    def find(reader: Reader) -> list[CatalogFault]:
        faults = []
        for table in (Table.DIRECT_SNAPSHOTS, Table.DIRECT_CHECKSUMS):
            known: dict[SnapshotId, bool] = {}
            for key in _keys(reader, table):
                snapshot_id = SnapshotId(key.decode(errors="replace").partition("/")[0])
                if snapshot_id not in known:
                    known[snapshot_id] = _takes_puts(_rows_of(reader, region, snapshot_id))
                if not known[snapshot_id]:
                    what = f"a row of {table} is about no snapshot that blocks can be put to"
                    faults.append(_stray(snapshot_id, what, table, key))
        return faults

    # Twice: a session may end between the look at the rows and the one at its file.
    return region.metadata.read(find) and region.metadata.read(find)


def _stray(subject: str, what: str, table: Table, key: bytes) -> CatalogFault:
    return CatalogFault(FindingKind.SNAPSHOT, subject, what, Mend.DROP_ROW, table=table, key=key)


def _stray_holds(region: Region) -> list[CatalogFault]:
    """Holds whose owner is gone, and those that a completed snapshot should have dropped."""
    faults = []
    for owner in region.metadata.read(_owners):
        # Twice: a session may end between the look at the rows and the one at its file.
        if not any(
            region.metadata.read(lambda reader: _may_hold(reader, region, owner))  # noqa: B023 (called at once)
            for _ in range(2)
        ):
            what = "it holds nodes that it has no use for"
            faults.append(CatalogFault(FindingKind.COUNT, owner, what, Mend.DROP_HOLDS))
    return faults


def _unkept_rows(region: Region) -> list[CatalogFault]:
    """Settings and rules whose files are not what their rows say; a repair writes them all."""
    names = region.files.file_names(region.path / "sessions")
    if any(region.sessions.is_alive(name) for name in names):
        # One may be between its transaction and the file.
        return []
    return [
        CatalogFault(
            FindingKind.MANIFEST,
            str(kept_path(region.path, table, key).relative_to(region.path)),
            "it is not what the metadata says",
            Mend.NOTHING,
        )
        for table, key in unsettled_rows(region)
    ]


def _owners(reader: Reader) -> list[str]:
    owners: list[str] = []
    start = b""
    while rows := reader.scan(Table.HOLDS, start, limit=1):
        owners.append(decode_holder(rows[0][0]).owner)
        start = hold_prefix(owners[-1]) + b"\xff" * 11
    return owners


def _may_hold(reader: Reader, region: Region, owner: str) -> bool:
    """Whether all of the owner's holds are there for a reason, or there are none."""
    prefix = hold_prefix(owner)
    if not reader.scan(Table.HOLDS, prefix, prefix + b"\xff" * 10, limit=1):
        return True
    if owner.startswith(reader_of("")):
        return region.sessions.is_alive(owner.removeprefix(reader_of("")))
    direct_id = snapshot_of_puts(owner)
    if direct_id is not None:
        return _takes_puts(_rows_of(reader, region, direct_id))
    if any(owner == upload for _, upload in interrupted_uploads(reader)):
        return True
    snapshot_id = SnapshotId(owner)
    if _rows_of(reader, region, snapshot_id).is_busy:
        return True
    volume = find_volume(reader, VolumeId(owner))
    holds = [
        decode_holder(key) for key, _ in reader.scan(Table.HOLDS, prefix, prefix + b"\xff" * 10,
                                                     limit=2)
    ]  # fmt: skip
    if volume is not None:
        return volume.origin is not None and holds == [volume_holder(volume.volume_id)]
    if region.files.status(region.path / VOLUMES / owner) is not None:
        return True  # a volume that has lost its row needs it all the more
    snapshot = find_snapshot(reader, snapshot_id)
    expected: list[Holder] = [root_holder(snapshot_id)]
    return snapshot is not None and not snapshot.is_archived and holds == expected
