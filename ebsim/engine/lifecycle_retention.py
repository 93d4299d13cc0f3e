"""Which of a schedule's snapshots are too many, or too old."""

from collections.abc import Callable, Sequence
from datetime import datetime

from ebsim.catalog.policy_details import RetainRule
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.clock import to_datetime


def begun(snapshot: Snapshot) -> int:
    """When it was taken."""
    return snapshot.start_time_ns


def archived(snapshot: Snapshot) -> int:
    """When it was archived."""
    assert snapshot.archive is not None, "one that is in the archive"
    return snapshot.archive.complete_time_ns


def surplus(
    snapshots: Sequence[Snapshot],
    rule: RetainRule,
    now: datetime,
    since: Callable[[Snapshot], int] = begun,
) -> list[Snapshot]:
    """Those of *snapshots*, oldest first, that *rule* does not keep; none that is pending.

    An age is counted from *since*.  A count is of each volume by itself, so that a volume
    that is gone or untagged is treated like the others.
    """
    settled = [one for one in snapshots if one.state is not SnapshotState.PENDING]
    if rule.age is not None:
        cutoff = rule.age.before(now)
        return [one for one in settled if to_datetime(since(one)) <= cutoff]
    assert rule.count is not None, "a count or an age"
    by_volume: dict[str, list[Snapshot]] = {}
    for one in settled:
        by_volume.setdefault(one.volume_id, []).append(one)
    return [one for listed in by_volume.values() for one in _too_many(listed, rule.count)]


def _too_many(listed: Sequence[Snapshot], count: int) -> list[Snapshot]:
    completed = [one for one in listed if one.state is SnapshotState.COMPLETED]
    kept = completed[max(0, len(completed) - count) :]
    # What failed is of no use once something newer did not.
    newest_ns = completed[-1].start_time_ns if completed else 0
    return [one for one in listed if one not in kept and one.start_time_ns <= newest_ns]
