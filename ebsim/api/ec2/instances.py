"""Instances, as far as attaching volumes and snapshotting several at once needs them.

An instance runs nothing.  The disks that an image would bring are not made: an image is a
name here, and the volumes are those of the block device mappings.
"""

from collections.abc import Callable, Mapping, Sequence

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.ec2 import ids
from ebsim.api.ec2.matching import matching
from ebsim.api.ec2.pages import page_of
from ebsim.api.ec2.places import zone_id
from ebsim.api.ec2.shapes import filters_in, refuse_ids_with_page, tag_list, tags_in
from ebsim.api.ec2.volumes import refuse_unsupported_kinds, token_use, volume_options, zone_named
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.api.regions import zones_of
from ebsim.api.scalars import iso_text
from ebsim.catalog.instance import Instance
from ebsim.clock import to_datetime
from ebsim.engine.instances import InstanceVolumes, show_instance
from ebsim.engine.modify_volume import set_delete_on_termination
from ebsim.engine.region import Region
from ebsim.engine.run_instances import (
    Disk,
    InstanceOptions,
    described_instances,
    run_instances,
    terminate_instance,
)
from ebsim.errors import InstanceNotFound

_RUNNING = {"Code": 16, "Name": "running"}
_PENDING = {"Code": 0, "Name": "pending"}
_SHUTTING_DOWN = {"Code": 32, "Name": "shutting-down"}
_TERMINATED = {"Code": 48, "Name": "terminated"}
_COUNT_MAX = 20
_DISK_SUPPORTED = (
    "DeviceName",
    "Ebs.DeleteOnTermination",
    "Ebs.Encrypted",
    "Ebs.Iops",
    "Ebs.SnapshotId",
    "Ebs.Throughput",
    "Ebs.VolumeInitializationRate",
    "Ebs.VolumeSize",
    "Ebs.VolumeType",
)


def live_instance(region: Region, instance_id: str) -> Instance:
    """The account's instance of that whole id, terminated ones aside.

    Raises:
        InstanceNotFound: there is none.
    """
    found = show_instance(region, instance_id).instance
    if found.instance_id != instance_id:
        raise InstanceNotFound(instance_id)
    return found


def zone_of_instance(region: Region, instance: Instance) -> str:
    """The availability zone that *instance* is in."""
    return instance.zone or zones_of(region.name)[0]


def run(call: Call, params: Params) -> Answer:
    """Make instances and their volumes."""
    count = params["MaxCount"]
    if not 1 <= params["MinCount"] <= count:
        raise ApiError(
            "InvalidParameterValue",
            f"Value ({params['MinCount']}) for parameter minCount is invalid. Expected: from 1 to "
            "maxCount.",
        )
    if count > _COUNT_MAX:
        raise ApiError(
            "InstanceLimitExceeded", f"Your quota allows for {_COUNT_MAX} instances in one call."
        )
    asked = params.get("Placement", {}).get("AvailabilityZone")
    zone = zone_named(call, asked) if asked else zones_of(call.region_name)[0]
    tags = _specified_tags(params)
    disks = [
        _disk(call, one, zone, tags["volume"]) for one in params.get("BlockDeviceMappings", ())
    ]
    options = InstanceOptions(
        disks=disks,
        zone=zone,
        image_id=params.get("ImageId", ""),
        instance_type=params.get("InstanceType", "m1.small"),
        tags=tags["instance"],
    )
    region = call.region
    made = run_instances(region, options, count=count, token_use=token_use(call, params))
    if not made:
        raise ApiError("InvalidInstanceID.NotFound", "What this request ran is gone")
    call.look_after([volume.volume_id for one in made for volume in one.volumes])
    rows = [{**_row(region, one), "State": _PENDING} for one in made]
    return _reservation(region, rows)


def _specified_tags(params: Params) -> dict[str, dict[str, str]]:
    """The tags for the instance and for its volumes."""
    listed: dict[str, list[Params]] = {"instance": [], "volume": []}
    for one in params.get("TagSpecifications", ()):
        if one.get("ResourceType") not in listed:
            raise ApiError(
                "InvalidParameterValue",
                f"'{one.get('ResourceType')}' is not a valid taggable resource type for this "
                "operation.",
            )
        listed[one["ResourceType"]] += one.get("Tags", [])
    return {kind: tags_in(tags) for kind, tags in listed.items()}


def _disk(call: Call, mapping: Params, zone: str, tags: dict[str, str]) -> Disk:
    ebs: Params = mapping.get("Ebs", {})
    device = mapping.get("DeviceName")
    if not device:
        raise ApiError("MissingParameter", "The request must contain the parameter deviceName")
    refuse_unsupported_kinds(ebs)
    named = {"VolumeSize": "Size"}
    asked = {named.get(name, name): value for name, value in ebs.items()}
    deletes = bool(ebs.get("DeleteOnTermination", True))
    return Disk(device, volume_options(call, asked, zone, tags, deletes=deletes))


def _reservation(region: Region, rows: Sequence[Answer]) -> Answer:
    first = str(rows[0]["InstanceId"])
    return {
        "ReservationId": f"r-{first.removeprefix('i-')}",
        "OwnerId": region.account_id,
        "Groups": [],
        "Instances": list(rows),
    }


def _row(region: Region, found: InstanceVolumes) -> Answer:
    """An instance as DescribeInstances gives it, as far as it is one."""
    instance = found.instance
    zone = zone_of_instance(region, instance)
    is_over = instance.terminate_time_ns is not None
    disks = [
        {
            "DeviceName": volume.attachment.device,
            "Ebs": {
                "VolumeId": volume.volume_id,
                "Status": "attached",
                "AttachTime": to_datetime(volume.attachment.attach_time_ns),
                "DeleteOnTermination": volume.settings.delete_on_termination,
            },
        }
        for volume in found.volumes
        if volume.attachment is not None
    ]
    return {
        "InstanceId": instance.instance_id,
        "ImageId": instance.image_id,
        "InstanceType": instance.instance_type or "m1.small",
        "State": _TERMINATED if is_over else _RUNNING,
        "LaunchTime": to_datetime(instance.create_time_ns).replace(microsecond=0),
        "Placement": {"AvailabilityZone": zone, "AvailabilityZoneId": zone_id(zone)},
        "RootDeviceType": "ebs",
        "RootDeviceName": disks[0]["DeviceName"] if disks else None,
        "BlockDeviceMappings": disks,
        "Tags": tag_list(instance.shown_tags),
        "AmiLaunchIndex": 0,
    }


_FIELDS: Mapping[str, Callable[[Answer], Sequence[str]]] = {
    "availability-zone": lambda row: [row["Placement"]["AvailabilityZone"]],
    "block-device-mapping.device-name": lambda row: [
        one["DeviceName"] for one in row["BlockDeviceMappings"]
    ],
    "block-device-mapping.volume-id": lambda row: [
        one["Ebs"]["VolumeId"] for one in row["BlockDeviceMappings"]
    ],
    "image-id": lambda row: [row["ImageId"]],
    "instance-id": lambda row: [row["InstanceId"]],
    "instance-state-code": lambda row: [str(row["State"]["Code"])],
    "instance-state-name": lambda row: [row["State"]["Name"]],
    "instance-type": lambda row: [row["InstanceType"]],
    "launch-time": lambda row: [iso_text(row["LaunchTime"])],
    "root-device-type": lambda row: [row["RootDeviceType"]],
}


def describe(call: Call, params: Params) -> Answer:
    """The account's instances, a reservation each."""
    refuse_ids_with_page(params, "InstanceIds")
    region = call.region
    shown = {str(one.instance.instance_id): one for one in described_instances(region)}
    names = params.get("InstanceIds")
    for name in names or ():
        if ids.instance_id(name) not in shown:
            raise InstanceNotFound(name)
    rows = [_row(region, one) for name, one in shown.items() if not names or name in names]
    chosen = matching(rows, filters_in(params), _FIELDS)
    page, token = page_of(chosen, params, lambda row: str(row["InstanceId"]))
    return {"Reservations": [_reservation(region, [row]) for row in page], "NextToken": token}


def terminate(call: Call, params: Params) -> Answer:
    """End instances; volumes that go with them are deleted."""
    region = call.region
    names = list(dict.fromkeys(ids.instance_id(name) for name in params["InstanceIds"]))
    shown = {str(one.instance.instance_id): one for one in described_instances(region)}
    for name in names:
        if name not in shown:
            raise InstanceNotFound(name)
    ended = []
    for name in names:
        was = _RUNNING if shown[name].instance.terminate_time_ns is None else _TERMINATED
        terminate_instance(region, name)
        call.look_after([volume.volume_id for volume in shown[name].volumes])
        now = _SHUTTING_DOWN if was is _RUNNING else _TERMINATED
        ended.append({"InstanceId": name, "CurrentState": now, "PreviousState": was})
    return {"TerminatingInstances": ended}


def modify_attribute(call: Call, params: Params) -> Answer:
    """Say which of an instance's volumes go with it."""
    region = call.region
    found = show_instance(region, ids.instance_id(params["InstanceId"]))
    at = {volume.attachment.device: volume for volume in found.volumes if volume.attachment}
    chosen = []
    for one in params.get("BlockDeviceMappings", ()):
        device, ebs = one.get("DeviceName"), one.get("Ebs", {})
        if device not in at or ebs.get("VolumeId") not in {None, at[device].volume_id}:
            raise ApiError(
                "InvalidInstanceAttributeValue",
                f"No device is currently mapped at {device}",
            )
        if "DeleteOnTermination" in ebs:
            chosen.append((at[device].volume_id, bool(ebs["DeleteOnTermination"])))
    if not chosen:
        raise ApiError("InvalidParameterCombination", "No attributes specified.")
    for name, is_deleted in chosen:
        set_delete_on_termination(region, name, is_deleted=is_deleted)
    return {}


ACTIONS = (
    action(
        "RunInstances",
        run,
        "ClientToken",
        "ImageId",
        "InstanceType",
        "MaxCount",
        "MinCount",
        "Placement.AvailabilityZone",
        "TagSpecifications",
        *(f"BlockDeviceMappings.{name}" for name in _DISK_SUPPORTED),
    ),
    action("DescribeInstances", describe, "InstanceIds", "Filters", "MaxResults", "NextToken"),
    action("TerminateInstances", terminate, "InstanceIds"),
    action(
        "ModifyInstanceAttribute",
        modify_attribute,
        "InstanceId",
        "BlockDeviceMappings.DeviceName",
        "BlockDeviceMappings.Ebs.DeleteOnTermination",
        "BlockDeviceMappings.Ebs.VolumeId",
    ),
)
