"""Importing snapshots from disk images."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.api.dispatch import Desk
from ebsim.catalog.snapshot import SnapshotState
from ebsim.engine.import_snapshot import Import, import_snapshot, shown_tasks
from ebsim.engine.list_snapshots import show_snapshot
from ebsim.engine.region import Region
from ebsim.engine.restore_snapshot import restore_snapshot
from ebsim.errors import Conflict
from tests.api.clients import Credentials, connect, make_client
from tests.api.conftest import ACCOUNT
from tests.api.refusals import code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir()
    (made / "disk.raw").write_bytes(Random(5).randbytes(1 << 20))
    (tmp_path / "private.raw").write_bytes(bytes(1 << 20))
    return made


@pytest.fixture
def importer(desk: Desk, keys: Any, folder: Path) -> Any:
    key = keys.create_key(ACCOUNT)
    client = make_client("ec2", Credentials(key.key_id, key.secret))
    return connect(client, replace(desk, import_folder=folder))


def raw(path: Path) -> dict[str, str]:
    return {"Format": "RAW", "Url": f"file://{path}"}


def test_an_image_is_imported(importer: Any, region: Region, folder: Path, tmp_path: Path) -> None:
    asked = {
        "DiskContainer": raw(folder / "disk.raw"),
        "Description": "a disk",
        "ClientToken": "once",
    }
    task_id = importer.import_snapshot(**asked)["ImportTaskId"]
    assert importer.import_snapshot(**asked)["ImportTaskId"] == task_id
    waiter = importer.get_waiter("snapshot_imported")
    waiter.wait(ImportTaskIds=[task_id], WaiterConfig={"Delay": 1})

    (task,) = importer.describe_import_snapshot_tasks()["ImportSnapshotTasks"]
    detail = task["SnapshotTaskDetail"]
    assert (detail["Status"], detail["DiskImageSize"]) == ("completed", float(1 << 20))
    mine = replace(region, account_id=ACCOUNT)
    restore_snapshot(mine, detail["SnapshotId"], str(tmp_path / "back.raw"), thread_count=1)
    assert (tmp_path / "back.raw").read_bytes() == (folder / "disk.raw").read_bytes()
    assert code(importer.cancel_import_task, ImportTaskId=task_id) == "IncorrectState"


@pytest.mark.parametrize(
    "container",
    [
        {"UserBucket": {"S3Bucket": "bucket", "S3Key": "of/disk.raw"}},
        {"Url": "s3://bucket/of/disk.raw"},
        {"Url": "https://bucket.s3.eu-west-1.amazonaws.com/of/disk.raw?X-Amz-Expires=60"},
        {"Url": "https://s3.amazonaws.com/bucket/of/disk.raw"},
    ],
    ids=["bucket", "s3", "host", "path"],
)
def test_an_image_is_imported_from_a_bucket_which_is_a_folder(
    importer: Any, folder: Path, container: dict[str, Any]
) -> None:
    (folder / "bucket" / "of").mkdir(parents=True)
    (folder / "disk.raw").rename(folder / "bucket" / "of" / "disk.raw")
    asked = {"Format": "RAW", **container}
    task_id = importer.import_snapshot(DiskContainer=asked, RoleName="vmimport")["ImportTaskId"]
    importer.get_waiter("snapshot_imported").wait(
        ImportTaskIds=[task_id], WaiterConfig={"Delay": 1}
    )
    (task,) = importer.describe_import_snapshot_tasks()["ImportSnapshotTasks"]
    detail = task["SnapshotTaskDetail"]
    assert detail["DiskImageSize"] == float(1 << 20)
    assert {name: detail[name] for name in ("Url", "UserBucket") if name in detail} == container


def test_an_image_is_in_one_place_and_that_below_the_folder(importer: Any, folder: Path) -> None:
    assert folder.parent.joinpath("private.raw").exists()

    def refused(**container: Any) -> str:
        return code(importer.import_snapshot, DiskContainer={"Format": "RAW", **container})

    up = {"S3Bucket": "..", "S3Key": "private.raw"}
    assert refused(UserBucket=up) == "InvalidParameter"
    for key in ("../../private.raw", "/etc/passwd"):
        asked = {"S3Bucket": "b", "S3Key": key}
        assert refused(UserBucket=asked) == "InvalidParameter"
    assert refused(UserBucket={"S3Bucket": "b"}) == "MissingParameter"
    assert refused(Url="s3://../private.raw") == "InvalidParameter"
    assert refused(Url="https://s3.amazonaws.com/%2e%2e/private.raw") == "InvalidParameter"
    assert refused(Url="https://s3.amazonaws.com.example.com/b/k") == "InvalidParameter"
    assert refused(Url="https://[bucket/k") == "InvalidParameter"
    assert refused() == "InvalidParameterCombination"
    assert refused(Url="s3://b/k", UserBucket=up) == "InvalidParameterCombination"


def test_only_files_in_the_folder_are_imported(importer: Any, folder: Path) -> None:
    (folder / "link.raw").symlink_to(folder.parent / "private.raw")
    for path in (
        folder.parent / "private.raw",
        folder / ".." / "private.raw",
        folder / "link.raw",
        folder / "missing.raw",
        folder,
    ):
        assert code(importer.import_snapshot, DiskContainer=raw(path)) == "InvalidParameter"
    elsewhere = {"Format": "RAW", "Url": "https://example.com/disk.raw"}
    assert code(importer.import_snapshot, DiskContainer=elsewhere) == "InvalidParameter"
    unknown = {**raw(folder / "disk.raw"), "Format": "ISO"}
    assert code(importer.import_snapshot, DiskContainer=unknown) == "InvalidParameter"
    assert importer.describe_import_snapshot_tasks()["ImportSnapshotTasks"] == []


@pytest.mark.parametrize("name", ["a" * 5000, "a%00b", "circle", "disk.raw/below"])
def test_what_no_file_can_be_called_is_no_file(importer: Any, folder: Path, name: str) -> None:
    (folder / "circle").symlink_to(folder / "circle")
    asked = {"Format": "RAW", "Url": f"s3://bucket/../{name}"}
    assert code(importer.import_snapshot, DiskContainer=asked) == "InvalidParameter"


def test_a_server_without_a_folder_imports_nothing(ec2: Any, folder: Path) -> None:
    asked = raw(folder / "disk.raw")
    assert code(ec2.import_snapshot, DiskContainer=asked) == "UnsupportedOperation"


def test_an_import_that_is_cancelled_leaves_a_failed_snapshot_and_a_task_that_says_why(
    region: Region, folder: Path
) -> None:
    mine = replace(region, account_id=ACCOUNT)
    wanted = Import(folder / "disk.raw", "RAW", "file://x", "a disk", {})
    told: list[Any] = []

    with pytest.raises(Conflict, match="cancelled"):
        import_snapshot(mine, wanted, told.append, lambda task_id: bool(task_id))

    (shown,) = shown_tasks(mine)
    assert (shown.task.task_id, shown.status) == (told[0].task_id, "deleted")
    assert "cancelled" in shown.message
    assert show_snapshot(mine, told[0].snapshot_id).state is SnapshotState.ERROR
