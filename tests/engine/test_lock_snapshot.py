"""Locks: what each forbids, to whom, and until when, by a clock that the tests move."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.catalog.event_log import newest_events
from ebsim.catalog.records import put_snapshot
from ebsim.catalog.snapshot import SnapshotState
from ebsim.catalog.snapshot_lock import LockMode, LockState, SnapshotLock, started
from ebsim.clock import ManualClock
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.delete_snapshot import delete_snapshots, plan_deletion_of
from ebsim.engine.list_snapshots import list_snapshots, show_snapshot
from ebsim.engine.lock_snapshot import (
    LockRequest,
    list_locked_snapshots,
    lock_snapshot,
    unlock_snapshot,
)
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.report_lock_moments import report_lock_moments
from ebsim.engine.share_snapshot import Grantees, share_snapshot
from ebsim.errors import Conflict, InvalidRequest, NotPermitted, SnapshotLocked
from tests.engine.interruptions import Interference
from tests.engine.stores import (
    BLOCK,
    OTHER_ACCOUNT,
    SMALL,
    block_bytes,
    open_store,
    take,
    write_disk,
)
from tests.tidy.source_tree import modules

DAY = 86_400
HOUR = 3600


@pytest.fixture
def snapshot_id(region: Region, tmp_path: Path) -> str:
    return take(region, write_disk(tmp_path / "disk.img", BLOCK, {0: block_bytes(1)}))


def governance(days: int) -> LockRequest:
    return LockRequest(LockMode.GOVERNANCE, duration_days=days)


def compliance(days: int, cool_off_hours: int | None = None) -> LockRequest:
    return LockRequest(LockMode.COMPLIANCE, duration_days=days, cool_off_hours=cool_off_hours)


def state_of(region: Region, snapshot_id: str) -> LockState:
    lock = show_snapshot(region, snapshot_id).lock
    assert lock is not None
    return lock.state_at(region.clock.now_ns())


@pytest.mark.parametrize("request_", [governance(2), compliance(2), compliance(2, 3)])
def test_a_locked_snapshot_is_not_deleted_before_its_lock_has_expired(
    region: Region, clock: ManualClock, snapshot_id: str, request_: LockRequest
) -> None:
    lock_snapshot(region, snapshot_id, request_)
    clock.advance(2 * DAY - 1)
    for attempt in (delete_snapshots, plan_deletion_of):
        with pytest.raises(SnapshotLocked, match=snapshot_id):
            attempt(region, [snapshot_id])
    clock.advance(1)
    assert state_of(region, snapshot_id) is LockState.EXPIRED
    delete_snapshots(region, [snapshot_id])
    assert not list_snapshots(region).snapshots


def test_none_of_several_is_deleted_when_one_is_locked(
    region: Region, snapshot_id: str, tmp_path: Path
) -> None:
    other = take(region, tmp_path / "disk.img")
    lock_snapshot(region, other, governance(1))
    with pytest.raises(SnapshotLocked):
        delete_snapshots(region, [snapshot_id, other])
    assert len(list_snapshots(region).snapshots) == 2


def test_a_lock_set_after_the_names_were_looked_up_still_holds(
    region: Region, snapshot_id: str, tmp_path: Path
) -> None:
    """As when another process locks it at that moment: decided in the transaction."""
    first = take(region, tmp_path / "disk.img")
    with pytest.raises(SnapshotLocked):
        delete_snapshots(
            region,
            [first, snapshot_id],
            lambda _: lock_snapshot(region, snapshot_id, governance(1)) and None,
        )
    recover(region)
    assert show_snapshot(region, snapshot_id).lock is not None


def test_every_way_out_of_the_catalog_is_one_that_was_looked_at() -> None:
    """Who takes a snapshot's row away must refuse what is locked, or have one never completed."""
    callers = {
        module.name
        for module in modules("ebsim")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom)
        and node.module == "ebsim.catalog.records"
        and "remove_snapshot" in {alias.name for alias in node.names}
    }
    assert callers <= {"ebsim.engine.delete_snapshot", "ebsim.engine.recovery"}


def test_a_governance_lock_can_be_shortened_and_taken_off(
    region: Region, clock: ManualClock, snapshot_id: str
) -> None:
    lock_snapshot(region, snapshot_id, governance(30))
    lock_snapshot(region, snapshot_id, governance(1))
    clock.advance(DAY - 1)
    assert state_of(region, snapshot_id) is LockState.GOVERNANCE
    unlock_snapshot(region, snapshot_id)
    assert show_snapshot(region, snapshot_id).lock is None
    delete_snapshots(region, [snapshot_id])


def test_a_compliance_lock_can_be_changed_and_taken_off_until_its_cool_off_is_over(
    region: Region, clock: ManualClock, snapshot_id: str
) -> None:
    lock_snapshot(region, snapshot_id, compliance(30, cool_off_hours=3))
    clock.advance(3 * HOUR - 1)
    assert state_of(region, snapshot_id) is LockState.COMPLIANCE_COOLOFF
    lock_snapshot(region, snapshot_id, compliance(2, cool_off_hours=1))
    clock.advance(HOUR - 1)
    unlock_snapshot(region, snapshot_id)
    lock_snapshot(region, snapshot_id, compliance(2, cool_off_hours=1))
    clock.advance(HOUR)
    assert state_of(region, snapshot_id) is LockState.COMPLIANCE
    with pytest.raises(SnapshotLocked):
        unlock_snapshot(region, snapshot_id)


@pytest.mark.parametrize(
    "request_", [governance(400), compliance(400, cool_off_hours=1), compliance(3)]
)
def test_a_compliance_lock_can_only_be_made_longer(
    region: Region, clock: ManualClock, snapshot_id: str, request_: LockRequest
) -> None:
    lock_snapshot(region, snapshot_id, compliance(5))
    clock.advance(DAY)
    before = show_snapshot(region, snapshot_id)
    with pytest.raises(SnapshotLocked):
        lock_snapshot(region, snapshot_id, request_)
    assert show_snapshot(region, snapshot_id) == before
    lock_snapshot(region, snapshot_id, compliance(5))
    clock.advance(5 * DAY - 1)
    assert state_of(region, snapshot_id) is LockState.COMPLIANCE
    clock.advance(1)
    assert state_of(region, snapshot_id) is LockState.EXPIRED
    lock_snapshot(region, snapshot_id, governance(1))
    assert state_of(region, snapshot_id) is LockState.GOVERNANCE


def test_a_date_of_expiry_is_kept_to_the_nanosecond(
    region: Region, clock: ManualClock, snapshot_id: str
) -> None:
    expires_ns = clock.now_ns() + 36 * HOUR * 10**9
    request = LockRequest(LockMode.GOVERNANCE, expires_time_ns=expires_ns)
    lock = lock_snapshot(region, snapshot_id, request).lock
    assert lock is not None
    assert (lock.duration_days, lock.expires_time_ns) == (2, expires_ns)
    assert lock.state_at(expires_ns - 1) is LockState.GOVERNANCE
    assert lock.state_at(expires_ns) is LockState.EXPIRED


def test_the_duration_of_a_lock_on_a_pending_snapshot_begins_when_it_is_completed(
    region: Region, clock: ManualClock, tmp_path: Path
) -> None:
    disk = write_disk(tmp_path / "disk.img", BLOCK, {0: block_bytes(1)})

    def lock() -> None:
        (pending,) = list_snapshots(region).snapshots
        locked = lock_snapshot(region, pending.snapshot_id, compliance(1, cool_off_hours=1)).lock
        assert locked is not None
        assert (locked.start_time_ns, locked.expires_time_ns) == (None, None)
        share_snapshot(region, pending.snapshot_id, Grantees.of([OTHER_ACCOUNT]))
        clock.advance(5 * HOUR)

    done = create_snapshot(region, str(disk), SMALL, Interference(0, lock))
    assert done.lock is not None
    assert done.lock.start_time_ns == done.completion_time_ns == clock.now_ns()
    assert done.lock.expires_time_ns == clock.now_ns() + DAY * 10**9
    assert done.shared_with == (OTHER_ACCOUNT,)
    assert state_of(region, done.snapshot_id) is LockState.COMPLIANCE


def test_a_snapshot_that_failed_while_it_was_locked_is_deleted(
    region: Region, snapshot_id: str
) -> None:
    """Its lock would never begin, and so never end."""
    pending = SnapshotLock(LockMode.COMPLIANCE, region.clock.now_ns(), 30)
    failed = replace(show_snapshot(region, snapshot_id), state=SnapshotState.ERROR, lock=pending)
    region.metadata.run(lambda txn: put_snapshot(txn, failed))
    assert not list_locked_snapshots(region).snapshots
    delete_snapshots(region, [snapshot_id])
    assert not list_snapshots(region).snapshots


NOW = 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    "request_",
    [
        LockRequest(LockMode.GOVERNANCE),
        LockRequest(LockMode.GOVERNANCE, duration_days=1, expires_time_ns=NOW + 1),
        governance(0),
        governance(36_501),
        replace(governance(1), cool_off_hours=1),
        compliance(1, cool_off_hours=0),
        compliance(1, cool_off_hours=73),
        LockRequest(LockMode.GOVERNANCE, expires_time_ns=NOW),
        LockRequest(LockMode.GOVERNANCE, expires_time_ns=NOW + 36_501 * DAY * 10**9),
    ],
)
def test_a_lock_that_makes_no_sense_is_refused(
    region: Region, snapshot_id: str, request_: LockRequest
) -> None:
    with pytest.raises(InvalidRequest, match="Nothing was changed"):
        lock_snapshot(region, snapshot_id, request_)
    assert show_snapshot(region, snapshot_id).lock is None


def test_only_what_is_locked_is_unlocked_and_only_by_its_owner(
    region: Region, snapshot_id: str
) -> None:
    with pytest.raises(Conflict, match="is not locked"):
        unlock_snapshot(region, snapshot_id)
    share_snapshot(region, snapshot_id, Grantees(everybody=True))
    other = replace(region, account_id=OTHER_ACCOUNT)
    with pytest.raises(NotPermitted):
        lock_snapshot(other, snapshot_id, governance(1))
    lock_snapshot(region, snapshot_id, governance(1))
    with pytest.raises(NotPermitted):
        unlock_snapshot(other, snapshot_id)


def test_locked_snapshots_are_listed_by_the_state_of_their_lock(
    region: Region, clock: ManualClock, tmp_path: Path
) -> None:
    disk = write_disk(tmp_path / "disk.img", BLOCK, {0: block_bytes(1)})
    ids = [take(region, disk) for _ in range(5)]
    requests = (governance(1), governance(9), compliance(9), compliance(9, 72))
    for snapshot_id, request in zip(ids, requests, strict=False):
        lock_snapshot(region, snapshot_id, request)
    clock.advance(DAY)
    order = (
        LockState.EXPIRED, LockState.GOVERNANCE, LockState.COMPLIANCE, LockState.COMPLIANCE_COOLOFF
    )  # fmt: skip
    for snapshot_id, state in zip(ids, order, strict=False):
        (found,) = list_locked_snapshots(region, states=[state]).snapshots
        assert found.snapshot_id == snapshot_id
    found, token = [], None
    while True:
        page = list_locked_snapshots(region, max_results=3, next_token=token)
        found += [one.snapshot_id for one in page.snapshots]
        token = page.next_token
        if token is None:
            break
    assert sorted(found) == sorted(ids[:4])


def test_a_lock_comes_back_with_a_rebuild(tmp_path: Path) -> None:
    clock = ManualClock()
    region = open_store(tmp_path / "home", clock=clock)
    disk = write_disk(tmp_path / "disk.img", BLOCK, {0: block_bytes(1)})
    snapshot_id = take(region, disk)
    lock_snapshot(region, snapshot_id, compliance(7, cool_off_hours=2))
    before = show_snapshot(region, snapshot_id)
    region.close()
    rebuild_store(tmp_path / "home", "test")
    region = open_store(tmp_path / "home", clock=clock)
    assert show_snapshot(region, snapshot_id) == before
    with pytest.raises(SnapshotLocked):
        delete_snapshots(region, [snapshot_id])
    region.close()


@given(
    mode=st.sampled_from(LockMode),
    days=st.integers(1, 36_500),
    cool_off_ns=st.none() | st.integers(0, 72 * HOUR * 10**9),
    moments=st.lists(st.integers(0, 40_000 * DAY * 10**9), min_size=2, max_size=2).map(sorted),
)
def test_a_lock_only_ever_goes_on_to_its_later_states(
    mode: LockMode, days: int, cool_off_ns: int | None, moments: list[int]
) -> None:
    lock = started(SnapshotLock(mode, 0, days, cool_off_expires_time_ns=cool_off_ns), 0)
    order = [
        LockState.GOVERNANCE, LockState.COMPLIANCE_COOLOFF, LockState.COMPLIANCE, LockState.EXPIRED
    ]  # fmt: skip
    first, second = (order.index(lock.state_at(moment)) for moment in moments)
    assert first <= second
    assert lock.forbids_deletion_at(moments[1]) == (moments[1] < days * DAY * 10**9)


def events_of_locks(region: Region) -> list[tuple[str, str]]:
    found = region.metadata.read(lambda reader: [event for _, event in newest_events(reader)])
    return [
        (event.detail["event"], event.detail["snapshot_id"].rpartition("/")[2])
        for event in reversed(found)
        if event.detail.get("event") in {"lockDurationExpiry", "cooloffperiodExpiry"}
    ]


def test_the_ends_of_cool_offs_and_locks_are_reported_once_in_the_order_of_time(
    region: Region, clock: ManualClock, tmp_path: Path
) -> None:
    disk = write_disk(tmp_path / "disk.img", BLOCK, {0: block_bytes(1)})
    first, second, third = (take(region, disk) for _ in range(3))
    lock_snapshot(region, first, compliance(1, cool_off_hours=5))
    lock_snapshot(region, second, compliance(1, cool_off_hours=3))
    lock_snapshot(region, third, governance(1))
    clock.advance(1)
    lock_snapshot(region, first, compliance(2, cool_off_hours=6))
    unlock_snapshot(region, third)
    report_lock_moments(region)
    assert events_of_locks(region) == []
    clock.advance(5 * HOUR)
    report_lock_moments(region)
    report_lock_moments(region)
    assert events_of_locks(region) == [("cooloffperiodExpiry", second)]
    clock.advance(3 * DAY)
    # Another account's work; the events are the owner's.
    report_lock_moments(replace(region, account_id=OTHER_ACCOUNT))
    report_lock_moments(region)
    assert events_of_locks(region)[1:] == [
        ("cooloffperiodExpiry", first),
        ("lockDurationExpiry", second),
        ("lockDurationExpiry", first),
    ]
    lock_snapshot(region, second, governance(1))
    clock.advance(DAY)
    report_lock_moments(region)
    assert events_of_locks(region)[4:] == [("lockDurationExpiry", second)]
