"""The event record: something that became true, in the shape that EventBridge gives it.

    {"version": "0", "id": "...", "detail-type": "EBS Snapshot Notification",
     "source": "aws.ec2", "account": "123456789012", "time": "2026-11-22T16:58:03Z",
     "region": "us-east-1", "resources": ["arn:..."], "detail": {...}}

The same object, without spaces, is the value of the ``EVENTS`` row.  What EBS has no event
for and ebsim has, is an *extension*: its source is ``ebsim``, so a pattern for ``aws.ec2``
never fits it.

ARNs inside events of snapshots have the region where the account belongs, as Amazon's do;
times in details are whole seconds with ``.000``.

Source:
    https://docs.aws.amazon.com/ebs/latest/userguide/ebs-cloud-watch-events.html
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ebsim.clock import to_datetime
from ebsim.errors import MetadataCorrupt
from ebsim.ids import AccountId, SnapshotId, VolumeId

AWS_SOURCE = "aws.ec2"
EXTENSION_SOURCE = "ebsim"


class DetailType(StrEnum):
    """EventBridge's ``detail-type`` of everything that EBS reports."""

    VOLUME = "EBS Volume Notification"
    SNAPSHOT = "EBS Snapshot Notification"
    SNAPSHOT_SET = "EBS Multi-Volume Snapshots Completion Status"
    LATE_COPY = "EBS Copy Snapshot Missed Completion Duration"
    FAST_RESTORE = "EBS Fast Snapshot Restore State-change Notification"
    PUBLIC_ACCESS = "EBS Snapshot Block Public Access Enabled"


@dataclass(frozen=True, slots=True)
class Event:
    """An event.

    Attributes:
        event_id: A UUID; the same however often it is delivered.
        detail_type: One of :class:`DetailType`, unless a newer ebsim wrote it.
        account_id: Whose event it is; a snapshot that is shared is its receiver's.
        resources: ARNs.
        detail: JSON.
    """

    event_id: str
    detail_type: str
    source: str
    account_id: AccountId
    time_ns: int
    region_name: str
    resources: tuple[str, ...]
    detail: Mapping[str, Any]

    @property
    def is_extension(self) -> bool:
        """Whether EBS has no such event."""
        return self.source == EXTENSION_SOURCE


def event_document(event: Event) -> dict[str, Any]:
    """*event* as EventBridge sends it: its time in whole seconds."""
    return {
        "version": "0",
        "id": event.event_id,
        "detail-type": event.detail_type,
        "source": event.source,
        "account": event.account_id,
        "time": to_datetime(event.time_ns).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": event.region_name,
        "resources": list(event.resources),
        "detail": dict(event.detail),
    }


def encode_event(event: Event) -> bytes:
    """The row of *event*: its document, and its exact time."""
    document = {**event_document(event), "time_ns": event.time_ns}
    return json.dumps(document, separators=(",", ":")).encode()


def decode_event(row: bytes) -> Event:
    """The event that ``encode_event`` wrote.

    Raises:
        MetadataCorrupt: a field is missing.
    """
    values = json.loads(row)
    try:
        return Event(
            event_id=values["id"],
            detail_type=values["detail-type"],
            source=values["source"],
            account_id=AccountId(values["account"]),
            time_ns=values["time_ns"],
            region_name=values["region"],
            resources=tuple(values["resources"]),
            detail=values["detail"],
        )
    except (KeyError, TypeError) as error:
        raise MetadataCorrupt(where="an event record", found=repr(error)) from error


def detail_time(time_ns: int | None) -> str:
    """A time inside a detail: whole seconds, written with milliseconds; ``""`` for none."""
    if time_ns is None:
        return ""
    return to_datetime(time_ns).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def snapshot_arn(region_name: str, snapshot_id: SnapshotId | str) -> str:
    """A snapshot's ARN as events of snapshots have it: malformed, the region one field late."""
    return f"arn:aws:ec2::{region_name}:snapshot/{snapshot_id}"


def source_volume_arn(region_name: str, volume_id: VolumeId) -> str:
    """A volume's ARN as events of snapshots have it: malformed likewise."""
    return f"arn:aws:ec2::{region_name}:volume/{volume_id}"


def volume_arn(region_name: str, account_id: AccountId, volume_id: VolumeId) -> str:
    """A volume's ARN as events of volumes have it: well formed."""
    return f"arn:aws:ec2:{region_name}:{account_id}:volume/{volume_id}"


def owned_snapshot_arn(region_name: str, snapshot_id: SnapshotId) -> str:
    """A snapshot's ARN as events of fast restore have it: well formed, without an account."""
    return f"arn:aws:ec2:{region_name}::snapshot/{snapshot_id}"
