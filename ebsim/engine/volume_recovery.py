"""Volumes' folders that a process left half made or half removed, and sizes not noted yet.

    folder        the volume's row         what becomes of the folder
    .new-VOL      there                    renamed to VOL
    .new-VOL      not there                removed: it was never acknowledged
    .gone-VOL     there                    renamed to VOL: nothing was removed yet
    .gone-VOL     not there                removed
    VOL           there or not             left alone

A folder whose lock somebody holds is somebody's work, and left alone.
"""

from contextlib import suppress
from os.path import samestat

from ebsim.catalog.records import find_volume
from ebsim.engine.kept_records import VOLUMES, settle_kept_records, volume_ids
from ebsim.engine.region import Region
from ebsim.engine.volume_size import note_size
from ebsim.errors import MetadataCorrupt, UnsupportedFormat, VolumeNotFound
from ebsim.ids import VolumeId, is_whole_id
from ebsim.volumes.volume_folder import VolumeFolder

NEW_PREFIX = ".new-"
GONE_PREFIX = ".gone-"


def settle_volumes(region: Region) -> None:
    """Bring every folder, size and kept record to a state that lasts.

    May be done by several processes at once.
    """
    volumes = region.path / VOLUMES
    for name in region.files.folder_names(volumes):
        volume_id = unsettled_volume(name)
        if volume_id is not None:
            _settle(region, VolumeFolder(region.files, volumes / name), volume_id)
    _settle_sizes(region)
    settle_kept_records(region)


def unsettled_volume(name: str) -> VolumeId | None:
    """The volume that is being made or removed in a folder of this *name*."""
    for prefix in (NEW_PREFIX, GONE_PREFIX):
        if name.startswith(prefix) and is_whole_id(name.removeprefix(prefix), "vol"):
            return VolumeId(name.removeprefix(prefix))
    return None


def _settle_sizes(region: Region) -> None:
    """Let the catalog say how large the volumes are that were grown.

    A size that a state has is durable, so it may be noted while somebody has the volume open.
    """
    for volume_id in volume_ids(region.files, region.path):
        volume = region.metadata.read(lambda reader: find_volume(reader, volume_id))  # noqa: B023 (called at once)
        if volume is None or volume.is_deleted:
            continue
        try:
            state = VolumeFolder(region.files, region.path / VOLUMES / volume_id).load()
        except (MetadataCorrupt, UnsupportedFormat):
            # Whoever opens it is told, and so is whoever checks the store.
            continue
        if state.size_bytes > volume.size_bytes:
            with suppress(VolumeNotFound):
                note_size(region, volume_id, state.size_bytes)


def _settle(region: Region, folder: VolumeFolder, volume_id: VolumeId) -> None:
    lock = _claim(folder)
    if lock is None:
        return
    try:
        volume = region.metadata.read(lambda reader: find_volume(reader, volume_id))
        if volume is None or volume.is_deleted:
            folder.remove()
        else:
            settled = folder.path.with_name(volume_id)
            region.files.rename(folder.path, settled)
            region.files.sync_directory(settled.parent)
    finally:
        region.files.close(lock)


def _claim(folder: VolumeFolder) -> int | None:
    """The lock of a folder that nobody works on; ``None`` of one that somebody does, or did."""
    files = folder.files
    try:
        descriptor = files.open_to_write(folder.lock)
    except FileNotFoundError:
        # It may lack one: the lock is the first file made in it, and the last one removed.
        try:
            descriptor = files.create(folder.lock)
        except (FileExistsError, FileNotFoundError):
            return None
    if files.lock(descriptor, wait=False):
        named = files.status(folder.lock)
        if named is not None and samestat(named, files.status_of(descriptor)):
            return descriptor
    files.close(descriptor)
    return None
