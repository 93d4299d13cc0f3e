"""Sharing, locking and blocking public access, through boto3."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.clock import ManualClock, to_datetime
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.region import Region
from tests.api.conftest import ACCOUNT, OTHER_ACCOUNT, ClientMaker
from tests.api.refusals import code, refused

ATTRIBUTE = {"Attribute": "createVolumePermission"}
DAY = 86_400


@pytest.fixture
def region_clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def snapshot_id(region: Region, tmp_path: Path) -> str:
    image = tmp_path / "disk.img"
    image.write_bytes(Random(3).randbytes(1 << 20))
    return str(create_snapshot(replace(region, account_id=ACCOUNT), str(image)).snapshot_id)


@pytest.fixture
def other(client: ClientMaker) -> Any:
    return client("ec2", OTHER_ACCOUNT)


def permissions(ec2: Any, snapshot_id: str) -> list[dict[str, str]]:
    found = ec2.describe_snapshot_attribute(SnapshotId=snapshot_id, **ATTRIBUTE)
    return list(found["CreateVolumePermissions"])


def seen(ec2: Any, **params: object) -> list[str]:
    return [one["SnapshotId"] for one in ec2.describe_snapshots(**params)["Snapshots"]]


def test_a_shared_snapshot_is_the_other_account_s_to_find_tag_and_make_volumes_of(
    ec2: Any, other: Any, snapshot_id: str
) -> None:
    assert code(other.describe_snapshots, SnapshotIds=[snapshot_id]) == "InvalidSnapshot.NotFound"
    ec2.modify_snapshot_attribute(
        SnapshotId=snapshot_id, OperationType="add", UserIds=[OTHER_ACCOUNT], **ATTRIBUTE
    )
    assert permissions(ec2, snapshot_id) == [{"UserId": OTHER_ACCOUNT}]
    for params in ({}, {"RestorableByUserIds": ["self"]}, {"OwnerIds": [ACCOUNT]}):
        assert seen(other, **params) == [snapshot_id]
    assert seen(other, OwnerIds=["self"]) == []
    assert seen(ec2, RestorableByUserIds=[OTHER_ACCOUNT]) == [snapshot_id]
    other.create_tags(Resources=[snapshot_id], Tags=[{"Key": "mine", "Value": "yes"}])
    assert seen(other, Filters=[{"Name": "tag:mine", "Values": ["yes"]}]) == [snapshot_id]
    assert seen(ec2, Filters=[{"Name": "tag-key", "Values": ["mine"]}]) == []
    made = other.create_volume(AvailabilityZone="us-east-1a", SnapshotId=snapshot_id)
    assert made["SnapshotId"] == snapshot_id
    ec2.reset_snapshot_attribute(SnapshotId=snapshot_id, **ATTRIBUTE)
    assert permissions(ec2, snapshot_id) == []
    assert seen(other) == []
    assert code(
        other.create_volume, AvailabilityZone="us-east-1a", SnapshotId=snapshot_id
    ) == "InvalidSnapshot.NotFound"  # fmt: skip


def test_only_the_owner_deletes_locks_and_shares(ec2: Any, other: Any, snapshot_id: str) -> None:
    ec2.modify_snapshot_attribute(
        SnapshotId=snapshot_id, CreateVolumePermission={"Add": [{"Group": "all"}]}
    )
    share = {"OperationType": "add", "UserIds": [OTHER_ACCOUNT]}
    for call, params in (
        (other.delete_snapshot, {}),
        (other.lock_snapshot, {"LockMode": "governance", "LockDuration": 1}),
        (other.unlock_snapshot, {}),
        (other.modify_snapshot_attribute, share),
        (other.reset_snapshot_attribute, ATTRIBUTE),
        (other.describe_snapshot_attribute, ATTRIBUTE),
    ):
        assert code(call, SnapshotId=snapshot_id, **params) == "UnauthorizedOperation"
    assert permissions(ec2, snapshot_id) == [{"Group": "all"}]
    assert seen(other, RestorableByUserIds=["all"]) == [snapshot_id]
    ec2.modify_snapshot_attribute(
        SnapshotId=snapshot_id, OperationType="remove", GroupNames=["all"]
    )
    assert code(other.delete_snapshot, SnapshotId=snapshot_id) == "InvalidSnapshot.NotFound"


def test_another_account_s_private_snapshot_is_as_if_it_were_not_there(
    ec2: Any, other: Any, snapshot_id: str
) -> None:
    """Whatever is tried with its id, and nothing of it changes."""
    (before,) = ec2.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"]
    for call, params in (
        (other.modify_snapshot_attribute, {"OperationType": "add", "GroupNames": ["all"]}),
        (other.describe_snapshot_attribute, ATTRIBUTE),
        (other.describe_snapshot_attribute, {"Attribute": "productCodes"}),
        (other.reset_snapshot_attribute, ATTRIBUTE),
        (other.lock_snapshot, {"LockMode": "governance", "LockDuration": 1}),
        (other.unlock_snapshot, {}),
        (other.delete_snapshot, {}),
        (other.restore_snapshot_from_recycle_bin, {}),
    ):
        assert code(call, SnapshotId=snapshot_id, **params) == "InvalidSnapshot.NotFound"
    for call in (other.describe_locked_snapshots, other.list_snapshots_in_recycle_bin):
        assert code(call, SnapshotIds=[snapshot_id]) == "InvalidSnapshot.NotFound"
    tags = [{"Key": "a", "Value": "b"}]
    assert code(other.create_tags, Resources=[snapshot_id], Tags=tags) == (
        "InvalidSnapshot.NotFound"
    )
    assert ec2.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"] == [before]
    assert permissions(ec2, snapshot_id) == []


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"OperationType": "add", "UserIds": ["1234"]}, "InvalidAMIAttributeItemValue"),
        ({"OperationType": "add", "GroupNames": ["everyone"]}, "InvalidAMIAttributeItemValue"),
        (
            {"CreateVolumePermission": {"Add": [{"Group": "everyone"}]}},
            "InvalidAMIAttributeItemValue",
        ),
        (
            {
                "CreateVolumePermission": {
                    "Add": [{"Group": "all"}],
                    "Remove": [{"UserId": ACCOUNT}],
                }
            },
            "InvalidParameterCombination",
        ),
        (
            {"OperationType": "add", "CreateVolumePermission": {"Add": [{"Group": "all"}]}},
            "InvalidParameterCombination",
        ),
        ({"UserIds": [OTHER_ACCOUNT]}, "MissingParameter"),
        ({"OperationType": "add"}, "MissingParameter"),
        ({}, "MissingParameter"),
        (
            {"Attribute": "productCodes", "OperationType": "add", "GroupNames": ["all"]},
            "InvalidParameterValue",
        ),
    ],
)
def test_a_change_of_permissions_that_makes_no_sense_is_refused(
    ec2: Any, snapshot_id: str, params: dict[str, object], expected: str
) -> None:
    assert code(ec2.modify_snapshot_attribute, SnapshotId=snapshot_id, **params) == expected
    assert permissions(ec2, snapshot_id) == []


def test_a_change_of_more_than_500_permissions_is_refused_in_amazon_s_words(
    ec2: Any, snapshot_id: str
) -> None:
    error = refused(
        ec2.modify_snapshot_attribute,
        SnapshotId=snapshot_id,
        OperationType="add",
        UserIds=[f"{number:012}" for number in range(501)],
    )
    assert error.response["Error"]["Message"] == "Modification size must not be greater than 500."


def test_a_dry_run_shares_nothing(ec2: Any, snapshot_id: str) -> None:
    assert code(
        ec2.modify_snapshot_attribute,
        SnapshotId=snapshot_id, OperationType="add", GroupNames=["all"], DryRun=True,
    ) == "DryRunOperation"  # fmt: skip
    assert permissions(ec2, snapshot_id) == []


def test_product_codes_are_none(ec2: Any, snapshot_id: str) -> None:
    found = ec2.describe_snapshot_attribute(SnapshotId=snapshot_id, Attribute="productCodes")
    assert (found["SnapshotId"], found["ProductCodes"]) == (snapshot_id, [])
    assert code(
        ec2.reset_snapshot_attribute, SnapshotId=snapshot_id, Attribute="productCodes"
    ) == "InvalidParameterValue"  # fmt: skip


def test_blocking_public_access_hides_what_is_public_and_refuses_what_is_not_yet(
    ec2: Any, other: Any, snapshot_id: str
) -> None:
    public = {"SnapshotId": snapshot_id, "OperationType": "add", "GroupNames": ["all"]}
    assert ec2.get_snapshot_block_public_access_state()["State"] == "unblocked"
    ec2.modify_snapshot_attribute(**public)
    assert ec2.enable_snapshot_block_public_access(State="block-all-sharing")["State"] == (
        "block-all-sharing"
    )
    found = ec2.get_snapshot_block_public_access_state()
    assert (found["State"], found["ManagedBy"]) == ("block-all-sharing", "account")
    assert seen(other) == []
    assert permissions(ec2, snapshot_id) == [{"Group": "all"}]
    assert code(ec2.modify_snapshot_attribute, **public) == "OperationNotPermitted"
    ec2.enable_snapshot_block_public_access(State="block-new-sharing")
    assert seen(other) == [snapshot_id]
    assert code(ec2.modify_snapshot_attribute, **public) == "OperationNotPermitted"
    assert other.get_snapshot_block_public_access_state()["State"] == "unblocked"
    assert code(ec2.enable_snapshot_block_public_access, State="unblocked") == (
        "InvalidParameterValue"
    )
    assert ec2.disable_snapshot_block_public_access()["State"] == "unblocked"
    ec2.modify_snapshot_attribute(**public)


def test_a_lock_goes_from_cool_off_to_compliance_to_expired(
    ec2: Any, snapshot_id: str, region_clock: ManualClock
) -> None:
    now = to_datetime(region_clock.now_ns())
    locked = ec2.lock_snapshot(
        SnapshotId=snapshot_id, LockMode="compliance", LockDuration=2, CoolOffPeriod=1
    )
    del locked["ResponseMetadata"]
    assert locked == {
        "SnapshotId": snapshot_id,
        "LockState": "compliance-cooloff",
        "LockDuration": 2,
        "CoolOffPeriod": 1,
        "CoolOffPeriodExpiresOn": now + timedelta(hours=1),
        "LockCreatedOn": now,
        "LockExpiresOn": now + timedelta(days=2),
        "LockDurationStartTime": now,
    }
    ec2.unlock_snapshot(SnapshotId=snapshot_id)
    assert code(ec2.unlock_snapshot, SnapshotId=snapshot_id) == "IncorrectState"
    ec2.lock_snapshot(
        SnapshotId=snapshot_id, LockMode="compliance", LockDuration=2, CoolOffPeriod=1
    )
    region_clock.advance(3600)
    for call, params in (
        (ec2.unlock_snapshot, {}),
        (ec2.delete_snapshot, {}),
        (ec2.lock_snapshot, {"LockMode": "governance", "LockDuration": 9}),
        (ec2.lock_snapshot, {"LockMode": "compliance", "LockDuration": 1}),
    ):
        assert code(call, SnapshotId=snapshot_id, **params) == "SnapshotLocked"
    (found,) = ec2.describe_locked_snapshots()["Snapshots"]
    assert (found["LockState"], found["OwnerId"]) == ("compliance", ACCOUNT)
    region_clock.advance(2 * DAY)
    (found,) = ec2.describe_locked_snapshots(SnapshotIds=[snapshot_id])["Snapshots"]
    assert found["LockState"] == "expired"
    ec2.delete_snapshot(SnapshotId=snapshot_id)
    assert ec2.describe_locked_snapshots()["Snapshots"] == []


def test_locked_snapshots_are_filtered_by_the_state_of_their_lock(
    ec2: Any, snapshot_id: str, region_clock: ManualClock
) -> None:
    ec2.lock_snapshot(
        SnapshotId=snapshot_id,
        LockMode="governance",
        ExpirationDate=to_datetime(region_clock.now_ns()) + timedelta(hours=30),
    )
    for values, count in ((["governance", "x"], 1), (["comp*"], 0), (["*"], 1), (["x"], 0)):
        found = ec2.describe_locked_snapshots(
            Filters=[{"Name": "lock-state", "Values": values}], MaxResults=5
        )
        assert len(found["Snapshots"]) == count
    assert code(
        ec2.describe_locked_snapshots, Filters=[{"Name": "colour", "Values": ["x"]}]
    ) == "InvalidParameterValue"  # fmt: skip
    assert code(
        ec2.describe_locked_snapshots, SnapshotIds=[snapshot_id], MaxResults=5
    ) == "InvalidParameterCombination"  # fmt: skip


@pytest.mark.parametrize(
    "params",
    [
        {"LockMode": "governance"},
        {"LockMode": "governance", "LockDuration": 1, "ExpirationDate": "2100-01-01T00:00:00Z"},
        {"LockMode": "governance", "LockDuration": 1, "CoolOffPeriod": 1},
    ],
)
def test_a_lock_of_members_that_do_not_go_together_is_refused(
    ec2: Any, snapshot_id: str, params: dict[str, object]
) -> None:
    assert code(ec2.lock_snapshot, SnapshotId=snapshot_id, **params) == (
        "InvalidParameterCombination"
    )
