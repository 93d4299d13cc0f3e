"""Volumes as EC2 lists them, and the filters that look at such rows."""

from collections.abc import Callable, Mapping, Sequence

from ebsim.api.ec2 import ids
from ebsim.api.ec2.places import zone_id
from ebsim.api.ec2.shapes import tag_list
from ebsim.api.params import Answer
from ebsim.api.regions import zones_of
from ebsim.api.scalars import iso_text
from ebsim.catalog.volume import Volume
from ebsim.clock import to_datetime
from ebsim.engine.list_volumes import list_volumes, show_volume
from ebsim.engine.region import Region
from ebsim.engine.volume_status import is_in_use
from ebsim.units import whole_gib

_NO_OPERATOR = {"Managed": False}


def zone_of(region: Region, volume: Volume) -> str:
    """The availability zone that *volume* is in."""
    return volume.settings.zone or zones_of(region.name)[0]


def attachment_rows(volume: Volume) -> list[Answer]:
    """The volume's place in an instance, if it has one."""
    held = volume.attachment
    if held is None:
        return []
    return [
        {
            "VolumeId": volume.volume_id,
            "InstanceId": held.instance_id,
            "Device": held.device,
            "State": "attached",
            "AttachTime": to_datetime(held.attach_time_ns),
            "DeleteOnTermination": volume.settings.delete_on_termination,
        }
    ]


def gp2_iops(size_gib: int) -> int:
    """What a gp2 volume delivers: three operations a second for each GiB, within bounds."""
    return min(max(3 * size_gib, 100), 16_000)


def volume_row(region: Region, volume: Volume) -> Answer:
    """*volume* as DescribeVolumes gives it."""
    zone, speed = zone_of(region, volume), volume.settings.speed
    size_gib = whole_gib(volume.size_bytes)
    row: Answer = {
        "VolumeId": volume.volume_id,
        "Size": size_gib,
        "SnapshotId": volume.snapshot_id or "",
        "SourceVolumeId": volume.settings.source_volume_id,
        "AvailabilityZone": zone,
        "AvailabilityZoneId": zone_id(zone),
        "State": "in-use" if is_in_use(region, volume) else "available",
        "CreateTime": to_datetime(volume.create_time_ns),
        "Attachments": attachment_rows(volume),
        "Tags": tag_list(volume.tags),
        "VolumeType": speed.volume_type.value,
        "Iops": speed.iops,
        "Throughput": speed.throughput,
        "Encrypted": False,
        "FastRestored": volume.fast_restored,
        "VolumeInitializationRate": volume.initialization_rate,
        "MultiAttachEnabled": False,
        "VolumeArn": f"arn:aws:ec2:{region.name}:{volume.owner_id}:volume/{volume.volume_id}",
        "OwnerId": volume.owner_id,
        "Operator": _NO_OPERATOR,
    }
    if speed.volume_type.value == "gp2":
        row["Iops"] = gp2_iops(size_gib)
    return row


def _attached(name: str) -> Callable[[Answer], Sequence[str]]:
    return lambda row: [str(one[name]) for one in row["Attachments"]]


FIELDS: Mapping[str, Callable[[Answer], Sequence[str]]] = {
    "attachment.attach-time": lambda row: [
        iso_text(one["AttachTime"]) for one in row["Attachments"]
    ],
    "attachment.delete-on-termination": lambda row: [
        str(one["DeleteOnTermination"]).lower() for one in row["Attachments"]
    ],
    "attachment.device": _attached("Device"),
    "attachment.instance-id": _attached("InstanceId"),
    "attachment.status": _attached("State"),
    "availability-zone": lambda row: [row["AvailabilityZone"]],
    "availability-zone-id": lambda row: [row["AvailabilityZoneId"]],
    "create-time": lambda row: [iso_text(row["CreateTime"])],
    "encrypted": lambda _: ["false"],
    "fast-restored": lambda row: [str(bool(row.get("FastRestored"))).lower()],
    "multi-attach-enabled": lambda _: ["false"],
    "operator.managed": lambda _: ["false"],
    "operator.principal": lambda _: [],
    "size": lambda row: [str(row["Size"])],
    "snapshot-id": lambda row: [row["SnapshotId"]],
    "status": lambda row: [row["State"]],
    "volume-id": lambda row: [row["VolumeId"]],
    "volume-type": lambda row: [row["VolumeType"]],
}
"""What a filter of each name looks at.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVolumes.html
"""


def named_volumes(region: Region, names: Sequence[str] | None) -> list[Volume]:
    """The volumes of those ids, or all of the account's, by id.

    Raises:
        ApiError, VolumeNotFound: a name that is none.
    """
    if not names:
        return list_volumes(region)
    found = {ids.volume_id(name): show_volume(region, name) for name in names}
    return [found[name] for name in sorted(found)]
