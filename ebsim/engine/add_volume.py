"""Putting a new volume's folder and row in place, whatever it is filled with.

    1  the folder, with state and record, under a name that says it is being made
    2  transaction   the volume's row; a hold on the block map that it needs
    3  the folder gets its name

A crash before 2 leaves a folder that recovery removes, one after it a volume whose folder
recovery renames.
"""

from collections.abc import Callable
from contextlib import suppress

from ebsim.catalog.records import put_volume
from ebsim.catalog.volume import Volume
from ebsim.engine.holds import take_hold, volume_holder
from ebsim.engine.kept_records import VOLUMES, write_record
from ebsim.engine.record_events import volume_created
from ebsim.engine.region import Region
from ebsim.engine.volume_recovery import NEW_PREFIX
from ebsim.errors import StorageUnavailable
from ebsim.ids import Digest
from ebsim.metadata.transactions import Transaction
from ebsim.volumes.volume_folder import VolumeFolder


def add_volume(
    region: Region,
    volume: Volume,
    fill: Callable[[VolumeFolder], None],
    check: Callable[[Transaction], None],
) -> None:
    """Make *volume*, its folder filled durably by *fill*.

    *check* is called in the transaction and raises what forbids it by then.
    """
    volumes = region.path / VOLUMES
    with region.session():
        region.files.make_directories(volumes)
        folder = VolumeFolder(region.files, volumes / f"{NEW_PREFIX}{volume.volume_id}")
        lock = folder.begin()
        try:
            _fill(folder, volume, fill)
            region.metadata.run(lambda txn: _register(txn, region, volume, check))
            region.files.rename(folder.path, volumes / volume.volume_id)
            region.files.sync_directory(volumes)
        finally:
            region.files.close(lock)


def _fill(folder: VolumeFolder, volume: Volume, fill: Callable[[VolumeFolder], None]) -> None:
    try:
        fill(folder)
        write_record(folder.files, folder.path, volume)
    except BaseException:
        # Recovery would do it too, only later: a copy that met a full disk takes much of it.
        with suppress(StorageUnavailable):
            folder.remove()
        raise


def _register(
    txn: Transaction, region: Region, volume: Volume, check: Callable[[Transaction], None]
) -> None:
    check(txn)
    put_volume(txn, volume)
    if volume.pooled_zone is None:
        volume_created(txn, region, volume)
    if volume.origin is not None:
        root = Digest(bytes.fromhex(volume.origin))
        take_hold(txn, volume_holder(volume.volume_id), root)
