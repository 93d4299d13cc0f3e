"""Snapshots as ``--output json`` prints them, and as rows of a table.

Names and shapes are those of the AWS command line; what EBS does not have goes under
names of ours, after Amazon's.

Source:
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Snapshot.html
"""

from collections.abc import Mapping

from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.snapshot_filter import progress_of
from ebsim.cli.output import Column
from ebsim.clock import to_iso8601
from ebsim.units import format_size

Document = dict[str, object]

SNAPSHOT_COLUMNS = (
    Column("snapshot"),
    Column("volume"),
    Column("started"),
    Column("state"),
    Column("progress", is_number=True),
    Column("size", is_number=True),
    Column("added", is_number=True),
    Column("parent"),
    Column("description"),
)


def snapshot_document(snapshot: Snapshot) -> Document:
    """*snapshot* in the shape of EC2's ``Snapshot``."""
    document: Document = {
        "SnapshotId": snapshot.snapshot_id,
        "VolumeId": snapshot.volume_id,
        "State": snapshot.state.value,
        "StateMessage": snapshot.state_message,
        "StartTime": to_iso8601(snapshot.start_time_ns),
        "Progress": progress_of(snapshot),
        "OwnerId": snapshot.owner_id,
        "Description": snapshot.description,
        "VolumeSize": snapshot.volume_size_gib,
        "Encrypted": False,
        "StorageTier": snapshot.storage_tier.value,
        "TransferType": snapshot.transfer_type,
        "Tags": tag_list(snapshot.tags),
        "SizeBytes": snapshot.size_bytes,
        "BlockSize": snapshot.block_size,
        "BlockCount": snapshot.block_count,
        "ChangedBlockCount": snapshot.changed_block_count,
        "StoredBytes": snapshot.stored_bytes,
    }
    # As Amazon does: what is not known is left out.
    if not snapshot.state_message:
        del document["StateMessage"]
    if snapshot.completion_time_ns is not None:
        document["CompletionTime"] = to_iso8601(snapshot.completion_time_ns)
        # Every block that it addresses, its own and inherited ones: not what it added.
        document["FullSnapshotSizeInBytes"] = snapshot.block_count * snapshot.block_size
    if snapshot.parent_id is not None:
        document["ParentSnapshotId"] = snapshot.parent_id
    if snapshot.completion_duration_minutes is not None:
        document["CompletionDurationMinutes"] = snapshot.completion_duration_minutes
    if snapshot.restore_expiry_time_ns is not None:
        document["RestoreExpiryTime"] = to_iso8601(snapshot.restore_expiry_time_ns)
    if snapshot.tiering is not None:
        document["LastTieringOperationStatus"] = snapshot.tiering.status.value
        document["LastTieringStartTime"] = to_iso8601(snapshot.tiering.start_time_ns)
    if snapshot.tiering is not None and snapshot.tiering.detail:
        document["LastTieringOperationStatusDetail"] = snapshot.tiering.detail
    if snapshot.archive is not None:
        document["ArchivalCompleteTime"] = to_iso8601(snapshot.archive.complete_time_ns)
        document["ArchivedBytes"] = snapshot.archive.size_bytes
    if snapshot.copied_from:
        document["CopiedFrom"] = snapshot.copied_from
    return document


def snapshot_row(snapshot: Snapshot) -> list[str]:
    """*snapshot* under :data:`SNAPSHOT_COLUMNS`."""
    return [
        snapshot.snapshot_id,
        snapshot.volume_id,
        to_iso8601(snapshot.start_time_ns),
        snapshot.state.value,
        progress_of(snapshot),
        format_size(snapshot.size_bytes),
        format_size(snapshot.stored_bytes),
        snapshot.parent_id or "",
        snapshot.description,
    ]


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as Amazon lists them, by key."""
    return [{"Key": key, "Value": tags[key]} for key in sorted(tags)]
