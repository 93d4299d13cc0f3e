"""The lock of a snapshot: what it forbids, and until when.

    state                 until                 what may be done
    governance            the lock expires      change it in any way, unlock
    compliance-cooloff    the cool-off is over  change it in any way, unlock
    compliance            the lock expires      make it last longer
    expired               -                     anything; lock again

While it has not expired a locked snapshot cannot be deleted.  Nothing happens at any of
these moments: whoever asks compares the times with the clock.

Source: https://docs.aws.amazon.com/ebs/latest/userguide/snapshot-lock-concepts.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

DAY_NS = 86_400 * 10**9
HOUR_NS = 3600 * 10**9


class LockMode(StrEnum):
    """What it takes to undo a lock."""

    GOVERNANCE = "governance"
    COMPLIANCE = "compliance"


class LockState(StrEnum):
    """Amazon's states of a lock."""

    GOVERNANCE = "governance"
    COMPLIANCE_COOLOFF = "compliance-cooloff"
    COMPLIANCE = "compliance"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class SnapshotLock:
    """A lock.

    Attributes:
        duration_days: How long it lasts, rounded up if it was given a date.
        start_time_ns: When its duration began; ``None`` while the snapshot is pending.
        expires_time_ns: ``None`` while the snapshot is pending and no date was given.
        cool_off_hours: Of a compliance lock that was given a cool-off period.
    """

    mode: LockMode
    created_time_ns: int
    duration_days: int
    start_time_ns: int | None = None
    expires_time_ns: int | None = None
    cool_off_hours: int | None = None
    cool_off_expires_time_ns: int | None = None

    def state_at(self, now_ns: int) -> LockState:
        """What the lock is at *now_ns*."""
        if self.expires_time_ns is not None and now_ns >= self.expires_time_ns:
            return LockState.EXPIRED
        if self.mode is LockMode.GOVERNANCE:
            return LockState.GOVERNANCE
        cool_off_ns = self.cool_off_expires_time_ns
        if cool_off_ns is not None and now_ns < cool_off_ns:
            return LockState.COMPLIANCE_COOLOFF
        return LockState.COMPLIANCE

    def forbids_deletion_at(self, now_ns: int) -> bool:
        return self.state_at(now_ns) is not LockState.EXPIRED


def started(lock: SnapshotLock, now_ns: int) -> SnapshotLock:
    """*lock* of a snapshot that is completed at *now_ns*: its duration begins."""
    if lock.start_time_ns is not None:
        return lock
    expires_ns = lock.expires_time_ns
    if expires_ns is None:
        expires_ns = now_ns + lock.duration_days * DAY_NS
    return replace(lock, start_time_ns=now_ns, expires_time_ns=expires_ns)


def lock_from_json(values: Mapping[str, Any]) -> SnapshotLock:
    """The lock whose fields are *values*; ``TypeError`` or ``ValueError`` if they are not."""
    return SnapshotLock(**{**values, "mode": LockMode(values["mode"])})
