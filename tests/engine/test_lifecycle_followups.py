"""What a schedule does with its snapshots: copies, shares, archives, keeps ready."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ebsim.clock import ManualClock, from_iso8601
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.fast_restore import list_fast_restores
from ebsim.engine.lifecycle_policies import change_policy
from ebsim.engine.region import Region, open_region
from ebsim.engine.run_lifecycle import run_policy
from ebsim.errors import InvalidRequest
from tests.engine.stores import ACCOUNT, BLOCK, OTHER_ACCOUNT, block_bytes, take, write_disk
from tests.engine.test_lifecycle import START, kept, policy_of, run


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


@pytest.mark.usefixtures("volume_id")
def test_snapshots_are_copied_to_another_region_and_age_there(
    region: Region, clock: ManualClock
) -> None:
    rule = {
        "TargetRegion": "eu-west-1",
        "Encrypted": False,
        "CopyTags": True,
        "RetainRule": {"Interval": 2, "IntervalUnit": "DAYS"},
    }
    policy = policy_of(
        region, CrossRegionCopyRules=[rule], TagsToAdd=[{"Key": "by", "Value": "dlm"}]
    )
    with closing(open_region(region.home, "eu-west-1", ACCOUNT, clock=clock)) as other:

        @contextmanager
        def open_other(name: str) -> Iterator[Region]:
            assert name == "eu-west-1"
            yield other

        for _ in range(4):
            clock.advance(86_400)
            done = run_policy(region, policy, open_other)
            assert (len(done.copied), done.failures) == (1, [])
            again = run_policy(region, policy, open_other)
            assert (again.copied, again.created) == ([], [])
        copies = kept(other)
    assert [copy.copied_from for copy in copies] == [
        f"test/{one.snapshot_id}" for one in kept(region)[-2:]
    ]
    assert copies[0].tags["by"] == "dlm"
    assert copies[0].tags["aws:dlm:lifecycle-policy-id"] == policy.policy_id


@pytest.mark.usefixtures("volume_id")
def test_a_region_that_cannot_be_copied_to_is_told(region: Region, clock: ManualClock) -> None:
    policy = policy_of(
        region, CrossRegionCopyRules=[{"TargetRegion": "eu-west-1", "Encrypted": False}]
    )
    clock.advance(86_400)
    done = run(region, policy)
    assert done.failures == ["daily: eu-west-1: there is no region eu-west-1."]
    assert len(done.created) == 1


@pytest.mark.usefixtures("volume_id")
def test_two_copy_rules_for_one_region_are_refused_and_stop_no_policy_that_has_them(
    region: Region, clock: ManualClock
) -> None:
    rule = {"TargetRegion": "eu-west-1", "Encrypted": False}
    policy = policy_of(region, CrossRegionCopyRules=[rule])
    (schedule,) = policy.document["Schedules"]
    document = {
        **policy.document,
        "Schedules": [{**schedule, "CrossRegionCopyRules": [rule, rule]}],
    }
    with pytest.raises(InvalidRequest, match="two copy rules for one region"):
        change_policy(region, policy.policy_id, document=document)
    clock.advance(86_400)
    done = run(region, replace(policy, document=document))
    assert done.failures == ["daily: eu-west-1: there is no region eu-west-1."] * 2
    assert len(done.created) == 1


@pytest.mark.usefixtures("volume_id")
def test_the_newest_snapshot_is_shared_for_a_while(region: Region, clock: ManualClock) -> None:
    rule = {
        "TargetAccounts": [OTHER_ACCOUNT],
        "UnshareInterval": 2,
        "UnshareIntervalUnit": "DAYS",
    }
    policy = policy_of(region, ShareRules=[rule])
    for _ in range(3):
        clock.advance(86_400)
        assert run(region, policy).failures == []
    assert [one.shared_with for one in kept(region)] == [(), (OTHER_ACCOUNT,), (OTHER_ACCOUNT,)]


@pytest.mark.usefixtures("volume_id")
def test_what_is_not_kept_is_archived_for_a_while(region: Region, clock: ManualClock) -> None:
    tier = {"RetentionArchiveTier": {"Interval": 2, "IntervalUnit": "DAYS"}}
    policy = policy_of(region, RetainRule={"Count": 1}, ArchiveRule={"RetainRule": tier})
    for day in range(5):
        clock.advance(86_400)
        done = run(region, policy)
        assert done.failures == []
        assert (len(done.archived), len(done.deleted)) == (day > 0, day > 2)
    assert [one.is_archived for one in kept(region)] == [True, True, False]


@pytest.mark.usefixtures("volume_id")
def test_the_newest_snapshots_are_kept_ready(region: Region, clock: ManualClock) -> None:
    rule = {"Count": 1, "AvailabilityZones": ["testa", "testb"]}
    policy = policy_of(region, FastRestoreRule=rule)
    for _ in range(2):
        clock.advance(86_400)
        assert run(region, policy).failures == []
        assert run(region, policy).failures == []
    states = {(one.snapshot_id, one.zone): one.state.value for one in list_fast_restores(region)}
    old, new = (one.snapshot_id for one in kept(region))
    assert states == {
        (old, "testa"): "disabling",
        (old, "testb"): "disabling",
        (new, "testa"): "enabling",
        (new, "testb"): "enabling",
    }
