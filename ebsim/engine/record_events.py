"""What verbs report: one function for each event that EBS has, called in its transaction.

Each writes the event into the transaction that makes it true, so that neither is ever
there without the other.  A function's name says what happened; its arguments are the facts
of that event's fields.  ``cause`` of ``""`` means that it went well; anything else makes
the result ``failed``.

EBS has no event for a deleted snapshot or a detached volume: those are extensions, whose
source is ``ebsim``.

Beside this module: ``record_tier_events.py`` and ``record_access_events.py``.

Source:
    https://docs.aws.amazon.com/ebs/latest/userguide/ebs-cloud-watch-events.html
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ebsim.catalog.event import (
    AWS_SOURCE,
    EXTENSION_SOURCE,
    DetailType,
    Event,
    detail_time,
    snapshot_arn,
    source_volume_arn,
    volume_arn,
)
from ebsim.catalog.event_log import append_event
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.volume import Volume
from ebsim.clock import to_iso8601
from ebsim.engine.region import Region
from ebsim.ids import AccountId
from ebsim.metadata.transactions import Transaction


def record_event(
    txn: Transaction,
    region: Region,
    detail_type: DetailType,
    resources: Sequence[str],
    detail: Mapping[str, Any],
    *,
    account_id: AccountId | None = None,
    source: str = AWS_SOURCE,
) -> None:
    """Write one event, of the region's account unless another is named, dated now.

    The functions below are for verbs; this one is what they have in common.
    """
    event = Event(
        event_id="",
        detail_type=detail_type,
        source=source,
        account_id=account_id or region.account_id,
        time_ns=region.clock.now_ns(),
        region_name=region.name,
        resources=tuple(resources),
        detail=detail,
    )
    append_event(txn, event, seed=region.seed)


def volume_created(txn: Transaction, region: Region, volume: Volume, cause: str = "") -> None:
    """``createVolume``: the volume is available, or could not be made."""
    detail = _volume_result(region, "createVolume", "failed" if cause else "available", cause)
    _about_volume(txn, region, volume, detail)


def volume_deleted(txn: Transaction, region: Region, volume: Volume) -> None:
    """``deleteVolume``; one that fails is never reported."""
    _about_volume(txn, region, volume, _volume_result(region, "deleteVolume", "deleted"))


def volume_attached(
    txn: Transaction, region: Region, volume: Volume, cause: str = "", *, again: bool = False
) -> None:
    """``attachVolume``, or ``reattachVolume`` where it was attached *again*."""
    name = "reattachVolume" if again else "attachVolume"
    detail = _volume_result(region, name, "failed" if cause else "attached", cause)
    _about_volume(txn, region, volume, detail)


def volume_detached(txn: Transaction, region: Region, volume: Volume) -> None:
    """``detachVolume``: an extension, which EBS reports as an API call only."""
    detail = _volume_result(region, "detachVolume", "detached")
    _about_volume(txn, region, volume, detail, source=EXTENSION_SOURCE)


def volume_modified(
    txn: Transaction, region: Region, volume: Volume, result: str, cause: str = ""
) -> None:
    """``modifyVolume``: *result* is optimizing, completed or failed.

    Of a modification that goes well, optimizing and completed are seen on the real service.
    """
    _about_volume(txn, region, volume, _volume_result(region, "modifyVolume", result, cause))


def volume_initialized(txn: Transaction, region: Region, volume: Volume) -> None:
    """``initializeVolume``: every block of its snapshot is here."""
    detail = {
        "event": "initializeVolume",
        "result": "succeeded",
        "completionTime": detail_time(region.clock.now_ns()),
        "request-id": region.request_id,
    }
    _about_volume(txn, region, volume, detail)


def snapshot_created(
    txn: Transaction, region: Region, snapshot: Snapshot, cause: str = ""
) -> None:
    """``createSnapshot``: the snapshot is completed, or failed."""
    source = source_volume_arn(region.name, snapshot.volume_id)
    detail = _ended("createSnapshot", cause, region, snapshot, source)
    about_snapshot(txn, region, snapshot, detail)


def snapshots_created(
    txn: Transaction, region: Region, snapshots: Sequence[Snapshot], cause: str = ""
) -> None:
    """``createSnapshots``: all snapshots of a set are completed, or all failed."""
    status = "error" if cause else "completed"
    detail = {
        "event": "createSnapshots",
        "result": "failed" if cause else "succeeded",
        "cause": cause,
        "request-id": "",
        "startTime": detail_time(min(one.start_time_ns for one in snapshots)),
        "endTime": detail_time(region.clock.now_ns()),
        "snapshots": [
            {
                "snapshot_id": snapshot_arn(region.name, one.snapshot_id),
                "source": source_volume_arn(region.name, one.volume_id),
                "status": status,
            }
            for one in snapshots
        ],
    }
    resources = [snapshot_arn(region.name, one.snapshot_id) for one in snapshots]
    record_event(
        txn, region, DetailType.SNAPSHOT_SET, resources, detail, account_id=snapshots[0].owner_id
    )


def snapshot_interrupted(txn: Transaction, region: Region, snapshot: Snapshot) -> None:
    """A snapshot or a copy that broke off, and of which nothing is listed any more."""
    report = snapshot_copied if snapshot.copied_from else snapshot_created
    report(txn, region, snapshot, "The snapshot was interrupted.")


def snapshot_copied(
    txn: Transaction,
    region: Region,
    copy: Snapshot,
    cause: str = "",
    *,
    is_incremental: bool = False,
) -> None:
    """``copySnapshot``, in the region that the *copy* is in.

    *is_incremental* says that only what changed since an older copy travelled.  A copy that
    is done later than it was asked to be is reported as late as well.
    """
    late = "" if cause else _lateness(region, copy)
    if late:
        copy_is_late(txn, region, copy, late)
    detail = _ended("copySnapshot", cause, region, copy, _original_arn(copy))
    if not cause:
        # Strings, as on the real service.
        detail["incremental"] = "true" if is_incremental else "false"
        detail["transferType"] = copy.transfer_type
        if copy.completion_duration_minutes is not None:
            detail["completionDurationStartTime"] = to_iso8601(copy.start_time_ns)
            detail["metCompletionDuration"] = "false" if late else "true"
        if late:
            detail["missedCompletionDurationCause"] = late
    about_snapshot(txn, region, copy, detail)


def copy_is_late(txn: Transaction, region: Region, copy: Snapshot, cause: str) -> None:
    """A time-based copy is not done when its completion duration is over."""
    detail = {
        "event": "copySnapshot",
        "missedCompletionDurationCause": cause,
        "snapshot_id": snapshot_arn(region.name, copy.snapshot_id),
        "source": _original_arn(copy),
        "startTime": detail_time(copy.start_time_ns),
        "transferType": copy.transfer_type,
    }
    resources = [snapshot_arn(region.name, copy.snapshot_id)]
    record_event(txn, region, DetailType.LATE_COPY, resources, detail, account_id=copy.owner_id)


def _original_arn(copy: Snapshot) -> str:
    source_region, _, snapshot_id = copy.copied_from.partition("/")
    return snapshot_arn(source_region, snapshot_id)


def _lateness(region: Region, copy: Snapshot) -> str:
    """Why a copy that is done now is late; ``""`` where it is not."""
    minutes = copy.completion_duration_minutes
    if minutes is None or region.clock.now_ns() <= copy.start_time_ns + minutes * 60 * 10**9:
        return ""
    return "Snapshot copy was not able to meet the specified completion duration."


def snapshot_shared(
    txn: Transaction, region: Region, snapshot: Snapshot, receiver: AccountId
) -> None:
    """``shareSnapshot``: an event of the account that it is shared with.

    Making a snapshot public is not reported.
    """
    now = detail_time(region.clock.now_ns())
    detail = {
        **outcome("shareSnapshot", ""),
        "snapshot_id": snapshot_arn(region.name, snapshot.snapshot_id),
        "source": snapshot.owner_id,
        "startTime": now,
        "endTime": now,
    }
    resources = [snapshot_arn(region.name, snapshot.snapshot_id)]
    record_event(txn, region, DetailType.SNAPSHOT, resources, detail, account_id=receiver)


def snapshot_deleted(txn: Transaction, region: Region, snapshot: Snapshot) -> None:
    """``deleteSnapshot``: an extension, which EBS reports as an API call only."""
    detail = {
        **outcome("deleteSnapshot", ""),
        "snapshot_id": snapshot_arn(region.name, snapshot.snapshot_id),
        "source": source_volume_arn(region.name, snapshot.volume_id),
    }
    about_snapshot(txn, region, snapshot, detail, source=EXTENSION_SOURCE)


def outcome(name: str, cause: str) -> dict[str, Any]:
    """What the detail of a snapshot's event begins with."""
    result = "failed" if cause else "succeeded"
    return {"event": name, "result": result, "cause": cause, "request-id": ""}


def _ended(
    name: str, cause: str, region: Region, snapshot: Snapshot, source: str
) -> dict[str, Any]:
    """The detail of something that began with the snapshot and ends now."""
    return {
        **outcome(name, cause),
        "snapshot_id": snapshot_arn(region.name, snapshot.snapshot_id),
        "source": source,
        "startTime": detail_time(snapshot.start_time_ns),
        "endTime": detail_time(region.clock.now_ns()),
    }


def about_snapshot(
    txn: Transaction,
    region: Region,
    snapshot: Snapshot,
    detail: Mapping[str, Any],
    *,
    source: str = AWS_SOURCE,
) -> None:
    """Write an event about one snapshot, of its owner's account."""
    record_event(
        txn,
        region,
        DetailType.SNAPSHOT,
        [snapshot_arn(region.name, snapshot.snapshot_id)],
        detail,
        account_id=snapshot.owner_id,
        source=source,
    )


def _volume_result(region: Region, name: str, result: str, cause: str = "") -> dict[str, Any]:
    return {"result": result, "cause": cause, "event": name, "request-id": region.request_id}


def _about_volume(
    txn: Transaction,
    region: Region,
    volume: Volume,
    detail: Mapping[str, Any],
    *,
    source: str = AWS_SOURCE,
) -> None:
    record_event(
        txn,
        region,
        DetailType.VOLUME,
        [volume_arn(region.name, volume.owner_id, volume.volume_id)],
        detail,
        account_id=volume.owner_id,
        source=source,
    )
