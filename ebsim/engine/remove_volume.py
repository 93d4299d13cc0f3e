"""Removing a volume: certain after one transaction, its room given back at once.

    1  the folder renamed, so that nobody opens it any more
    2  transaction   the row gone, or marked while snapshots name it; the hold dropped
    3  the folder removed, the reclaim queue emptied

A crash before 2 leaves a whole volume whose folder recovery renames back, one after it a
folder that recovery removes.

Where a rule of the recycle bin matches, one transaction marks the row instead, and the
volume's record is kept again: it stays whole, and nobody finds it any more.
"""

from collections.abc import Callable
from dataclasses import replace

from ebsim.catalog.bin_stay import BinStay
from ebsim.catalog.records import find_volume, put_volume
from ebsim.catalog.records import remove_volume as remove_row
from ebsim.catalog.volume import Volume
from ebsim.chunkstore.sessions import Session
from ebsim.engine.bin_stays import stay_of_volume
from ebsim.engine.holds import drop_holds
from ebsim.engine.idle_volume import idle_volume
from ebsim.engine.kept_records import VOLUMES, write_current_record
from ebsim.engine.open_volume import let_initializer_go, local_volume
from ebsim.engine.record_events import volume_deleted
from ebsim.engine.recovery import claim_interrupted_upload, let_go_of_claimed, recover
from ebsim.engine.region import Region
from ebsim.engine.volume_recovery import GONE_PREFIX, NEW_PREFIX
from ebsim.errors import Conflict, StorageFull, VolumeInUse
from ebsim.ids import SnapshotId, VolumeId
from ebsim.metadata.transactions import Reader, Transaction
from ebsim.volumes.volume_folder import VolumeFolder


def remove_volume(region: Region, name: str) -> Volume:
    """Remove a local volume and its bytes; its snapshots stay.  Return what it was.

    What is returned says so if the recycle bin keeps it.  Works on a full disk.  Cost:
    proportional to what is freed.

    Raises:
        VolumeNotFound: there is none.
        InvalidRequest: it is a source, whose bytes are elsewhere.
        VolumeInUse: it is attached, a process has it open, or a snapshot of it is being taken.
    """
    volume = local_volume(region, name)
    _refuse_attached(volume)
    let_initializer_go(region, volume.volume_id)

    def stay(reader: Reader, current: Volume, now_ns: int) -> BinStay | None:
        # On a full disk the work is begun a second time.
        return current.bin_stay or stay_of_volume(reader, current, now_ns)

    return region.reserve.use_if_full(lambda: _remove(region, volume, stay))


def purge_volume_from_bin(region: Region, volume: Volume) -> None:
    """Remove a volume for good if its time in the recycle bin is over.

    Raises:
        VolumeInUse: somebody restores it at this moment.
    """

    def stay(reader: Reader, current: Volume, now_ns: int) -> BinStay | None:
        del reader
        is_over = current.bin_stay is not None and current.bin_stay.is_over_at(now_ns)
        return None if is_over else current.bin_stay

    region.reserve.use_if_full(lambda: _remove(region, volume, stay))


def discard_pooled(region: Region, volume: Volume) -> None:
    """Remove a volume that fast restore has kept for nobody.

    Raises:
        VolumeInUse: it is being loaded, or taken, at this moment.
    """

    def stay(reader: Reader, current: Volume, now_ns: int) -> BinStay | None:
        del reader, now_ns
        if current.pooled_zone is None:
            raise VolumeInUse(f"{current.volume_id} was taken meanwhile. Nothing was changed.")
        return None

    region.reserve.use_if_full(lambda: _remove(region, volume, stay))


def _refuse_attached(volume: Volume) -> None:
    attachment = volume.attachment
    if attachment is not None:
        raise VolumeInUse(
            f"{volume.volume_id} is attached to {attachment.instance_id} as {attachment.device}. "
            f"Nothing was changed. Detach it first: ebsim volume detach {volume.volume_id}"
        )


def _remove(
    region: Region,
    volume: Volume,
    stay_of: Callable[[Reader, Volume, int], BinStay | None],
) -> Volume:
    """Remove *volume*, unless *stay_of*, given it as it is and the time, has it stay."""
    recover(region)
    folder = VolumeFolder(region.files, region.path / VOLUMES / volume.volume_id)
    if _has_no_folder(region, volume.volume_id):
        # Lost, or removed by a first attempt that met a full disk afterwards.
        with region.session() as session:
            _forget(region, session, volume)
            region.reclaimer().run()
        return volume

    def keep(txn: Transaction) -> Volume | None:
        current = find_volume(txn, volume.volume_id)
        if current is None or current.is_deleted:
            return None
        _refuse_attached(current)
        stay = stay_of(txn, current, region.clock.now_ns())
        if stay is None:
            return None
        kept = replace(current, bin_stay=stay)
        put_volume(txn, kept)
        if current.bin_stay is None:
            volume_deleted(txn, region, current)
        return kept

    # Refused before there is a session: it would be left as after a crash.
    with idle_volume(folder), region.session() as session:
        kept = region.metadata.run(keep)
        if kept is not None:
            write_current_record(region, kept.volume_id)
            return kept
        _remove_folder(region, session, volume, folder)
        region.reclaimer().run()
    return volume


def _has_no_folder(region: Region, volume_id: VolumeId) -> bool:
    """Whether the volume's folder is lost.

    Raises:
        VolumeInUse: it is not, and somebody is about to give it its name, or has just taken
            that away.  Without the row it would stay for ever.
    """
    volumes = region.path / VOLUMES
    # In the order of its life, and its name once more: recovery may have given that back.
    names = (f"{NEW_PREFIX}{volume_id}", volume_id, f"{GONE_PREFIX}{volume_id}", volume_id)
    found = next((n for n in names if region.files.status(volumes / n) is not None), None)
    if found not in (None, volume_id):
        raise VolumeInUse(
            f"{volume_id} is being made or removed at this moment. Nothing was changed. Try again."
        )
    return found is None


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
        if current.bin_stay is None and current.pooled_zone is None:
            volume_deleted(txn, region, current)
        # No snapshot will ever go on from what one that broke off had stored.
        return claim_interrupted_upload(txn, session.session_id, volume.volume_id)

    claimed = region.metadata.run(forget)
    if claimed is not None:
        let_go_of_claimed(region, session.session_id, claimed)
