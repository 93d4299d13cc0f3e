"""CopySnapshot, through boto3, between regions and accounts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.api.dispatch import Desk
from ebsim.catalog.records import find_snapshot, put_snapshot
from ebsim.catalog.snapshot import SnapshotState
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.region import Region
from ebsim.engine.restore_snapshot import restore_snapshot
from ebsim.ids import SnapshotId
from ebsim.metadata.transactions import Transaction
from ebsim.waiting import wait_until
from tests.api.conftest import (
    ACCOUNT,
    OTHER_ACCOUNT,
    REGION,
    ClientMaker,
    Serving,
    busy_threads,
)
from tests.api.refusals import code, refused
from tests.cli.processes import run_ebsim

ELSEWHERE = "eu-north-1"
WAIT_SECONDS = 60


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(Random(3).randbytes(1 << 20))
    return path


@pytest.fixture
def taken(region: Region, image: Path) -> str:
    return create_snapshot(replace(region, account_id=ACCOUNT), str(image)).snapshot_id


@pytest.fixture
def there(client: ClientMaker) -> Any:
    """A client of the region that is copied to."""
    return client("ec2", ACCOUNT, ELSEWHERE)


def row(ec2: Any, snapshot_id: str) -> dict[str, Any]:
    (found,) = ec2.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"]
    return dict(found)


def ended(ec2: Any, snapshot_id: str) -> dict[str, Any]:
    """The row of a copy once it is not pending any more."""
    assert wait_until(lambda: row(ec2, snapshot_id)["State"] != "pending", WAIT_SECONDS)
    return row(ec2, snapshot_id)


def content(desk: Desk, region_name: str, snapshot_id: str, folder: Path) -> bytes:
    region = desk.regions.region(region_name, create=False)
    target = folder / "restored.img"
    restore_snapshot(replace(region, account_id=ACCOUNT), snapshot_id, str(target), force=True)
    return target.read_bytes()


def test_a_copy_becomes_what_its_source_is(
    desk: Desk, there: Any, taken: str, image: Path, tmp_path: Path
) -> None:
    made = there.copy_snapshot(
        SourceRegion=REGION,
        SourceSnapshotId=taken,
        Description="kept",
        CompletionDurationMinutes=30,
        TagSpecifications=[{"ResourceType": "snapshot", "Tags": [{"Key": "a", "Value": "b"}]}],
    )
    assert made["Tags"] == [{"Key": "a", "Value": "b"}]

    copy = ended(there, made["SnapshotId"])

    assert (copy["State"], copy["Progress"]) == ("completed", "100%")
    assert (copy["VolumeId"], copy["OwnerId"]) == ("vol-ffffffff", ACCOUNT)
    assert (copy["Description"], copy["Tags"]) == ("kept", made["Tags"])
    assert (copy["TransferType"], copy["CompletionDurationMinutes"]) == ("time-based", 30)
    assert (copy["VolumeSize"], copy["FullSnapshotSizeInBytes"]) == (1, 1 << 20)
    assert "StateMessage" not in copy
    assert content(desk, ELSEWHERE, made["SnapshotId"], tmp_path) == image.read_bytes()


def test_what_boto3_and_terraform_send_along_is_tolerated(there: Any, taken: str) -> None:
    made = there.copy_snapshot(
        SourceRegion=REGION,
        SourceSnapshotId=taken,
        DestinationRegion=ELSEWHERE,
        PresignedUrl="https://ec2.us-east-1.amazonaws.com/?Action=CopySnapshot&X-Amz-Signature=0",
        Encrypted=False,
    )
    assert ended(there, made["SnapshotId"])["State"] == "completed"


def test_within_a_region_a_copy_is_made_too(ec2: Any, taken: str) -> None:
    made = ec2.copy_snapshot(SourceRegion=REGION, SourceSnapshotId=taken)
    assert ended(ec2, made["SnapshotId"])["State"] == "completed"
    assert ec2.describe_snapshots(Filters=[{"Name": "volume-id", "Values": ["vol-ffffffff"]}])[
        "Snapshots"
    ] == [row(ec2, made["SnapshotId"])]


def test_a_pending_copy_knows_nothing_yet(there: Any, taken: str, desk: Desk) -> None:
    with busy_threads(desk):
        asked = {"SourceRegion": REGION, "SourceSnapshotId": taken}
        made = there.copy_snapshot(**asked)["SnapshotId"]
        pending = row(there, made)
    assert pending["State"] == "pending"
    assert pending["StateMessage"] == "Metadata not updated"
    assert (pending["VolumeSize"], pending["Encrypted"]) == (0, False)
    assert pending["VolumeId"] == "vol-ffffffff"
    assert ended(there, made)["VolumeSize"] == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("snap-0123456789abcdef0", "Source snapshot is not found"),
        ("pending", "Source snapshot is not complete"),
        ("another's", "Source snapshot is not found"),
    ],
)
def test_a_copy_of_what_cannot_be_copied_is_accepted_and_fails(
    source: str, message: str, there: Any, client: ClientMaker, region: Region, taken: str
) -> None:
    if source == "pending":
        make_pending(region, taken)
        source = taken
    if source == "another's":
        there, source = client("ec2", OTHER_ACCOUNT, ELSEWHERE), taken
    made = there.copy_snapshot(SourceRegion=REGION, SourceSnapshotId=source)
    copy = row(there, made["SnapshotId"])
    assert (copy["State"], copy["StateMessage"]) == ("error", message)
    there.delete_snapshot(SnapshotId=made["SnapshotId"])


def test_from_the_wrong_region_nothing_is_found(there: Any, taken: str) -> None:
    made = there.copy_snapshot(SourceRegion="ap-south-1", SourceSnapshotId=taken)
    assert row(there, made["SnapshotId"])["StateMessage"] == "Source snapshot is not found"


def test_an_account_copies_what_is_shared_with_it(
    ec2: Any, client: ClientMaker, taken: str
) -> None:
    ec2.modify_snapshot_attribute(
        SnapshotId=taken,
        Attribute="createVolumePermission",
        OperationType="add",
        UserIds=[OTHER_ACCOUNT],
    )
    theirs = client("ec2", OTHER_ACCOUNT, ELSEWHERE)
    made = theirs.copy_snapshot(SourceRegion=REGION, SourceSnapshotId=taken)
    assert ended(theirs, made["SnapshotId"])["OwnerId"] == OTHER_ACCOUNT
    mine = client("ec2", ACCOUNT, ELSEWHERE)
    asked = {"SnapshotIds": [made["SnapshotId"]]}
    assert code(mine.describe_snapshots, **asked) == "InvalidSnapshot.NotFound"


@pytest.mark.parametrize(
    ("changes", "expected", "message"),
    [
        (
            {"SourceSnapshotId": "snap-x"},
            "InvalidParameterValue",
            "The specified snapshotId is invalid",
        ),
        ({"SourceRegion": "nowhere-1"}, "InvalidRegion", "nowhere-1"),
        ({"Encrypted": True}, "UnsupportedParameter", "Encrypted"),
        ({"KmsKeyId": "alias/x"}, "UnsupportedParameter", "KmsKeyId"),
        ({"DestinationAvailabilityZone": "eu-north-1a"}, "UnsupportedParameter", "Zone"),
        (
            {"CompletionDurationMinutes": 14},
            "InvalidParameterValue",
            "'14' is not a valid value for completion duration. Specify a value between 15 and "
            "2880 minutes, in 15 minute increments only",
        ),
    ],
)
def test_what_is_refused_at_once(
    changes: dict[str, Any], expected: str, message: str, there: Any, taken: str
) -> None:
    asked = {"SourceRegion": REGION, "SourceSnapshotId": taken, **changes}
    error = refused(there.copy_snapshot, **asked).response["Error"]
    assert error["Code"] == expected
    assert message in error["Message"]
    assert there.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []


def test_more_than_twenty_copies_at_once_are_refused(there: Any, taken: str, desk: Desk) -> None:
    asked = {"SourceRegion": REGION, "SourceSnapshotId": taken}
    with busy_threads(desk):
        made = [there.copy_snapshot(**asked)["SnapshotId"] for _ in range(20)]
        assert code(there.copy_snapshot, **asked) == "ResourceLimitExceeded"
    assert {ended(there, one)["State"] for one in made} == {"completed"}


@pytest.mark.slow
def test_a_killed_server_leaves_no_copy_pending(
    serve: Callable[..., Serving], tmp_path: Path
) -> None:
    """What it had acknowledged is completed, or listed as failed."""
    image = tmp_path / "large.img"
    image.write_bytes(Random(5).randbytes(24 << 20))
    serving = serve()
    taken = run_ebsim("snapshot", "create", str(image), home=serving.home).stdout.strip()
    ec2 = serving.client("ec2")
    made = ec2.copy_snapshot(SourceRegion=REGION, SourceSnapshotId=taken)["SnapshotId"]
    serving.process.kill()
    serving.process.communicate()
    assert run_ebsim("store", "check", home=serving.home).returncode == 0

    again = serve()

    assert row(again.client("ec2"), made)["State"] in {"completed", "error"}


def make_pending(region: Region, snapshot_id: str) -> None:
    def change(txn: Transaction) -> None:
        found = find_snapshot(txn, SnapshotId(snapshot_id))
        assert found is not None
        put_snapshot(txn, replace(found, state=SnapshotState.PENDING, root=None))

    region.metadata.run(change)
