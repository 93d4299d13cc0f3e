"""Data Lifecycle Manager, through boto3's ``dlm``."""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.clock import ManualClock
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.lifecycle_policies import POLICIES_MAX, get_policy
from ebsim.engine.region import Region
from ebsim.engine.run_lifecycle import run_policy
from tests.api.conftest import ACCOUNT, OTHER_ACCOUNT, REGION, ClientMaker
from tests.api.refusals import code, refused

ROLE = "arn:aws:iam::123456789012:role/AWSDataLifecycleManagerDefaultRole"
DETAILS: dict[str, Any] = {
    "PolicyType": "EBS_SNAPSHOT_MANAGEMENT",
    "ResourceTypes": ["VOLUME"],
    "TargetTags": [{"Key": "backup", "Value": "yes"}],
    "Schedules": [
        {
            "Name": "daily",
            "CopyTags": True,
            "TagsToAdd": [{"Key": "by", "Value": "dlm"}],
            "CreateRule": {"Interval": 24, "IntervalUnit": "HOURS", "Times": ["03:00"]},
            "RetainRule": {"Count": 2},
        }
    ],
}
POLICY = {
    "ExecutionRoleArn": ROLE,
    "Description": "My disks",
    "State": "ENABLED",
    "PolicyDetails": DETAILS,
}


@pytest.fixture
def region_clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def dlm(client: ClientMaker) -> Any:
    return client("dlm")


def test_a_policy_is_what_it_was_made_to_be(dlm: Any) -> None:
    policy_id = dlm.create_lifecycle_policy(**POLICY, Tags={"team": "a"})["PolicyId"]
    policy = dlm.get_lifecycle_policy(PolicyId=policy_id)["Policy"]
    assert policy["PolicyDetails"] == DETAILS
    assert policy["PolicyArn"] == f"arn:aws:dlm:{REGION}:{ACCOUNT}:policy/{policy_id}"
    assert (policy["State"], policy["Description"]) == ("ENABLED", "My disks")
    assert (policy["ExecutionRoleArn"], policy["Tags"]) == (ROLE, {"team": "a"})
    assert policy["DateCreated"] == policy["DateModified"]


def test_filters_choose_policies(dlm: Any) -> None:
    first = dlm.create_lifecycle_policy(**POLICY)["PolicyId"]
    other = {
        **DETAILS,
        "ResourceTypes": ["INSTANCE"],
        "TargetTags": [{"Key": "Name", "Value": "db"}],
    }
    second = dlm.create_lifecycle_policy(
        **{**POLICY, "State": "DISABLED", "PolicyDetails": other}
    )["PolicyId"]

    def found(**filters: Any) -> set[str]:
        return {one["PolicyId"] for one in dlm.get_lifecycle_policies(**filters)["Policies"]}

    assert found() == {first, second}
    assert found(State="DISABLED") == {second}
    assert found(ResourceTypes=["VOLUME"]) == {first}
    assert found(TargetTags=["Name=db"]) == {second}
    assert found(TagsToAdd=["by=dlm"]) == {first, second}
    assert found(TagsToAdd=["by=me"]) == set()
    assert found(PolicyIds=[first]) == {first}


def test_a_policy_is_changed_and_deleted(dlm: Any) -> None:
    policy_id = dlm.create_lifecycle_policy(**POLICY)["PolicyId"]
    dlm.update_lifecycle_policy(PolicyId=policy_id, State="DISABLED", Description="Not now")
    policy = dlm.get_lifecycle_policy(PolicyId=policy_id)["Policy"]
    assert (policy["State"], policy["Description"]) == ("DISABLED", "Not now")
    assert policy["PolicyDetails"] == DETAILS
    dlm.delete_lifecycle_policy(PolicyId=policy_id)
    assert code(dlm.get_lifecycle_policy, PolicyId=policy_id) == "ResourceNotFoundException"
    assert code(dlm.delete_lifecycle_policy, PolicyId=policy_id) == "ResourceNotFoundException"


def test_a_policy_s_own_tags(dlm: Any) -> None:
    policy_id = dlm.create_lifecycle_policy(**POLICY)["PolicyId"]
    arn = dlm.get_lifecycle_policy(PolicyId=policy_id)["Policy"]["PolicyArn"]
    dlm.tag_resource(ResourceArn=arn, Tags={"a": "1", "b": "2"})
    dlm.untag_resource(ResourceArn=arn, TagKeys=["a"])
    assert dlm.list_tags_for_resource(ResourceArn=arn)["Tags"] == {"b": "2"}
    assert code(dlm.tag_resource, ResourceArn=arn, Tags={"aws:x": "1"}) == (
        "InvalidRequestException"
    )
    elsewhere = arn.replace(REGION, "eu-west-1")
    assert code(dlm.list_tags_for_resource, ResourceArn=elsewhere) == "ResourceNotFoundException"


def test_another_account_has_nothing_of_it(dlm: Any, client: ClientMaker) -> None:
    policy_id = dlm.create_lifecycle_policy(**POLICY)["PolicyId"]
    other = client("dlm", OTHER_ACCOUNT)
    assert other.get_lifecycle_policies()["Policies"] == []
    for call in (other.get_lifecycle_policy, other.delete_lifecycle_policy):
        assert code(call, PolicyId=policy_id) == "ResourceNotFoundException"
    # The beginning of an id is none.
    assert code(dlm.get_lifecycle_policy, PolicyId=policy_id[:12]) == "ResourceNotFoundException"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"DeprecateRule": {"Count": 1}}, "DeprecateRule"),
        ({"CreateRule": {"Interval": 5, "IntervalUnit": "HOURS"}}, "1, 2, 3, 4, 6, 8, 12, 24"),
        ({"CreateRule": {"CronExpression": "cron(61 0 * * ? *)   "}}, "cron"),
        ({"RetainRule": {"Count": 0}}, "Count is from 1"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(dlm: Any, change: dict[str, Any], why: str) -> None:
    schedule = {**DETAILS["Schedules"][0], **change}
    details = {**DETAILS, "Schedules": [schedule]}
    error = refused(dlm.create_lifecycle_policy, **{**POLICY, "PolicyDetails": details})
    assert error.response["Error"]["Code"] in {"InvalidRequestException", "ValidationException"}
    assert why in str(error)
    assert dlm.get_lifecycle_policies()["Policies"] == []


def test_default_policies_are_refused_by_name(dlm: Any) -> None:
    error = refused(
        dlm.create_lifecycle_policy,
        **{key: value for key, value in POLICY.items() if key != "PolicyDetails"},
        DefaultPolicy="VOLUME",
    )
    assert "DefaultPolicy" in str(error)


@pytest.mark.slow
def test_an_account_has_so_many_policies(dlm: Any) -> None:
    for _ in range(POLICIES_MAX):
        dlm.create_lifecycle_policy(**POLICY)
    assert code(dlm.create_lifecycle_policy, **POLICY) == "LimitExceededException"


def test_what_it_says_is_done(
    dlm: Any, ec2: Any, region: Region, region_clock: ManualClock, tmp_path: Path
) -> None:
    mine = replace(region, account_id=ACCOUNT)
    image = tmp_path / "disk.img"
    image.write_bytes(Random(1).randbytes(1 << 20))
    volume_id = create_snapshot(mine, str(image)).volume_id
    ec2.create_tags(Resources=[volume_id], Tags=[{"Key": "backup", "Value": "yes"}])
    policy_id = dlm.create_lifecycle_policy(**POLICY)["PolicyId"]

    def no_region(name: str) -> AbstractContextManager[Region]:
        raise AssertionError(name)

    for _ in range(3):
        region_clock.advance(86_400)
        run_policy(mine, get_policy(mine, policy_id), no_region)
    managed = {"Name": "tag:aws:dlm:lifecycle-policy-id", "Values": [policy_id]}
    found = ec2.describe_snapshots(OwnerIds=["self"], Filters=[managed])["Snapshots"]
    assert [one["VolumeId"] for one in found] == [volume_id] * 2
    assert {"Key": "by", "Value": "dlm"} in found[0]["Tags"]
    assert {"Key": "backup", "Value": "yes"} in found[0]["Tags"]
