"""Locking snapshots against deletion, and unlocking them.

What may be done to a lock is told by its state (``catalog/snapshot_lock.py``).  A new
duration counts from the moment at which it is set, of a pending snapshot from its
completion.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_LockSnapshot.html
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from ebsim.catalog.records import get_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.snapshot_index import locked_of
from ebsim.catalog.snapshot_lock import (
    DAY_NS,
    HOUR_NS,
    LockMode,
    LockState,
    SnapshotLock,
    started,
)
from ebsim.clock import to_iso8601
from ebsim.engine.change_snapshot import change_snapshot
from ebsim.engine.region import Region
from ebsim.engine.snapshot_pages import SnapshotPage, page_of
from ebsim.errors import Conflict, InvalidRequest, SnapshotLocked
from ebsim.metadata.transactions import Reader

DURATION_DAYS_MAX = 36_500
COOL_OFF_HOURS_MAX = 72


@dataclass(frozen=True, slots=True)
class LockRequest:
    """What a lock is to be.

    Attributes:
        duration_days: From 1 to 36 500; or else *expires_time_ns*.
        cool_off_hours: From 1 to 72, of a compliance lock only; ``None`` for none.
    """

    mode: LockMode
    duration_days: int | None = None
    expires_time_ns: int | None = None
    cool_off_hours: int | None = None


def lock_snapshot(region: Region, name: str, request: LockRequest) -> Snapshot:
    """Lock the account's snapshot, or change the lock that it has.

    Raises:
        SnapshotNotFound, InvalidRequest: a name, or what makes no sense in *request*.
        NotPermitted: another's snapshot.
        SnapshotLocked: in compliance mode, which allows nothing but a longer time.
        Conflict: it has failed.
    """
    now_ns = region.clock.now_ns()
    _check(request, now_ns)

    def locked(reader: Reader) -> Snapshot:
        old = get_snapshot(reader, region.account_id, name)
        if old.state is SnapshotState.ERROR:
            raise Conflict(f"{old.snapshot_id} has failed and cannot be locked.")
        new = _new_lock(request, now_ns, is_pending=old.state is SnapshotState.PENDING)
        if old.lock is not None and old.lock.forbids_deletion_at(now_ns):
            if old.lock.state_at(now_ns) is LockState.COMPLIANCE:
                new = _extended(old, old.lock, new)
            new = replace(new, created_time_ns=old.lock.created_time_ns)
        return replace(old, lock=new)

    return change_snapshot(region, locked)


def unlock_snapshot(region: Region, name: str) -> Snapshot:
    """Take the lock off the account's snapshot; one that has expired too.

    Raises:
        SnapshotNotFound, InvalidRequest: a name.
        NotPermitted: another's snapshot.
        SnapshotLocked: in compliance mode, its cool-off over.
        Conflict: it is not locked.
    """

    def unlocked(reader: Reader) -> Snapshot:
        old = get_snapshot(reader, region.account_id, name)
        if old.lock is None:
            raise Conflict(f"{old.snapshot_id} is not locked. Nothing was changed.")
        if old.lock.state_at(region.clock.now_ns()) is LockState.COMPLIANCE:
            raise SnapshotLocked(
                f"{old.snapshot_id} is locked in compliance mode{_until(old.lock)}, and "
                "nobody can unlock it before. Nothing was changed."
            )
        return replace(old, lock=None)

    return change_snapshot(region, unlocked)


def list_locked_snapshots(
    region: Region,
    *,
    states: Collection[LockState] | None = None,
    max_results: int | None = None,
    next_token: str | None = None,
) -> SnapshotPage:
    """The account's snapshots that have a lock, also one that has expired, oldest first.

    *states* is those to show; ``None`` for all.

    Raises:
        InvalidRequest: a page size out of range, or another listing's token.
    """
    now_ns = region.clock.now_ns()

    def show(reader: Reader, snapshot: Snapshot) -> Snapshot | None:
        del reader
        lock = snapshot.lock
        is_there = snapshot.bin_stay is None and snapshot.state is not SnapshotState.ERROR
        is_shown = lock is not None and is_there
        if lock is not None and states is not None:
            is_shown = is_shown and lock.state_at(now_ns) in states
        return snapshot if is_shown else None

    streams = [locked_of(region.account_id)]
    return page_of(region, streams, show, max_results=max_results, next_token=next_token)


def refuse_locked(snapshot: Snapshot, now_ns: int) -> None:
    """Refuse to delete *snapshot* while it is locked.

    One that has failed holds nothing to protect; its lock, set while it was pending, never
    begins and would never end.

    Raises:
        SnapshotLocked: until when.
    """
    lock = snapshot.lock
    if snapshot.state is SnapshotState.ERROR:
        return
    if lock is not None and lock.forbids_deletion_at(now_ns):
        raise SnapshotLocked(
            f"{snapshot.snapshot_id} is locked in {lock.mode} mode{_until(lock)}, and cannot be "
            "deleted before. Nothing was deleted."
        )


def _until(lock: SnapshotLock) -> str:
    expires_ns = lock.expires_time_ns
    return "" if expires_ns is None else f" until {to_iso8601(expires_ns)}"


def _check(request: LockRequest, now_ns: int) -> None:
    days, expires_ns = request.duration_days, request.expires_time_ns
    if (days is None) == (expires_ns is None):
        raise InvalidRequest(
            "a lock needs either a duration in days or a date of expiry. Nothing was changed."
        )
    if days is not None and not 1 <= days <= DURATION_DAYS_MAX:
        raise InvalidRequest(
            f"a lock of {days} days: expected 1 to {DURATION_DAYS_MAX}. Nothing was changed."
        )
    if expires_ns is not None and not now_ns < expires_ns <= now_ns + DURATION_DAYS_MAX * DAY_NS:
        raise InvalidRequest(
            f"a lock until {to_iso8601(expires_ns)}: expected a time in the next "
            f"{DURATION_DAYS_MAX} days. Nothing was changed."
        )
    hours = request.cool_off_hours
    if hours is None:
        return
    if request.mode is LockMode.GOVERNANCE:
        raise InvalidRequest(
            "a lock in governance mode has no cool-off period. Nothing was changed."
        )
    if not 1 <= hours <= COOL_OFF_HOURS_MAX:
        raise InvalidRequest(
            f"a cool-off period of {hours} hours: expected 1 to {COOL_OFF_HOURS_MAX}. "
            "Nothing was changed."
        )


def _new_lock(request: LockRequest, now_ns: int, *, is_pending: bool) -> SnapshotLock:
    days, expires_ns = request.duration_days, request.expires_time_ns
    if days is None:
        assert expires_ns is not None, "one of the two was checked to be there"
        days = -(-(expires_ns - now_ns) // DAY_NS)
    hours = request.cool_off_hours
    lock = SnapshotLock(
        mode=request.mode,
        created_time_ns=now_ns,
        duration_days=days,
        expires_time_ns=expires_ns,
        cool_off_hours=hours,
        cool_off_expires_time_ns=None if hours is None else now_ns + hours * HOUR_NS,
    )
    return lock if is_pending else started(lock, now_ns)


def _extended(snapshot: Snapshot, old: SnapshotLock, new: SnapshotLock) -> SnapshotLock:
    """*new* in place of a compliance lock whose cool-off is over: the same, only longer."""
    what = f"{snapshot.snapshot_id} is locked in compliance mode{_until(old)}"
    if new.mode is not LockMode.COMPLIANCE or new.cool_off_hours is not None:
        raise SnapshotLocked(
            f"{what}, its cool-off over: its mode and cool-off period cannot be changed. "
            "Nothing was changed."
        )
    if old.expires_time_ns is None:
        # Pending: when the old one would end nobody knows, and a date may come before it.
        is_shorter = new.expires_time_ns is not None or new.duration_days < old.duration_days
    else:
        least_ns = new.created_time_ns + new.duration_days * DAY_NS
        is_shorter = (new.expires_time_ns or least_ns) < old.expires_time_ns
    if is_shorter:
        raise SnapshotLocked(f"{what}, and can only be locked for longer. Nothing was changed.")
    return replace(
        new,
        cool_off_hours=old.cool_off_hours,
        cool_off_expires_time_ns=old.cool_off_expires_time_ns,
    )
