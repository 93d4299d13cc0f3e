"""Volumes and instances as ``--output json`` prints them, and as rows of a table.

Names and shapes are those of the AWS command line; what EBS does not have goes under
names of ours, after Amazon's.

Source:
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Volume.html
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_VolumeStatusItem.html
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_VolumeModification.html
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ebsim.catalog.volume import Volume
from ebsim.cli.amazon_shapes import Document, tag_list
from ebsim.cli.output import Column
from ebsim.clock import to_iso8601
from ebsim.engine.instances import InstanceVolumes
from ebsim.engine.volume_status import VolumeStatus
from ebsim.errors import EbsimError, IntegrityError
from ebsim.units import format_size, whole_gib

VOLUME_COLUMNS = (
    Column("volume"),
    Column("created"),
    Column("state"),
    Column("size", is_number=True),
    Column("block", is_number=True),
    Column("present", is_number=True),
    Column("dirty", is_number=True),
    Column("attached"),
    Column("source"),
)

STATUS_COLUMNS = (
    Column("volume"),
    Column("status"),
    Column("initialization"),
    Column("loaded", is_number=True),
    Column("seconds left", is_number=True),
    Column("failure"),
)

INSTANCE_COLUMNS = (
    Column("instance"),
    Column("created"),
    Column("volumes"),
    Column("name"),
)


@dataclass(frozen=True, slots=True)
class SeenVolume:
    """A volume and what could be learned of it.

    Attributes:
        status: ``None`` for a source, which has none, and where *failure* says why not.
    """

    volume: Volume
    status: VolumeStatus | None = None
    failure: EbsimError | None = None

    @property
    def state(self) -> str:
        """Amazon's word; ``""`` for a source, of which it says nothing."""
        if self.status is not None:
            return self.status.state
        if self.failure is None:
            return "available" if self.volume.is_local else ""
        # Whoever has it open does not answer; but damage is damage.
        return "error" if isinstance(self.failure, IntegrityError) else "in-use"


def volume_document(seen: SeenVolume) -> Document:
    """The volume in the shape of EC2's ``Volume``, as far as it has what that tells."""
    volume = seen.status.volume if seen.status is not None else seen.volume
    document: Document = {
        "VolumeId": volume.volume_id,
        "CreateTime": to_iso8601(volume.create_time_ns),
        "Size": whole_gib(volume.size_bytes),
        "OwnerId": volume.owner_id,
        "SizeBytes": volume.size_bytes,
        "BlockSize": volume.block_size,
    }
    if not volume.is_local:
        return document | {"SourceLocation": volume.location}
    document |= {
        "State": seen.state,
        "SnapshotId": volume.snapshot_id or "",
        "Encrypted": False,
        "FastRestored": volume.fast_restored,
        "Attachments": _attachments(volume),
        "Tags": tag_list(volume.tags),
    }
    if volume.initialization_rate is not None:
        document["VolumeInitializationRate"] = volume.initialization_rate
    if seen.status is not None:
        document |= _status_members(seen.status)
    return document


def _attachments(volume: Volume) -> list[Document]:
    attachment = volume.attachment
    if attachment is None:
        return []
    return [
        {
            "VolumeId": volume.volume_id,
            "InstanceId": attachment.instance_id,
            "Device": attachment.device,
            "State": "attached",
            "AttachTime": to_iso8601(attachment.attach_time_ns),
            "DeleteOnTermination": False,
        }
    ]


def _status_members(status: VolumeStatus) -> Document:
    """What EBS does not tell."""
    members: Document = {
        "PresentBytes": status.present_bytes,
        "DirtyBytes": status.dirty_bytes,
        "AllocatedBytes": status.allocated_bytes,
        "StandsAlone": status.stands_alone,
    }
    if status.pid is not None:
        members["OpenedBy"] = {
            "ProcessId": status.pid,
            "Purpose": status.purpose,
            "Uris": list(status.uris),
        }
    return members


def volume_row(seen: SeenVolume) -> list[str]:
    """The volume under :data:`VOLUME_COLUMNS`."""
    volume = seen.status.volume if seen.status is not None else seen.volume
    return [
        volume.volume_id,
        to_iso8601(volume.create_time_ns),
        seen.state,
        format_size(volume.size_bytes),
        format_size(volume.block_size),
        f"{seen.status.present_percent}%" if seen.status is not None else "",
        format_size(seen.status.dirty_bytes) if seen.status is not None else "",
        attached_to(seen),
        volume.snapshot_id or volume.location,
    ]


def attached_to(seen: SeenVolume) -> str:
    """Where a volume is attached: its place in an instance, and where it is served."""
    attachment = seen.volume.attachment
    places = [f"{attachment.instance_id}:{attachment.device}"] if attachment is not None else []
    if seen.status is not None and seen.status.pid is not None:
        places += seen.status.uris or [f"process {seen.status.pid} ({seen.status.purpose})"]
    return " ".join(places)


def volume_fields(seen: SeenVolume) -> Mapping[str, str]:
    """Everything about the volume, a line for each."""
    headers = (column.header for column in VOLUME_COLUMNS)
    fields = dict(zip(headers, volume_row(seen), strict=True))
    if seen.volume.is_local:
        fields["from"] = fields.pop("source")
        fields["tags"] = ", ".join(f"{key}={text}" for key, text in seen.volume.tags.items())
        if seen.volume.initialization_rate is not None:
            fields["loading rate"] = f"{seen.volume.initialization_rate} MiB/s"
    status = seen.status
    if status is not None:
        fields |= {
            "present": f"{format_size(status.present_bytes)}, {status.present_percent}%",
            "on disk": format_size(status.allocated_bytes),
            "loaded": f"{status.loaded_percent}%",
            "loading": status.hydration,
            "stands alone": "yes" if status.stands_alone else "no",
        }
        if status.failure:
            fields["failure"] = status.failure
    return {**fields, "owner": seen.volume.owner_id}


def status_document(seen: SeenVolume) -> Document:
    """The volume in the shape of EC2's ``VolumeStatusItem``."""
    document: Document = {
        "VolumeId": seen.volume.volume_id,
        "VolumeStatus": {
            "Status": _health(seen),
            "Details": [
                {"Name": "io-enabled", "Status": _checked(seen)},
                {"Name": "initialization-state", "Status": _initialization(seen)},
            ],
        },
        "Actions": [],
        "Events": [],
        "AttachmentStatuses": [],
    }
    attachment = seen.volume.attachment
    if attachment is not None:
        document["AttachmentStatuses"] = [
            {"IoPerformance": "not-applicable", "InstanceId": attachment.instance_id}
        ]
    status = seen.status
    if status is not None and seen.volume.snapshot_id is not None:
        details: Document = {"InitializationType": "default", "Progress": status.loaded_percent}
        if status.mib_per_second or seen.volume.initialization_rate:
            details["InitializationType"] = "provisioned-rate"
        if status.seconds_left is not None:
            details["EstimatedTimeToCompleteInSeconds"] = round(status.seconds_left)
        document["InitializationStatusDetails"] = details
    if _failure(seen):
        document["Failure"] = _failure(seen)
    return document


def status_row(seen: SeenVolume) -> list[str]:
    """The volume under :data:`STATUS_COLUMNS`."""
    status = seen.status
    left = status.seconds_left if status is not None else None
    return [
        seen.volume.volume_id,
        _health(seen),
        _initialization(seen),
        f"{status.loaded_percent}%" if status is not None else "",
        str(round(left)) if left is not None else "",
        _failure(seen),
    ]


def _failure(seen: SeenVolume) -> str:
    if seen.failure is not None:
        return " ".join(str(seen.failure).split())
    return seen.status.failure if seen.status is not None else ""


def _health(seen: SeenVolume) -> str:
    """Amazon's word: a volume is impaired when some of it cannot be had."""
    if seen.status is None and not isinstance(seen.failure, IntegrityError):
        return "insufficient-data"
    return "impaired" if _failure(seen) else "ok"


def _checked(seen: SeenVolume) -> str:
    return {"ok": "passed", "impaired": "failed"}.get(_health(seen), "insufficient-data")


def _initialization(seen: SeenVolume) -> str:
    if seen.volume.snapshot_id is None:
        return "not-applicable"
    if seen.status is None:
        return "insufficient-data"
    return "completed" if seen.status.stands_alone else "initializing"


def modification_document(before: Volume, after: Volume) -> Document:
    """A change of size in the shape of EC2's ``VolumeModification``."""
    return {
        "VolumeId": after.volume_id,
        "ModificationState": "completed",
        "OriginalSize": whole_gib(before.size_bytes),
        "TargetSize": whole_gib(after.size_bytes),
        "Progress": 100,
    }


def instance_document(found: InstanceVolumes) -> Document:
    """The instance in the shape of EC2's ``Instance``: an instance here runs nothing."""
    volumes = found.volumes
    document: Document = {
        "InstanceId": found.instance.instance_id,
        "LaunchTime": to_iso8601(found.instance.create_time_ns),
        "BlockDeviceMappings": [_mapping(volume) for volume in volumes],
        "Tags": tag_list(found.instance.shown_tags),
    }
    boot = volumes[0].attachment if volumes else None
    return document | ({"RootDeviceName": boot.device} if boot is not None else {})


def _mapping(volume: Volume) -> Document:
    attachment = volume.attachment
    assert attachment is not None, "a volume of an instance is attached to it"
    return {
        "DeviceName": attachment.device,
        "Ebs": {
            "VolumeId": volume.volume_id,
            "Status": "attached",
            "AttachTime": to_iso8601(attachment.attach_time_ns),
            "DeleteOnTermination": False,
        },
    }


def instance_row(found: InstanceVolumes) -> list[str]:
    """The instance under :data:`INSTANCE_COLUMNS`, its boot volume first."""
    places = [
        f"{volume.attachment.device}={volume.volume_id}"
        for volume in found.volumes
        if volume.attachment is not None
    ]
    return [
        found.instance.instance_id,
        to_iso8601(found.instance.create_time_ns),
        " ".join(places),
        found.instance.name,
    ]
