"""What locks, and limits on sharing, report, as ``record_events.py`` says.

Source:
    https://docs.aws.amazon.com/ebs/latest/userguide/monitor-snapshot-lock.html
    https://docs.aws.amazon.com/ebs/latest/userguide/block-public-access-snapshots.html
"""

from typing import Any

from ebsim.catalog.event import DetailType, detail_time, snapshot_arn
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.snapshot_lock import SnapshotLock
from ebsim.engine.record_events import about_snapshot, outcome, record_event, snapshot_shared
from ebsim.engine.region import Region
from ebsim.metadata.transactions import Transaction


def access_changed(txn: Transaction, region: Region, old: Snapshot, new: Snapshot) -> None:
    """Report what a change of a snapshot's record says of sharing and of its lock."""
    for account_id in new.shared_with:
        if account_id not in old.shared_with:
            snapshot_shared(txn, region, new, account_id)
    if new.lock is not None and new.lock != old.lock:
        snapshot_locked(txn, region, new, new.lock)


def snapshot_locked(
    txn: Transaction, region: Region, snapshot: Snapshot, lock: SnapshotLock, cause: str = ""
) -> None:
    """``lockSnapshot``: it is locked; or it was locked while pending, and failed."""
    detail = _of_lock(region, snapshot, lock, "lockSnapshot", cause)
    about_snapshot(txn, region, snapshot, detail)


def lock_failed(txn: Transaction, region: Region, snapshot: Snapshot) -> None:
    """``lockSnapshot`` of a snapshot that was locked while pending, if it was, and failed."""
    if snapshot.lock is not None and snapshot.lock.start_time_ns is None:
        snapshot_locked(txn, region, snapshot, snapshot.lock, "snapshot failed")


def lock_expired(txn: Transaction, region: Region, snapshot: Snapshot, lock: SnapshotLock) -> None:
    """``lockDurationExpiry``."""
    detail = _of_lock(region, snapshot, lock, "lockDurationExpiry", "")
    for name in ("lockStartDurationTime", "cooOffPeriod", "coolOffPeriodExpiresOn"):
        detail.pop(name, None)
    about_snapshot(txn, region, snapshot, detail)


def cool_off_expired(
    txn: Transaction, region: Region, snapshot: Snapshot, lock: SnapshotLock
) -> None:
    """``cooloffperiodExpiry``: a lock in compliance mode cannot be undone any more."""
    detail = _of_lock(region, snapshot, lock, "cooloffperiodExpiry", "")
    about_snapshot(txn, region, snapshot, detail)


def public_access_blocked(txn: Transaction, region: Region, state: str, message: str) -> None:
    """Sharing with everybody was blocked in the region: *state* says how far."""
    detail = {"SnapshotBlockPublicAccessState": state, "message": message}
    record_event(txn, region, DetailType.PUBLIC_ACCESS, [], detail)


def _of_lock(
    region: Region, snapshot: Snapshot, lock: SnapshotLock, name: str, cause: str
) -> dict[str, Any]:
    is_pending = lock.start_time_ns is None
    state = lock.mode if is_pending else lock.state_at(region.clock.now_ns())
    detail: dict[str, Any] = {
        **outcome(name, cause),
        "snapshot_id": snapshot_arn(region.name, snapshot.snapshot_id),
        "source": snapshot.owner_id,
        "lockState": f"pending-{state}" if is_pending else state.value,
        "lockCreatedOn": detail_time(lock.created_time_ns),
        "lockDuration": lock.duration_days,
    }
    times = {
        "lockExpiresOn": lock.expires_time_ns,
        "lockStartDurationTime": lock.start_time_ns,
        "coolOffPeriodExpiresOn": lock.cool_off_expires_time_ns,
    }
    detail.update({key: detail_time(time) for key, time in times.items() if time is not None})
    if lock.cool_off_hours is not None:
        # Amazon's spelling.
        detail["cooOffPeriod"] = lock.cool_off_hours
    return detail
