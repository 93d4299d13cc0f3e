"""Moving snapshots to the archive tier and back."""

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.ec2 import ids
from ebsim.api.ec2.matching import Fields, matching
from ebsim.api.ec2.shapes import filters_in, page_size, tag_list
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.snapshot_filter import Filter
from ebsim.clock import to_datetime
from ebsim.engine.archive_snapshot import Archival
from ebsim.engine.list_snapshots import list_snapshots, show_snapshot
from ebsim.engine.region import Region
from ebsim.engine.unarchive_snapshot import Unarchival
from ebsim.engine.work_in_progress import snapshots_in_progress
from ebsim.progress import Unwatched

ARCHIVED_PER_VOLUME_MAX = 25
ARCHIVALS_MAX = 25
RESTORES_MAX = 5

_FIELDS: Fields = {
    "snapshot-id": lambda row: [row["SnapshotId"]],
    "volume-id": lambda row: [row["VolumeId"]],
    "last-tiering-operation": lambda row: [row["LastTieringOperationStatus"] or ""],
}


def archive(call: Call, params: Params) -> Answer:
    """Begin to archive a snapshot."""
    name = ids.snapshot_id(params["SnapshotId"])
    if "StorageTier" not in params:
        raise ApiError("MissingParameter", "The request must contain the parameter storageTier")
    region = call.region
    _refuse_too_many(region, "archival-in-progress", ARCHIVALS_MAX)
    volume_id = show_snapshot(region, name).volume_id
    same = list_snapshots(region, [Filter("volume-id", (volume_id,))]).snapshots
    if len([one for one in same if one.archive is not None]) >= ARCHIVED_PER_VOLUME_MAX:
        raise ApiError(
            "ResourceLimitExceeded",
            f"{volume_id} has {ARCHIVED_PER_VOLUME_MAX} archived snapshots already.",
        )
    archival = Archival(region, name)
    call.work.go_on(name, lambda: archival.run(Unwatched()))
    return {"SnapshotId": name, "TieringStartTime": _began(archival.snapshot)}


def restore(call: Call, params: Params) -> Answer:
    """Begin to restore an archived snapshot."""
    name = ids.snapshot_id(params["SnapshotId"])
    days, permanent = params.get("TemporaryRestoreDays"), params.get("PermanentRestore")
    if days is not None and permanent:
        raise ApiError(
            "InvalidParameterCombination",
            "The parameter temporaryRestoreDays cannot be used with the parameter "
            "permanentRestore",
        )
    if days is None and not permanent:
        raise ApiError(
            "MissingParameter",
            "The request must contain the parameter temporaryRestoreDays or permanentRestore",
        )
    region = call.region
    _refuse_too_many(region, "*-restore-in-progress", RESTORES_MAX)
    unarchival = Unarchival(region, name, days)
    call.work.go_on(name, lambda: unarchival.run(Unwatched()))
    return {
        "SnapshotId": name,
        "RestoreStartTime": _began(unarchival.snapshot),
        "RestoreDuration": days,
        "IsPermanentRestore": bool(permanent),
    }


def describe(call: Call, params: Params) -> Answer:
    """The tiers of the caller's snapshots, a page of those that were looked at at a time."""
    filters = filters_in(params)
    matching([], filters, _FIELDS)
    page = list_snapshots(
        call.region,
        [one for one in filters if one.name != "last-tiering-operation"],
        max_results=page_size(params),
        next_token=params.get("NextToken"),
    )
    rows = [_row(snapshot) for snapshot in page.snapshots]
    return {
        "SnapshotTierStatuses": matching(rows, filters, _FIELDS),
        "NextToken": page.next_token,
    }


def _row(snapshot: Snapshot) -> Answer:
    row: Answer = {
        "SnapshotId": snapshot.snapshot_id,
        "VolumeId": snapshot.volume_id,
        "Status": snapshot.state.value,
        "OwnerId": snapshot.owner_id,
        "Tags": tag_list(snapshot.tags),
        "StorageTier": snapshot.storage_tier.value,
        "LastTieringOperationStatus": None,
    }
    tiering = snapshot.tiering
    if tiering is not None:
        row["LastTieringStartTime"] = to_datetime(tiering.start_time_ns)
        row["LastTieringProgress"] = 100 if tiering.status.endswith("-completed") else 0
        row["LastTieringOperationStatus"] = tiering.status.value
        row["LastTieringOperationStatusDetail"] = tiering.detail or None
    if snapshot.archive is not None:
        row["ArchivalCompleteTime"] = to_datetime(snapshot.archive.complete_time_ns)
    if snapshot.restore_expiry_time_ns is not None:
        row["RestoreExpiryTime"] = to_datetime(snapshot.restore_expiry_time_ns)
    return row


def _began(snapshot: Snapshot) -> object:
    assert snapshot.tiering is not None, "a change of its tier has begun"
    return to_datetime(snapshot.tiering.start_time_ns)


def _refuse_too_many(region: Region, status: str, limit: int) -> None:
    mine = [one for one in snapshots_in_progress(region) if one.owner_id == region.account_id]
    rows = [_row(one) for one in mine]
    if len(matching(rows, [Filter("last-tiering-operation", (status,))], _FIELDS)) >= limit:
        raise ApiError(
            "ResourceLimitExceeded",
            f"Too many snapshots are being archived or restored. The limit is {limit}.",
        )


ACTIONS = (
    action("ModifySnapshotTier", archive, "SnapshotId", "StorageTier"),
    action(
        "RestoreSnapshotTier", restore, "SnapshotId", "TemporaryRestoreDays", "PermanentRestore"
    ),
    action("DescribeSnapshotTierStatus", describe, "Filters", "MaxResults", "NextToken"),
)
