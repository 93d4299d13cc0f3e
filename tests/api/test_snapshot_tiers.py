"""The archive tier, through boto3."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.api.dispatch import Desk
from ebsim.clock import ManualClock, to_datetime
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.waiting import wait_until
from tests.api.conftest import ACCOUNT, OTHER_ACCOUNT, REGION, ClientMaker, busy_threads
from tests.api.refusals import code

DAY_SECONDS = 24 * 3600
WAIT_SECONDS = 60


@pytest.fixture
def region_clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(Random(3).randbytes(1 << 20))
    return path


@pytest.fixture
def taken(region: Region, image: Path) -> str:
    return create_snapshot(replace(region, account_id=ACCOUNT), str(image)).snapshot_id


def status(ec2: Any, snapshot_id: str) -> dict[str, Any]:
    named = [{"Name": "snapshot-id", "Values": [snapshot_id]}]
    (found,) = ec2.describe_snapshot_tier_status(Filters=named)["SnapshotTierStatuses"]
    return dict(found)


def ended(ec2: Any, snapshot_id: str) -> dict[str, Any]:
    """The tier of a snapshot once nothing is under way any more."""

    def is_over() -> bool:
        last = status(ec2, snapshot_id)["LastTieringOperationStatus"]
        return not last.endswith("-in-progress")

    assert wait_until(is_over, WAIT_SECONDS)
    return status(ec2, snapshot_id)


def archive(ec2: Any, snapshot_id: str) -> dict[str, Any]:
    ec2.modify_snapshot_tier(SnapshotId=snapshot_id, StorageTier="archive")
    return ended(ec2, snapshot_id)


def test_a_snapshot_goes_to_the_archive_and_comes_back(
    ec2: Any, taken: str, region: Region, region_clock: ManualClock
) -> None:
    now = to_datetime(region_clock.now_ns())
    begun = ec2.modify_snapshot_tier(SnapshotId=taken, StorageTier="archive")
    assert (begun["SnapshotId"], begun["TieringStartTime"]) == (taken, now)
    archived = ended(ec2, taken)
    assert (archived["StorageTier"], archived["Status"]) == ("archive", "completed")
    assert archived["LastTieringOperationStatus"] == "archival-completed"
    assert (archived["LastTieringProgress"], archived["ArchivalCompleteTime"]) == (100, now)
    (shown,) = ec2.describe_snapshots(SnapshotIds=[taken])["Snapshots"]
    assert shown["StorageTier"] == "archive"

    restoring = ec2.restore_snapshot_tier(SnapshotId=taken, TemporaryRestoreDays=2)
    assert (restoring["RestoreDuration"], restoring["IsPermanentRestore"]) == (2, False)
    back = ended(ec2, taken)
    assert back["LastTieringOperationStatus"] == "temporary-restore-completed"
    assert (back["StorageTier"], back["RestoreExpiryTime"]) == (
        "standard",
        now + timedelta(days=2),
    )

    region_clock.advance(2 * DAY_SECONDS)
    recover(region)
    assert status(ec2, taken)["StorageTier"] == "archive"
    kept = ec2.restore_snapshot_tier(SnapshotId=taken, PermanentRestore=True)
    assert (kept["IsPermanentRestore"], "RestoreDuration" in kept) == (True, False)
    assert ended(ec2, taken)["LastTieringOperationStatus"] == "permanent-restore-completed"
    assert "RestoreExpiryTime" not in status(ec2, taken)


def test_what_is_archived_cannot_be_used(ec2: Any, client: ClientMaker, taken: str) -> None:
    archive(ec2, taken)
    zone = f"{REGION}a"
    assert code(ec2.create_volume, SnapshotId=taken, AvailabilityZone=zone) == "IncorrectState"
    asked = {"SourceRegion": REGION, "SourceSnapshotId": taken}
    assert code(ec2.copy_snapshot, **asked) == "IncorrectState"
    sharing = {
        "SnapshotId": taken,
        "Attribute": "createVolumePermission",
        "OperationType": "add",
        "UserIds": [OTHER_ACCOUNT],
    }
    assert code(ec2.modify_snapshot_attribute, **sharing) == "IncorrectState"
    assert code(client("ebs").list_snapshot_blocks, SnapshotId=taken) == "ValidationException"
    again = {"SnapshotId": taken, "StorageTier": "archive"}
    assert code(ec2.modify_snapshot_tier, **again) == "IncorrectState"
    ec2.delete_snapshot(SnapshotId=taken)


def test_while_it_moves_nothing_else_moves_it(ec2: Any, taken: str, desk: Desk) -> None:
    with busy_threads(desk):
        ec2.modify_snapshot_tier(SnapshotId=taken, StorageTier="archive")
        pending = status(ec2, taken)
        assert pending["LastTieringOperationStatus"] == "archival-in-progress"
        assert (pending["LastTieringProgress"], pending["StorageTier"]) == (0, "standard")
        again = {"SnapshotId": taken, "StorageTier": "archive"}
        assert code(ec2.modify_snapshot_tier, **again) == "IncorrectState"
    assert ended(ec2, taken)["StorageTier"] == "archive"


def test_snapshots_of_others_are_not_there(ec2: Any, client: ClientMaker, taken: str) -> None:
    theirs = client("ec2", OTHER_ACCOUNT)
    missing = "InvalidSnapshot.NotFound"
    assert code(theirs.modify_snapshot_tier, SnapshotId=taken, StorageTier="archive") == missing
    archive(ec2, taken)
    assert code(theirs.restore_snapshot_tier, SnapshotId=taken, PermanentRestore=True) == missing
    assert theirs.describe_snapshot_tier_status()["SnapshotTierStatuses"] == []


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, "MissingParameter"),
        ({"TemporaryRestoreDays": 1, "PermanentRestore": True}, "InvalidParameterCombination"),
        ({"TemporaryRestoreDays": 0}, "InvalidParameterValue"),
        ({"PermanentRestore": True}, "IncorrectState"),
    ],
)
def test_restores_that_make_no_sense(
    asked: dict[str, Any], expected: str, ec2: Any, taken: str
) -> None:
    assert code(ec2.restore_snapshot_tier, SnapshotId=taken, **asked) == expected


def test_the_tier_must_be_named(ec2: Any, taken: str) -> None:
    assert code(ec2.modify_snapshot_tier, SnapshotId=taken) == "MissingParameter"


def test_tiers_are_filtered_and_paged(ec2: Any, region: Region, image: Path) -> None:
    mine = replace(region, account_id=ACCOUNT)
    names = [create_snapshot(mine, str(image)).snapshot_id for _ in range(6)]
    archive(ec2, names[2])
    last = [{"Name": "last-tiering-operation", "Values": ["archival-*"]}]
    found = ec2.describe_snapshot_tier_status(Filters=last)["SnapshotTierStatuses"]
    assert [one["SnapshotId"] for one in found] == [names[2]]
    pages = ec2.get_paginator("describe_snapshot_tier_status").paginate(
        PaginationConfig={"PageSize": 5}
    )
    shown = [[one["SnapshotId"] for one in page["SnapshotTierStatuses"]] for page in pages]
    assert [len(page) for page in shown] == [5, 1]
    assert {name for page in shown for name in page} == set(names)
    unknown = [{"Name": "colour", "Values": ["red"]}]
    assert code(ec2.describe_snapshot_tier_status, Filters=unknown) == "InvalidParameterValue"
    tier = [{"Name": "storage-tier", "Values": ["archive"]}]
    (only,) = ec2.describe_snapshots(OwnerIds=["self"], Filters=tier)["Snapshots"]
    assert only["SnapshotId"] == names[2]
