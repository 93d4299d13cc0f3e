"""What the verbs of the archive tier and of fast restore report, as ``record_events.py`` says.

Source:
    https://docs.aws.amazon.com/ebs/latest/userguide/monitor-snapshot-archiving.html
    https://docs.aws.amazon.com/ebs/latest/userguide/ebs-cloud-watch-events.html
"""

from dataclasses import dataclass
from typing import Any

from ebsim.catalog.event import DetailType, detail_time, owned_snapshot_arn, snapshot_arn
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.storage_tier import TieringStatus
from ebsim.engine.record_events import about_snapshot, outcome, record_event
from ebsim.engine.region import Region
from ebsim.metadata.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class TierFacts:
    """What an event of the archive tier tells beside the snapshot.

    Attributes:
        start_ns: When archiving or restoring began.
        restore_expiry_ns: When a temporary restore ends.
        recycle_bin_exit_ns: When the snapshot leaves the recycle bin, if it is there.
    """

    start_ns: int
    restore_expiry_ns: int | None = None
    recycle_bin_exit_ns: int | None = None


def snapshot_archived(
    txn: Transaction, region: Region, snapshot: Snapshot, facts: TierFacts, cause: str = ""
) -> None:
    """``archiveSnapshot``."""
    detail = _of_tier(region, snapshot, facts, "archiveSnapshot", cause)
    about_snapshot(txn, region, snapshot, detail)


def snapshot_restored_permanently(
    txn: Transaction, region: Region, snapshot: Snapshot, facts: TierFacts, cause: str = ""
) -> None:
    """``permanentRestoreSnapshot``."""
    detail = _of_tier(region, snapshot, facts, "permanentRestoreSnapshot", cause)
    about_snapshot(txn, region, snapshot, detail)


def snapshot_restored_temporarily(
    txn: Transaction, region: Region, snapshot: Snapshot, facts: TierFacts, cause: str = ""
) -> None:
    """``temporaryRestoreSnapshot``."""
    detail = _of_tier(region, snapshot, facts, "temporaryRestoreSnapshot", cause)
    detail.setdefault("recycleBinExitTime", "")
    about_snapshot(txn, region, snapshot, detail)


_FAILURES = {
    TieringStatus.ARCHIVAL_FAILED: snapshot_archived,
    TieringStatus.PERMANENT_RESTORE_FAILED: snapshot_restored_permanently,
    TieringStatus.TEMPORARY_RESTORE_FAILED: snapshot_restored_temporarily,
}


def tiering_failed(txn: Transaction, region: Region, snapshot: Snapshot) -> None:
    """What the last archival or restore of the snapshot, which has failed, is told as."""
    tiering = snapshot.tiering
    assert tiering is not None, "there was one"
    record = _FAILURES[tiering.status]
    record(txn, region, snapshot, TierFacts(start_ns=tiering.start_time_ns), tiering.detail)


def temporary_restore_expired(
    txn: Transaction, region: Region, snapshot: Snapshot, facts: TierFacts
) -> None:
    """``restoreExpiry``: a temporary restore is over."""
    detail = _of_tier(region, snapshot, facts, "restoreExpiry", "")
    about_snapshot(txn, region, snapshot, detail)


def fast_restore_changed(
    txn: Transaction, region: Region, snapshot: Snapshot, zone: str, state: str, *, message: str
) -> None:
    """The state of fast restore of a snapshot in a zone: enabling to disabled."""
    detail = {
        "snapshot-id": snapshot.snapshot_id,
        "state": state,
        "zone": zone,
        "message": message,
    }
    resources = [owned_snapshot_arn(region.name, snapshot.snapshot_id)]
    record_event(txn, region, DetailType.FAST_RESTORE, resources, detail)


def _of_tier(
    region: Region, snapshot: Snapshot, facts: TierFacts, name: str, cause: str
) -> dict[str, Any]:
    detail = {
        **outcome(name, cause),
        "snapshot_id": snapshot_arn(region.name, snapshot.snapshot_id),
        "startTime": detail_time(facts.start_ns),
        "endTime": detail_time(region.clock.now_ns()),
    }
    if facts.restore_expiry_ns is not None:
        detail["restoreExpiryTime"] = detail_time(facts.restore_expiry_ns)
    if facts.recycle_bin_exit_ns is not None:
        detail["recycleBinExitTime"] = detail_time(facts.recycle_bin_exit_ns)
    return detail
