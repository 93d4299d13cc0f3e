"""Policies do what is due, once, and delete what is old, over months of a clock in hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ebsim.catalog.lifecycle_policy import LifecyclePolicy, PolicyState
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.snapshot_lock import LockMode
from ebsim.clock import ManualClock, from_iso8601, to_datetime
from ebsim.durable_files import Files
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.instance_tags import tag_instance
from ebsim.engine.instances import attach_to_instance, create_instance, detach_from_instance
from ebsim.engine.lifecycle_policies import (
    PolicyOptions,
    change_policy,
    create_policy,
    delete_policy,
    policy_lock,
)
from ebsim.engine.list_snapshots import list_snapshots
from ebsim.engine.lock_snapshot import LockRequest, lock_snapshot
from ebsim.engine.region import Region
from ebsim.engine.run_lifecycle import PolicyRun, next_due, run_policy
from ebsim.engine.tags import tag_snapshot
from ebsim.engine.volume_tags import tag_volume
from ebsim.errors import NotFound
from tests.engine.stores import BLOCK, block_bytes, take, write_disk
from tests.engine.test_event_delivery import Died, DyingMetadata

DAILY: dict[str, Any] = {"Interval": 24, "IntervalUnit": "HOURS", "Times": ["03:00"]}
START = "2026-01-01T12:00:00"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(from_iso8601(START))


@pytest.fixture
def volume_id(region: Region, tmp_path: Path) -> str:
    """A volume with the tag that policies look for."""
    disk = write_disk(tmp_path / "disk", 4 * BLOCK, {0: block_bytes(1)})
    snapshot_id = take(region, disk)
    made = create_volume(region, VolumeOptions(snapshot_id, tags={"backup": "yes", "team": "a"}))
    delete_snapshots(region, [snapshot_id])
    return made.volume_id


def document(**schedule: Any) -> dict[str, Any]:
    return {
        "ResourceTypes": ["VOLUME"],
        "TargetTags": [{"Key": "backup", "Value": "yes"}],
        "Schedules": [
            {"Name": "daily", "CreateRule": DAILY, "RetainRule": {"Count": 3}, **schedule}
        ],
    }


def policy_of(region: Region, **schedule: Any) -> LifecyclePolicy:
    return create_policy(region, PolicyOptions(document=document(**schedule)))


@contextmanager
def no_other_region(name: str) -> Iterator[Region]:
    raise NotFound(f"there is no region {name}.")
    yield


def run(region: Region, policy: LifecyclePolicy) -> PolicyRun:
    return run_policy(region, policy, no_other_region)


def set_clock(clock: ManualClock, text: str) -> None:
    clock.advance((from_iso8601(text) - clock.now_ns()) / 1e9)


def kept(region: Region) -> list[Snapshot]:
    return list(list_snapshots(region).snapshots)


def days(region: Region) -> list[str]:
    return [f"{to_datetime(one.start_time_ns):%m-%d}" for one in kept(region)]


@pytest.mark.usefixtures("volume_id")
def test_a_schedule_runs_once_a_day_and_keeps_so_many(region: Region, clock: ManualClock) -> None:
    policy = policy_of(region)
    created = 0
    for _ in range(4 * 24):
        clock.advance(3600)
        created += len(run(region, policy).created)
    assert created == 4
    assert days(region) == ["01-03", "01-04", "01-05"]


@pytest.mark.usefixtures("volume_id")
def test_what_was_due_before_the_policy_was_made_is_not_done(
    region: Region, clock: ManualClock
) -> None:
    policy = policy_of(region)
    assert run(region, policy).created == []
    set_clock(clock, "2026-01-02T02:59:59")
    assert run(region, policy).created == []
    set_clock(clock, "2026-01-02T03:00:00")
    assert len(run(region, policy).created) == 1


@pytest.mark.usefixtures("volume_id")
def test_a_schedule_that_was_missed_for_weeks_runs_once(
    region: Region, clock: ManualClock
) -> None:
    policy = policy_of(region)
    clock.advance(40 * 86_400)
    assert len(run(region, policy).created) == 1
    assert run(region, policy).created == []


def test_a_snapshot_carries_the_policy_s_tags_and_those_asked_for(
    region: Region, clock: ManualClock, volume_id: str
) -> None:
    policy = policy_of(region, CopyTags=True, TagsToAdd=[{"Key": "by", "Value": "dlm"}])
    clock.advance(86_400)
    run(region, policy)
    (snapshot,) = kept(region)
    assert snapshot.volume_id == volume_id
    assert snapshot.tags == {
        "backup": "yes",
        "team": "a",
        "by": "dlm",
        "aws:dlm:lifecycle-policy-id": policy.policy_id,
        "aws:dlm:lifecycle-schedule-name": "daily",
        "dlm:managed": "true",
    }
    assert snapshot.description == f"Created for policy: {policy.policy_id} schedule: daily"


@pytest.mark.usefixtures("volume_id")
def test_its_snapshots_can_be_tagged_and_their_reserved_tags_stay(
    region: Region, clock: ManualClock
) -> None:
    policy = policy_of(region)
    clock.advance(86_400)
    (snapshot_id,) = run(region, policy).created
    tagged = tag_snapshot(region, snapshot_id, {"mine": "x"})
    assert {"mine", "aws:dlm:lifecycle-policy-id"} <= set(tagged.tags)


@pytest.mark.slow
@pytest.mark.usefixtures("volume_id")
def test_months_of_a_monthly_cron_with_an_age(region: Region, clock: ManualClock) -> None:
    policy = policy_of(
        region,
        CreateRule={"CronExpression": "cron(0 4 L * ? *)"},
        RetainRule={"Interval": 6, "IntervalUnit": "MONTHS"},
    )
    time, taken = datetime.fromisoformat(START), []
    while time < datetime(2027, 3, 1):  # noqa: DTZ001 (counted in days)
        time += timedelta(days=1)
        set_clock(clock, time.isoformat())
        if run(region, policy).created:
            taken.append(f"{time:%m-%d}")
    assert taken == [
        *("01-31", "02-28", "03-31", "04-30", "05-31", "06-30", "07-31", "08-31", "09-30"),
        *("10-31", "11-30", "12-31", "01-31", "02-28"),
    ]
    assert days(region) == ["09-30", "10-31", "11-30", "12-31", "01-31", "02-28"]


@pytest.mark.usefixtures("volume_id")
def test_a_snapshot_that_somebody_deleted_is_not_taken_again(
    region: Region, clock: ManualClock
) -> None:
    policy = policy_of(region)
    clock.advance(86_400)
    delete_snapshots(region, run(region, policy).created)
    assert run(region, policy).created == []


@pytest.mark.usefixtures("volume_id")
def test_a_locked_snapshot_is_kept_until_its_lock_expires(
    region: Region, clock: ManualClock
) -> None:
    policy = policy_of(region, RetainRule={"Count": 1})
    clock.advance(86_400)
    (first,) = run(region, policy).created
    lock_snapshot(region, first, LockRequest(LockMode.GOVERNANCE, duration_days=2))
    clock.advance(86_400)
    done = run(region, policy)
    assert (done.locked, done.deleted, done.failures) == ([first], [], [])
    clock.advance(86_400 + 3600)
    assert first in run(region, policy).deleted


def test_only_snapshots_of_the_policy_are_deleted(
    region: Region, clock: ManualClock, tmp_path: Path, volume_id: str
) -> None:
    del volume_id
    mine = take(region, tmp_path / "disk")
    policy = policy_of(region, RetainRule={"Count": 1})
    other = policy_of(region, RetainRule={"Interval": 1, "IntervalUnit": "YEARS"})
    for _ in range(3):
        clock.advance(86_400)
        run(region, policy)
        run(region, other)
    assert mine in [one.snapshot_id for one in kept(region)]
    assert len(kept(region)) == 1 + 1 + 3


def test_a_volume_without_the_tag_is_left_alone_and_its_old_snapshots_age(
    region: Region, clock: ManualClock, volume_id: str
) -> None:
    policy = policy_of(region, RetainRule={"Interval": 2, "IntervalUnit": "DAYS"})
    clock.advance(86_400)
    run(region, policy)
    tag_volume(region, volume_id, {"backup": "no"})
    clock.advance(86_400)
    assert run(region, policy).created == []
    assert len(kept(region)) == 1
    clock.advance(2 * 86_400)
    run(region, policy)
    assert kept(region) == []


@pytest.mark.usefixtures("volume_id")
def test_a_policy_that_is_disabled_does_nothing_and_makes_up_for_nothing(
    region: Region, clock: ManualClock
) -> None:
    policy = policy_of(region)
    disabled = change_policy(region, policy.policy_id, state=PolicyState.DISABLED)
    clock.advance(5 * 86_400)
    assert run(region, disabled).created == []
    assert next_due(disabled, to_datetime(clock.now_ns())) is None
    enabled = change_policy(region, policy.policy_id, state=PolicyState.ENABLED)
    assert run(region, enabled).created == []
    assert f"{next_due(enabled, to_datetime(clock.now_ns())):%m-%d %H:%M}" == "01-07 03:00"
    clock.advance(86_400)
    assert len(run(region, enabled).created) == 1


def test_an_instance_is_a_target_by_any_of_its_tags(
    region: Region, clock: ManualClock, volume_id: str
) -> None:
    create_instance(region, "db")
    attach_to_instance(region, volume_id, "db", "/dev/sdf")
    details = {
        **document(),
        "ResourceTypes": ["INSTANCE"],
        "TargetTags": [{"Key": "backup", "Value": "daily"}],
    }
    policy = create_policy(region, PolicyOptions(document=details))
    clock.advance(86_400)
    assert run(region, policy).created == []
    tag_instance(region, "db", {"backup": "daily"})
    clock.advance(86_400)
    assert run(region, policy).failures == []
    assert [one.volume_id for one in kept(region)] == [volume_id]
    detach_from_instance(region, volume_id)


def test_an_instance_s_volumes_are_one_set(
    region: Region, clock: ManualClock, volume_id: str
) -> None:
    instance = create_instance(region, "db")
    others = [
        create_volume(region, VolumeOptions(size_gib=1, tags={"role": role})).volume_id
        for role in ("data", "scratch")
    ]
    for place, one in enumerate([volume_id, *others]):
        attach_to_instance(region, one, "db", f"/dev/sd{'fgh'[place]}")
    details = {
        **document(VariableTags=[{"Key": "of", "Value": "$(instance-id)"}]),
        "ResourceTypes": ["INSTANCE"],
        "TargetTags": [{"Key": "Name", "Value": "db"}],
        "Parameters": {"ExcludeDataVolumeTags": [{"Key": "role", "Value": "scratch"}]},
    }
    policy = create_policy(region, PolicyOptions(document=details))
    clock.advance(86_400)
    assert run(region, policy).failures == []
    assert [one.volume_id for one in kept(region)] == [volume_id, others[0]]
    assert {one.tags["of"] for one in kept(region)} == {instance.instance_id}
    assert run(region, policy).created == []
    for one in [volume_id, *others]:
        detach_from_instance(region, one)


@pytest.mark.usefixtures("volume_id")
def test_a_failure_of_one_target_is_told_and_holds_up_no_other(
    region: Region, clock: ManualClock, tmp_path: Path
) -> None:
    disk = write_disk(tmp_path / "gone", BLOCK, {0: block_bytes(2)})
    snapshot_id = take(region, disk)
    (source,) = (one.volume_id for one in kept(region) if one.snapshot_id == snapshot_id)
    tag_volume(region, source, {"backup": "yes"})
    disk.unlink()
    policy = policy_of(region)
    clock.advance(86_400)
    done = run(region, policy)
    assert len(done.created) == 1
    assert len(done.failures) == 1
    assert source in done.failures[0]
    write_disk(disk, BLOCK, {0: block_bytes(2)})
    assert len(run(region, policy).created) == 1


@pytest.mark.parametrize("survived_count", range(12))
@pytest.mark.usefixtures("volume_id")
def test_a_crash_anywhere_makes_no_second_snapshot(
    region: Region, clock: ManualClock, survived_count: int
) -> None:
    policy = policy_of(region, RetainRule={"Count": 2})
    for _ in range(2):
        clock.advance(86_400)
        run(region, policy)
    clock.advance(86_400)
    dying = replace(region, metadata=DyingMetadata(region.metadata, survived_count))
    try:
        run(dying, policy)
    except Died:
        pass
    else:
        assert survived_count > 8
    done = run(region, policy)
    assert done.failures == []
    assert days(region) == ["01-03", "01-04"]


@pytest.mark.usefixtures("volume_id")
def test_two_processes_never_run_one_policy_at_once(region: Region, clock: ManualClock) -> None:
    policy = policy_of(region)
    clock.advance(86_400)
    files = Files()
    other = files.open_or_create(policy_lock(region, policy))
    files.lock(other)
    assert run(region, policy).created == []
    files.close(other)
    assert len(run(region, policy).created) == 1


@pytest.mark.usefixtures("volume_id")
def test_a_policy_that_is_removed_leaves_its_snapshots(region: Region, clock: ManualClock) -> None:
    policy = policy_of(region)
    clock.advance(86_400)
    run(region, policy)
    delete_policy(region, policy.policy_id)
    assert len(kept(region)) == 1
    with pytest.raises(NotFound):
        change_policy(region, policy.policy_id, description="x")
