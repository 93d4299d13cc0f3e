"""Removing a volume: certain after one transaction, its room given back at once.

    1  the folder renamed, so that nobody opens it any more
    2  transaction   the row gone, or marked while snapshots name it; the hold dropped
    3  the folder removed, the reclaim queue emptied

A crash before 2 leaves a whole volume whose folder recovery renames back, one after it a
folder that recovery removes.
"""

from ebsim.catalog.records import find_volume
from ebsim.catalog.records import remove_volume as remove_row
from ebsim.catalog.volume import Volume
from ebsim.chunkstore.sessions import Session
from ebsim.engine.holds import drop_holds
from ebsim.engine.idle_volume import idle_volume
from ebsim.engine.kept_records import VOLUMES
from ebsim.engine.open_volume import local_volume
from ebsim.engine.record_events import volume_deleted
from ebsim.engine.recovery import claim_interrupted_upload, let_go_of_claimed, recover
from ebsim.engine.region import Region
from ebsim.engine.volume_recovery import GONE_PREFIX
from ebsim.errors import Conflict, StorageFull, VolumeInUse
from ebsim.ids import SnapshotId
from ebsim.metadata.transactions import Reader, Transaction
from ebsim.volumes.volume_folder import VolumeFolder


def remove_volume(region: Region, name: str) -> Volume:
    """Remove a local volume and its bytes; its snapshots stay.  Return what it was.

    Works on a full disk.  Cost: proportional to what is freed.

    Raises:
        VolumeNotFound: there is none.
        InvalidRequest: it is a source, whose bytes are elsewhere.
        VolumeInUse: it is attached, a process has it open, or a snapshot of it is being taken.
    """
    volume = local_volume(region, name)
    _refuse_attached(volume)
    region.reserve.use_if_full(lambda: _remove(region, volume))
    return volume


def _refuse_attached(volume: Volume) -> None:
    attachment = volume.attachment
    if attachment is not None:
        raise VolumeInUse(
            f"{volume.volume_id} is attached to {attachment.instance_id} as {attachment.device}. "
            f"Nothing was changed. Detach it first: ebsim volume detach {volume.volume_id}"
        )


def _remove(region: Region, volume: Volume) -> None:
    recover(region)
    folder = VolumeFolder(region.files, region.path / VOLUMES / volume.volume_id)
    if region.files.status(folder.path) is None:
        # Lost, or removed by a first attempt that met a full disk afterwards.
        with region.session() as session:
            _forget(region, session, volume)
            region.reclaimer().run()
        return
    # Refused before there is a session: it would be left as after a crash.
    with idle_volume(folder), region.session() as session:
        _remove_folder(region, session, volume, folder)
        region.reclaimer().run()


def _remove_folder(region: Region, session: Session, volume: Volume, folder: VolumeFolder) -> None:
    gone = VolumeFolder(region.files, folder.path.with_name(f"{GONE_PREFIX}{volume.volume_id}"))
    _rename(folder, gone)
    try:
        _forget(region, session, volume)
    except (Conflict, StorageFull):
        _rename(gone, folder)
        raise
    gone.remove()


def _rename(folder: VolumeFolder, target: VolumeFolder) -> None:
    folder.files.rename(folder.path, target.path)
    folder.files.sync_directory(target.path.parent)


def _forget(region: Region, session: Session, volume: Volume) -> None:
    """Take the volume out of the catalog, and let go of all that is held for it."""

    def still_there(reader: Reader) -> Volume | None:
        current = find_volume(reader, volume.volume_id)
        if current is None or current.is_deleted:
            return None
        _refuse_attached(current)
        return current

    def forget(txn: Transaction) -> SnapshotId | None:
        current = still_there(txn)
        if current is None:
            return None
        remove_row(txn, current)
        drop_holds(txn, volume.volume_id)
        volume_deleted(txn, region, current)
        # No snapshot will ever go on from what one that broke off had stored.
        return claim_interrupted_upload(txn, session.session_id, volume.volume_id)

    claimed = region.metadata.run(forget)
    if claimed is not None:
        let_go_of_claimed(region, session.session_id, claimed)
