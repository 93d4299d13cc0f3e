"""Instances: names for groups of volumes, as a machine has them attached.

An instance runs nothing.  It says which volumes belong together, so that they can be
snapshotted at one instant: the volume attached first is the boot volume, the others are
data volumes.  A volume stays attached when the process that serves it ends, as a stopped
machine keeps its disks, until it is detached.

The row changes first and the kept record after it (``kept_records.py``); recovery writes
the records that a crash left behind.

Source:
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AttachVolume.html
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceSpecification.html
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from ebsim.catalog.instance import Instance
from ebsim.catalog.records import (
    get_instance,
    get_volume,
    put_instance,
    remove_instance,
    scan_instances,
    volumes_attached_to,
)
from ebsim.catalog.volume import Attachment, Volume
from ebsim.engine.change_volume import change_volume
from ebsim.engine.kept_records import forget_instance, keep_instance
from ebsim.engine.open_volume import local_volume
from ebsim.engine.record_events import volume_attached, volume_detached
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.errors import Conflict, InvalidRequest, VolumeInUse
from ebsim.ids import InstanceId, is_id_prefix, new_instance_id
from ebsim.metadata.transactions import Reader, Transaction

NAME_LENGTH_MAX = 255
_DEVICE = re.compile(r"/dev/(sd|xvd|vd|hd)[a-z]{1,2}[0-9]{0,2}")


@dataclass(frozen=True, slots=True)
class InstanceVolumes:
    """An instance and its volumes, the boot volume first."""

    instance: Instance
    volumes: Sequence[Volume]


def create_instance(region: Region, name: str) -> Instance:
    """Make an instance that has no volumes yet.

    Raises:
        InvalidRequest: the name cannot be one.
        Conflict: the account has an instance of that name.
    """
    _check_name(name)
    recover(region)
    made = Instance(new_instance_id(region.random), region.account_id, name, region.clock.now_ns())

    def check(reader: Reader) -> None:
        for other in scan_instances(reader, region.account_id):
            if other.name == name:
                raise Conflict(
                    f"{other.instance_id} has the name '{name}'. No instance was made. "
                    "Take another name."
                )

    def register(txn: Transaction) -> None:
        check(txn)
        put_instance(txn, made)

    # What cannot be is refused before anything is written, a session's file included.
    region.metadata.read(check)
    with region.session():
        region.metadata.run(register)
        keep_instance(region, made)
    return made


def list_instances(region: Region) -> list[InstanceVolumes]:
    """The account's instances by id, each with its volumes."""

    def look(reader: Reader) -> list[InstanceVolumes]:
        return [
            InstanceVolumes(instance, volumes_attached_to(reader, instance))
            for instance in scan_instances(reader, region.account_id)
        ]

    return region.metadata.read(look)


def show_instance(region: Region, name: str) -> InstanceVolumes:
    """The instance of that name, id, or beginning of an id, and its volumes."""
    return region.metadata.read(lambda reader: _find(reader, region, name))


def delete_instance(region: Region, name: str) -> InstanceId:
    """Remove an instance, whose volumes must have been detached; return its id.

    Raises:
        InstanceNotFound: there is none.
        Conflict: volumes are attached to it; nothing was changed.
    """
    recover(region)

    def removable(reader: Reader) -> InstanceId:
        found = _find(reader, region, name)
        if found.volumes:
            raise Conflict(
                f"{found.instance.instance_id} has {found.volumes[0].volume_id} attached, "
                f"{len(found.volumes)} in all. Nothing was changed. Detach them first: "
                f"ebsim volume detach {found.volumes[0].volume_id}"
            )
        return found.instance.instance_id

    def remove(txn: Transaction) -> InstanceId:
        instance_id = removable(txn)
        remove_instance(txn, instance_id)
        return instance_id

    region.metadata.read(removable)
    with region.session():
        removed = region.metadata.run(remove)
        forget_instance(region, removed)
    return removed


def attach_to_instance(
    region: Region, volume_name: str, instance_name: str, device: str
) -> Volume:
    """Give a volume its place in an instance.  Harmless where it has that place already.

    Raises:
        VolumeNotFound, InstanceNotFound: there is none.
        VolumeInUse: it is attached elsewhere.
        Conflict: the instance has another volume at *device*.
        InvalidRequest: *device* is no name of a disk.
    """
    if _DEVICE.fullmatch(device) is None:
        raise InvalidRequest(
            f"'{device}' is not the name of a disk. Nothing was changed. Write /dev/sdf, say."
        )
    local_volume(region, volume_name)
    recover(region)

    def attached(reader: Reader) -> Volume:
        volume = get_volume(reader, region.account_id, volume_name)
        found = _find(reader, region, instance_name)
        place = found.instance.instance_id, device
        held = volume.attachment
        if held is not None and (held.instance_id, held.device) == place:
            return volume
        if held is not None:
            raise VolumeInUse(
                f"{volume.volume_id} is attached to {held.instance_id} as {held.device}. Nothing "
                f"was changed. Detach it first: ebsim volume detach {volume.volume_id}"
            )
        _refuse_taken(found, device)
        return replace(volume, attachment=Attachment(*place, _next_time(region, found)))

    return change_volume(region, attached, partial(_report_place, region))


def detach_from_instance(region: Region, volume_name: str) -> Volume:
    """Take a volume out of its instance, if it is in one."""
    recover(region)

    def detached(reader: Reader) -> Volume:
        volume = get_volume(reader, region.account_id, volume_name)
        settings = replace(volume.settings, delete_on_termination=False)
        return replace(volume, attachment=None, settings=settings)

    return change_volume(region, detached, partial(_report_place, region))


def volumes_of_instance(
    region: Region, name: str, *, exclude_boot: bool, exclude_data: Sequence[str]
) -> list[Volume]:
    """The volumes of an instance, the boot volume first, without those that are excluded.

    Raises:
        InstanceNotFound: there is none.
        InvalidRequest: an excluded volume is not one of its data volumes, or nothing is left.
    """

    def look(reader: Reader) -> list[Volume]:
        found = _find(reader, region, name)
        excluded = {
            get_volume(reader, region.account_id, volume).volume_id for volume in exclude_data
        }
        data = {volume.volume_id for volume in found.volumes[1:]}
        for volume_id in sorted(excluded - data):
            raise InvalidRequest(
                f"{volume_id} is not a data volume of {found.instance.instance_id}. Nothing was "
                "changed. The boot volume is excluded by --exclude-boot-volume."
            )
        volumes = found.volumes[1:] if exclude_boot else found.volumes
        left = [volume for volume in volumes if volume.volume_id not in excluded]
        if not left:
            raise InvalidRequest(
                f"{found.instance.instance_id} has no volumes"
                f"{' but those excluded' if found.volumes else ''}. Nothing was changed."
            )
        return left

    return region.metadata.read(look)


def _find(reader: Reader, region: Region, name: str) -> InstanceVolumes:
    instance = get_instance(reader, region.account_id, name)
    return InstanceVolumes(instance, volumes_attached_to(reader, instance))


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= NAME_LENGTH_MAX or not name.isprintable():
        raise InvalidRequest(
            f"an instance's name has 1 to {NAME_LENGTH_MAX} printable characters. "
            "No instance was made."
        )
    if is_id_prefix(name, "i"):
        raise InvalidRequest(
            f"'{name}' looks like the id of an instance. No instance was made. Take another name."
        )


def _refuse_taken(found: InstanceVolumes, device: str) -> None:
    for other in found.volumes:
        if other.attachment is not None and other.attachment.device == device:
            raise Conflict(
                f"{found.instance.instance_id} has {other.volume_id} as {device}. Nothing was "
                "changed. Give another --device."
            )


def _next_time(region: Region, found: InstanceVolumes) -> int:
    """Now, and later than the instance's volumes: their order says which boots."""
    last = found.volumes[-1].attachment if found.volumes else None
    return max(region.clock.now_ns(), last.attach_time_ns + 1 if last else 0)


def _report_place(region: Region, txn: Transaction, before: Volume | None, volume: Volume) -> None:
    if before is not None and before.attachment != volume.attachment:
        report = volume_detached if volume.attachment is None else volume_attached
        report(txn, region, volume)
