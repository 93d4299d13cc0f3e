"""The recycle bin, through boto3's ``rbin`` and ``ec2``."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.api.chores import Chores
from ebsim.api.dispatch import Desk
from ebsim.api.regions import Regions
from ebsim.catalog.event_log import newest_events
from ebsim.clock import ManualClock, to_datetime
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.recycle_bin import sweep_recycle_bin
from ebsim.engine.region import Region
from tests.api.conftest import ACCOUNT, OTHER_ACCOUNT, REGION, ClientMaker, Serving
from tests.api.refusals import code, refused
from tests.cli.processes import run_ebsim

DAY = 86_400
TEN_DAYS = {"RetentionPeriodValue": 10, "RetentionPeriodUnit": "DAYS"}
SEVEN_DAYS = {"RetentionPeriodValue": 7, "RetentionPeriodUnit": "DAYS"}
LOCK = {"UnlockDelay": {"UnlockDelayValue": 7, "UnlockDelayUnit": "DAYS"}}
SNAPSHOTS = {"ResourceType": "EBS_SNAPSHOT", "RetentionPeriod": TEN_DAYS}


@pytest.fixture
def region_clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def rbin(client: ClientMaker) -> Any:
    return client("rbin")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(Random(3).randbytes(1 << 20))
    return path


@pytest.fixture
def mine(region: Region) -> Region:
    return replace(region, account_id=ACCOUNT)


def without_metadata(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def reason(error: Any) -> tuple[str, str, int]:
    response = error.response
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    return response["Error"]["Code"], response.get("Reason", ""), status


def test_a_deleted_snapshot_is_listed_and_restored(
    ec2: Any, rbin: Any, mine: Region, image: Path, region_clock: ManualClock
) -> None:
    rbin.create_rule(**SNAPSHOTS)
    tags = {"env": "test"}
    snapshot_id = str(create_snapshot(mine, str(image)).snapshot_id)
    ec2.create_tags(
        Resources=[snapshot_id], Tags=[{"Key": k, "Value": v} for k, v in tags.items()]
    )
    (before,) = ec2.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"]
    ec2.delete_snapshot(SnapshotId=snapshot_id)
    now = to_datetime(region_clock.now_ns())
    (listed,) = ec2.list_snapshots_in_recycle_bin()["Snapshots"]
    assert listed == {
        "SnapshotId": snapshot_id,
        "RecycleBinEnterTime": now,
        "RecycleBinExitTime": now + timedelta(days=10),
        "Description": "",
        "VolumeId": before["VolumeId"],
    }
    assert code(ec2.describe_snapshots, SnapshotIds=[snapshot_id]) == "InvalidSnapshot.NotFound"
    region_clock.advance(10 * DAY - 1)
    restored = ec2.restore_snapshot_from_recycle_bin(SnapshotId=snapshot_id)
    assert (restored["SnapshotId"], restored["State"]) == (snapshot_id, "completed")
    assert ec2.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"] == [before]
    assert ec2.list_snapshots_in_recycle_bin()["Snapshots"] == []
    assert code(ec2.restore_snapshot_from_recycle_bin, SnapshotId=snapshot_id) == (
        "InvalidSnapshot.NotFound"
    )


def test_at_the_end_of_its_time_a_snapshot_is_not_found_in_the_bin(
    ec2: Any, rbin: Any, mine: Region, image: Path, region_clock: ManualClock
) -> None:
    rbin.create_rule(**SNAPSHOTS)
    snapshot_id = str(create_snapshot(mine, str(image)).snapshot_id)
    ec2.delete_snapshot(SnapshotId=snapshot_id)
    region_clock.advance(10 * DAY)
    assert ec2.list_snapshots_in_recycle_bin()["Snapshots"] == []
    for call in (ec2.restore_snapshot_from_recycle_bin, ec2.delete_snapshot):
        assert code(call, SnapshotId=snapshot_id) == "InvalidSnapshot.NotFound"
    sweep_recycle_bin(mine)
    assert not list(mine.backend.names("snapshots"))


def test_the_bin_is_paged_and_each_account_has_its_own(
    ec2: Any, rbin: Any, mine: Region, image: Path, client: ClientMaker, region_clock: ManualClock
) -> None:
    rbin.create_rule(**SNAPSHOTS)
    ids = []
    for _ in range(7):
        ids.append(str(create_snapshot(mine, str(image)).snapshot_id))
        ec2.delete_snapshot(SnapshotId=ids[-1])
        region_clock.advance(1)
    first = ec2.list_snapshots_in_recycle_bin(MaxResults=5)
    second = ec2.list_snapshots_in_recycle_bin(MaxResults=5, NextToken=first["NextToken"])
    assert "NextToken" not in second
    listed = [one["SnapshotId"] for one in first["Snapshots"] + second["Snapshots"]]
    assert listed == ids
    (named,) = ec2.list_snapshots_in_recycle_bin(SnapshotIds=[ids[3]])["Snapshots"]
    assert named["SnapshotId"] == ids[3]
    other = client("ec2", OTHER_ACCOUNT)
    assert other.list_snapshots_in_recycle_bin()["Snapshots"] == []
    for call, params in (
        (other.list_snapshots_in_recycle_bin, {"SnapshotIds": [ids[0]]}),
        (other.restore_snapshot_from_recycle_bin, {"SnapshotId": ids[0]}),
    ):
        assert code(call, **params) == "InvalidSnapshot.NotFound"


def test_a_deleted_volume_is_listed_and_restored(
    ec2: Any, rbin: Any, region_clock: ManualClock
) -> None:
    rbin.create_rule(ResourceType="EBS_VOLUME", RetentionPeriod=SEVEN_DAYS)
    made = ec2.create_volume(
        AvailabilityZone="us-east-1b", Size=3, VolumeType="gp3", Throughput=300
    )
    volume_id = made["VolumeId"]
    (before,) = ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"]
    ec2.delete_volume(VolumeId=volume_id)
    assert code(ec2.describe_volumes, VolumeIds=[volume_id]) == "InvalidVolume.NotFound"
    (listed,) = ec2.list_volumes_in_recycle_bin()["Volumes"]
    now = to_datetime(region_clock.now_ns())
    assert listed["RecycleBinExitTime"] == now + timedelta(days=7)
    assert {name: listed[name] for name in ("VolumeId", "VolumeType", "Size", "Throughput")} == {
        "VolumeId": volume_id, "VolumeType": "gp3", "Size": 3, "Throughput": 300,
    }  # fmt: skip
    assert (listed["AvailabilityZone"], listed["State"]) == ("us-east-1b", "available")
    assert ec2.restore_volume_from_recycle_bin(VolumeId=volume_id)["Return"] is True
    assert ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"] == [before]
    assert code(ec2.restore_volume_from_recycle_bin, VolumeId=volume_id) == (
        "InvalidVolume.NotFound"
    )


def test_a_rule_is_made_changed_found_and_removed(rbin: Any) -> None:
    tags = [{"ResourceTagKey": "keep", "ResourceTagValue": "yes"}]
    made = without_metadata(
        rbin.create_rule(
            **SNAPSHOTS, ResourceTags=tags, Description="x", Tags=[{"Key": "a", "Value": "b"}]
        )
    )
    rule_id = made["Identifier"]
    assert made == {
        "Identifier": rule_id,
        "RetentionPeriod": TEN_DAYS,
        "Description": "x",
        "Tags": [{"Key": "a", "Value": "b"}],
        "ResourceType": "EBS_SNAPSHOT",
        "ResourceTags": tags,
        "ExcludeResourceTags": [],
        "Status": "available",
        "LockState": "unlocked",
        "RuleArn": f"arn:aws:rbin:{REGION}:{ACCOUNT}:rule/{rule_id}",
    }
    changed = without_metadata(
        rbin.update_rule(Identifier=rule_id, RetentionPeriod=SEVEN_DAYS, Description="y")
    )
    del made["Tags"]
    assert changed == {**made, "RetentionPeriod": SEVEN_DAYS, "Description": "y"}
    assert without_metadata(rbin.get_rule(Identifier=rule_id)) == changed
    (listed,) = rbin.list_rules(ResourceType="EBS_SNAPSHOT", ResourceTags=tags)["Rules"]
    assert listed["Identifier"] == rule_id
    assert rbin.list_rules(ResourceType="EBS_VOLUME")["Rules"] == []
    assert rbin.list_rules(ResourceType="EC2_IMAGE")["Rules"] == []
    rbin.delete_rule(Identifier=rule_id)
    assert reason(refused(rbin.get_rule, Identifier=rule_id)) == (
        "ResourceNotFoundException", "RULE_NOT_FOUND", 404,
    )  # fmt: skip


def test_a_rule_s_own_tags_are_set_and_removed(rbin: Any, client: ClientMaker) -> None:
    arn = rbin.create_rule(**SNAPSHOTS)["RuleArn"]
    rbin.tag_resource(ResourceArn=arn, Tags=[{"Key": k, "Value": "v"} for k in "ab"])
    rbin.untag_resource(ResourceArn=arn, TagKeys=["a", "z"])
    assert rbin.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "v"}]
    for stranger in (client("rbin", OTHER_ACCOUNT), client("rbin", region="eu-west-1")):
        assert code(stranger.list_tags_for_resource, ResourceArn=arn) == (
            "ResourceNotFoundException"
        )


def test_a_locked_rule_is_in_an_invalid_state_until_its_unlock_is_over(
    rbin: Any, region_clock: ManualClock
) -> None:
    rule_id = rbin.create_rule(**SNAPSHOTS, LockConfiguration=LOCK)["Identifier"]
    refusals = (
        (rbin.update_rule, {"RetentionPeriod": SEVEN_DAYS}),
        (rbin.delete_rule, {}),
        (rbin.lock_rule, {"LockConfiguration": LOCK}),
    )
    for call, params in refusals:
        assert reason(refused(call, Identifier=rule_id, **params)) == (
            "ConflictException", "INVALID_RULE_STATE", 409,
        )  # fmt: skip
    unlocking = rbin.unlock_rule(Identifier=rule_id)
    end = to_datetime(region_clock.now_ns()) + timedelta(days=7)
    assert (unlocking["LockState"], unlocking["LockEndTime"]) == ("pending_unlock", end)
    assert unlocking["LockConfiguration"] == LOCK
    region_clock.advance(7 * DAY - 1)
    assert code(rbin.delete_rule, Identifier=rule_id) == "ConflictException"
    region_clock.advance(1)
    (listed,) = rbin.list_rules(ResourceType="EBS_SNAPSHOT", LockState="unlocked")["Rules"]
    assert listed["Identifier"] == rule_id
    rbin.delete_rule(Identifier=rule_id)


def test_rules_are_listed_a_page_at_a_time(rbin: Any) -> None:
    made = {rbin.create_rule(**SNAPSHOTS)["Identifier"] for _ in range(5)}
    pages = rbin.get_paginator("list_rules").paginate(
        ResourceType="EBS_SNAPSHOT", PaginationConfig={"PageSize": 2}
    )
    found = [[one["Identifier"] for one in page["Rules"]] for page in pages]
    assert [len(page) for page in found] == [2, 2, 1]
    assert {one for page in found for one in page} == made
    assert reason(refused(rbin.list_rules, ResourceType="EBS_SNAPSHOT", NextToken="_w==")) in (
        ("ValidationException", "INVALID_PAGE_TOKEN", 400),
        ("ValidationException", "", 400),
    )


@pytest.mark.parametrize(
    "params",
    [
        {**SNAPSHOTS, "ResourceType": "EC2_IMAGE"},
        {
            "ResourceType": "EBS_VOLUME",
            "RetentionPeriod": {"RetentionPeriodValue": 8, "RetentionPeriodUnit": "DAYS"},
        },
        {
            **SNAPSHOTS,
            "LockConfiguration": LOCK,
            "ResourceTags": [{"ResourceTagKey": "a", "ResourceTagValue": "b"}],
        },
    ],
)
def test_a_rule_that_there_cannot_be_is_refused(rbin: Any, params: dict[str, object]) -> None:
    assert code(rbin.create_rule, **params) == "ValidationException"
    assert rbin.list_rules(ResourceType="EBS_SNAPSHOT")["Rules"] == []


def test_a_server_s_chores_empty_the_bin_report_locks_and_load_volumes(
    ec2: Any, rbin: Any, desk: Desk, mine: Region, image: Path, region_clock: ManualClock
) -> None:
    rbin.create_rule(**SNAPSHOTS)
    gone, locked = (str(create_snapshot(mine, str(image)).snapshot_id) for _ in range(2))
    ec2.delete_snapshot(SnapshotId=gone)
    ec2.lock_snapshot(SnapshotId=locked, LockMode="governance", LockDuration=1)
    ec2.enable_fast_snapshot_restores(AvailabilityZones=["us-east-1a"], SourceSnapshotIds=[locked])
    region_clock.advance(10 * DAY)
    told: list[str] = []
    assert isinstance(desk.regions, Regions)
    Chores(desk.regions, told.append).run_due()
    assert told == []
    assert [name for name in mine.backend.names("snapshots") if gone in name] == []
    (one,) = ec2.describe_fast_snapshot_restores()["FastSnapshotRestores"]
    assert one["State"] == "enabled"
    found = mine.metadata.read(lambda reader: [event for _, event in newest_events(reader)])
    assert "lockDurationExpiry" in {event.detail.get("event") for event in found}


@pytest.mark.slow
def test_what_a_server_keeps_is_restored_by_the_command_line_and_the_other_way_round(
    serve: Any, image: Path, tmp_path: Path
) -> None:
    """One rule, made through a real server; locks and permissions hold on either side."""
    server: Serving = serve()
    server.client("rbin").create_rule(**SNAPSHOTS)
    ec2 = server.client("ec2")
    first = run_ebsim("snapshot", "create", str(image), home=server.home).stdout.strip()
    ec2.lock_snapshot(SnapshotId=first, LockMode="governance", LockDuration=1)
    refusal = run_ebsim("snapshot", "rm", first, home=server.home)
    assert "is locked in governance mode" in refusal.stderr
    run_ebsim("snapshot", "unlock", first, home=server.home)
    ec2.modify_snapshot_attribute(SnapshotId=first, OperationType="add", UserIds=[OTHER_ACCOUNT])
    ec2.delete_snapshot(SnapshotId=first)
    assert first in run_ebsim("recycle-bin", "ls", home=server.home).stdout
    run_ebsim("recycle-bin", "restore", first, home=server.home)
    restored = tmp_path / "restored.img"
    done = run_ebsim("--account", OTHER_ACCOUNT, "restore", first, str(restored), home=server.home)
    assert done.returncode == 0, done.stderr
    assert restored.read_bytes() == image.read_bytes()
    run_ebsim("snapshot", "rm", first, home=server.home)
    assert ec2.restore_snapshot_from_recycle_bin(SnapshotId=first)["State"] == "completed"
