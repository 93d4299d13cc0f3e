"""Putting snapshots, volumes, manifests and their index rows right."""

from ebsim.backends.backend import Backend
from ebsim.catalog.manifest import (
    ManifestDamaged,
    decode_manifest,
    encode_manifest,
    manifest_name,
    read_manifest,
)
from ebsim.catalog.records import find_snapshot, find_volume, put_snapshot, put_volume
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.volume import Volume
from ebsim.engine.check_catalog import CatalogFault, Mend, check_catalog
from ebsim.engine.check_report import FindingKind
from ebsim.engine.holds import drop_all_holds, root_holder, take_hold, volume_holder
from ebsim.engine.kept_settings import kept_path, settle_kept_rows
from ebsim.engine.recovery import write_current_manifest
from ebsim.engine.region import Region
from ebsim.errors import ChunkMissing, IntegrityError, UnsupportedFormat
from ebsim.ids import Digest, SnapshotId, VolumeId
from ebsim.metadata.transactions import Table, Transaction


def repair_catalog(region: Region) -> list[str]:
    """Mend what can be; return what was done, a sentence each.

    Snapshots come back from their manifests first; only what is still wrong then is
    looked at, since an index row or a hold may have been theirs.
    """
    done = [
        f"{kept_path(region.path, table, key).relative_to(region.path)}: it was written again "
        "from the metadata"
        for table, key in settle_kept_rows(region)
    ]
    for stage in ((Mend.RESTORE_ROWS,), tuple(Mend)):
        _, faults, _ = check_catalog(region)
        for fault in faults:
            outcome = _mend(region, fault) if fault.mend in stage else ""
            if outcome:
                done.append(f"{fault.subject}: {outcome}")
    return done


def _mend(region: Region, fault: CatalogFault) -> str:
    snapshot_id = SnapshotId(fault.subject)
    if fault.mend is Mend.NOTHING:
        # A manifest that cannot be read may be all that is left of a snapshot.
        return _restore_rows(region, snapshot_id)
    if fault.mend is Mend.WRITE_MANIFEST:
        write_current_manifest(region, snapshot_id)
        return "its manifest was written again from the metadata"
    if fault.mend is Mend.DROP_ROW:
        region.metadata.run(lambda txn: txn.delete_many(fault.table, [fault.key]))
        return f"a row of {fault.table} was dropped"
    if fault.mend is Mend.PUT_ROWS:
        region.metadata.run(lambda txn: _put_again(txn, fault))
        return "its index rows were written again"
    if fault.mend is Mend.DROP_HOLDS:
        found = region.metadata.read(lambda reader: find_snapshot(reader, snapshot_id))
        if found is None and region.backend.size_bytes(manifest_name(snapshot_id)) is not None:
            return ""
        keep = root_holder(snapshot_id) if found is not None and not found.is_archived else None
        drop_all_holds(region, fault.subject, keep=keep)
        return "its holds were dropped"
    if fault.mend is Mend.HOLD_ROOT and fault.kind is FindingKind.VOLUME:
        return _hold_origin(region, VolumeId(fault.subject))
    if fault.mend is Mend.HOLD_ROOT:
        return _hold_root(region, snapshot_id)
    return _restore_rows(region, snapshot_id)


def _put_again(txn: Transaction, fault: CatalogFault) -> None:
    if fault.table is Table.VOLUMES:
        volume = find_volume(txn, VolumeId(fault.subject))
        if volume is not None:
            put_volume(txn, volume)
        return
    snapshot = find_snapshot(txn, SnapshotId(fault.subject))
    if snapshot is not None:
        put_snapshot(txn, snapshot)


def _hold_root(region: Region, snapshot_id: SnapshotId) -> str:
    def hold(txn: Transaction) -> bool:
        snapshot = find_snapshot(txn, snapshot_id)
        if snapshot is None or snapshot.root is None:
            return False
        try:
            take_hold(txn, root_holder(snapshot_id), snapshot.root)
        except ChunkMissing:
            return False
        return True

    return "it holds its root again" if region.metadata.run(hold) else ""


def _hold_origin(region: Region, volume_id: VolumeId) -> str:
    def hold(txn: Transaction) -> bool:
        volume = find_volume(txn, volume_id)
        if volume is None or volume.origin is None:
            return False
        try:
            take_hold(txn, volume_holder(volume_id), Digest(bytes.fromhex(volume.origin)))
        except ChunkMissing:
            return False
        return True

    return "it holds what it was made from again" if region.metadata.run(hold) else ""


def _restore_rows(region: Region, snapshot_id: SnapshotId) -> str:
    """Bring a snapshot's rows back from its manifest."""
    found = readable_manifest(region.backend, snapshot_id)
    if found is None:
        return ""
    snapshot, volume = found

    def restore(txn: Transaction) -> str:
        if find_volume(txn, volume.volume_id) is None:
            put_volume(txn, volume)
        if find_snapshot(txn, snapshot_id) is not None:
            return "its volume was restored from its manifest"
        (hold,) = txn.get_many(Table.HOLDS, [root_holder(snapshot_id).key()])
        if snapshot.root is not None and hold is None:
            try:
                take_hold(txn, root_holder(snapshot_id), snapshot.root)
            except ChunkMissing:
                return ""
        put_snapshot(txn, snapshot)
        return "it was restored from its manifest"

    return region.metadata.run(restore)


def readable_manifest(backend: Backend, snapshot_id: SnapshotId) -> tuple[Snapshot, Volume] | None:
    """What a manifest says, a single flipped bit in it undone; written again if there was."""
    try:
        return read_manifest(backend, snapshot_id)
    except UnsupportedFormat:
        return None
    except (IntegrityError, FileNotFoundError):
        name = manifest_name(snapshot_id)
    size = backend.size_bytes(name)
    if size is None:
        return None
    found = _unflipped(name, backend.read(name, 0, size))
    if found is not None:
        backend.put(name, encode_manifest(*found))
    return found


def _unflipped(name: str, data: bytes) -> tuple[Snapshot, Volume] | None:
    """The manifest that *data* was before one of its bits flipped.

    A manifest is short enough to try each bit, and its checksum is a cryptographic hash:
    what passes it is what was written.
    """
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            try:
                return decode_manifest(name, bytes(flipped))
            except (ManifestDamaged, UnsupportedFormat):
                continue
    return None
