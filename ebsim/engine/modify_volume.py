"""Changing a volume's size, type and speed, and what EBS remembers of that.

The volume's own state grows first (``resize_volume.py``); one transaction then notes all of
the change.  A crash between leaves a volume that is larger and has its old settings.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyVolume.html
"""

from dataclasses import replace

from ebsim.catalog.records import get_volume, put_volume
from ebsim.catalog.volume import Volume
from ebsim.catalog.volume_settings import VolumeModification, VolumeSpeed
from ebsim.engine.change_volume import change_volume
from ebsim.engine.kept_records import write_current_record
from ebsim.engine.record_events import volume_modified
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.resize_volume import check_growth, grow
from ebsim.errors import ModificationRateExceeded
from ebsim.metadata.transactions import Reader, Transaction
from ebsim.units import GIB, whole_gib

MODIFICATIONS_PER_DAY = 4
_DAY_NS = 24 * 60 * 60 * 10**9


def modify_volume(
    region: Region, name: str, *, size_gib: int, speed: VolumeSpeed
) -> tuple[Volume, VolumeModification]:
    """Give a local volume that size and speed, at once; return it, and the change.

    Raises:
        VolumeNotFound: there is no such volume.
        UnsupportedParameter: it is larger than that.
        InvalidRequest: it is a source, or the size is none that a volume can have.
        ModificationRateExceeded: it was modified four times within a day.
        Conflict: a snapshot of it is being taken.
    """
    volume, size_bytes = check_growth(region, name, size_gib)
    recover(region)
    started_ns = region.clock.now_ns()

    def noted(reader: Reader) -> tuple[Volume, VolumeModification]:
        old = get_volume(reader, region.account_id, volume.volume_id)
        recent = [
            one
            for one in old.settings.modifications
            if one.start_time_ns > region.clock.now_ns() - _DAY_NS
        ]
        if len(recent) >= MODIFICATIONS_PER_DAY:
            raise ModificationRateExceeded(old.volume_id, recent[0].start_time_ns + _DAY_NS)
        change = VolumeModification(
            start_time_ns=started_ns,
            end_time_ns=region.clock.now_ns(),
            original_size_gib=whole_gib(volume.size_bytes),
            original_speed=old.settings.speed,
            target_size_gib=size_gib,
            target_speed=speed,
        )
        # The last one is shown however old it is.
        kept = (recent or list(old.settings.modifications[-1:])) + [change]
        settings = replace(old.settings, speed=speed, modifications=tuple(kept))
        grown = max(old.size_bytes, size_bytes)
        return replace(old, size_bytes=grown, settings=settings), change

    def note(txn: Transaction) -> tuple[Volume, VolumeModification]:
        modified, change = noted(txn)
        put_volume(txn, modified)
        volume_modified(txn, region, modified, "optimizing")
        volume_modified(txn, region, modified, "completed")
        return modified, change

    # What is refused is refused before the volume grows.
    region.metadata.read(noted)
    with region.session():
        if size_gib * GIB > volume.size_bytes:
            grow(region, volume.volume_id, size_bytes)
        modified, change = region.metadata.run(note)
        write_current_record(region, volume.volume_id)
    return modified, change


def set_auto_enable_io(region: Region, name: str, *, is_enabled: bool) -> Volume:
    """Say whether a volume that was found damaged is to be used all the same."""

    def changed(reader: Reader) -> Volume:
        old = get_volume(reader, region.account_id, name)
        return replace(old, settings=replace(old.settings, auto_enable_io=is_enabled))

    return change_volume(region, changed)


def set_delete_on_termination(region: Region, name: str, *, is_deleted: bool) -> Volume:
    """Say whether a volume goes with the instance that it is attached to."""

    def changed(reader: Reader) -> Volume:
        old = get_volume(reader, region.account_id, name)
        return replace(old, settings=replace(old.settings, delete_on_termination=is_deleted))

    return change_volume(region, changed)
