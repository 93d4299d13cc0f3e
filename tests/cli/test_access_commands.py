"""Sharing, locking and the recycle bin from the command line."""

import json

import pytest

from ebsim.cli.exit_codes import ExitCode
from tests.cli.conftest import Store
from tests.cli.in_process import CommandLine

OTHER = "999999999999"


@pytest.fixture
def ebsim(store: Store, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(store.home, capsys)


def documents(ebsim: CommandLine, *arguments: str) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = json.loads(ebsim.told("--output", "json", *arguments))
    return found


def test_a_shared_snapshot_is_listed_and_restored_by_the_other_account(
    ebsim: CommandLine, store: Store
) -> None:
    snapshot_id = store.snapshot_id
    refused = ebsim.run("--account", OTHER, "snapshot", "show", snapshot_id)
    assert refused.returncode == ExitCode.NOT_FOUND
    assert ebsim.told("snapshot", "share", snapshot_id, OTHER) == snapshot_id
    assert OTHER in ebsim.told("snapshot", "show", snapshot_id)
    assert snapshot_id not in ebsim.told("--account", OTHER, "snapshot", "ls")
    assert snapshot_id in ebsim.told("--account", OTHER, "snapshot", "ls", "--shared")
    target = store.work / "restored.img"
    ebsim.told("--account", OTHER, "restore", snapshot_id, str(target))
    assert target.read_bytes() == store.image.read_bytes()
    refused = ebsim.run("--account", OTHER, "snapshot", "rm", snapshot_id)
    assert refused.returncode == ExitCode.CONFLICT
    permissions = documents(ebsim, "snapshot", "share", snapshot_id, "--public")
    assert permissions["CreateVolumePermissions"] == [{"UserId": OTHER}, {"Group": "all"}]
    permissions = documents(ebsim, "snapshot", "unshare", snapshot_id, OTHER)
    assert permissions["CreateVolumePermissions"] == [{"Group": "all"}]
    permissions = documents(ebsim, "snapshot", "unshare", snapshot_id, "--all")
    assert permissions["CreateVolumePermissions"] == []


@pytest.mark.parametrize("arguments", [("share",), ("unshare",), ("unshare", "--all", "--public")])
def test_sharing_with_nobody_in_particular_is_refused(
    ebsim: CommandLine, store: Store, arguments: tuple[str, ...]
) -> None:
    refused = ebsim.run("snapshot", *arguments, store.snapshot_id)
    assert refused.returncode == ExitCode.USAGE


def test_a_locked_snapshot_is_removed_after_it_was_unlocked(
    ebsim: CommandLine, store: Store
) -> None:
    lock = documents(
        ebsim, "snapshot", "lock", store.snapshot_id, "--mode", "governance",
        "--until", "2120-01-31T12:00:00+01:00",
    )  # fmt: skip
    assert (lock["LockState"], lock["LockExpiresOn"]) == (
        "governance",
        "2120-01-31T11:00:00.000Z",
    )
    for options in ((), ("--dry-run",)):
        refused = ebsim.run("snapshot", "rm", store.snapshot_id, *options)
        assert (refused.returncode, refused.stdout) == (ExitCode.CONFLICT, "")
        assert "is locked in governance mode until 2120" in refused.stderr
    ebsim.told("snapshot", "unlock", store.snapshot_id)
    assert ebsim.told("snapshot", "rm", store.snapshot_id) == store.snapshot_id


def test_what_a_rule_keeps_is_restored_from_the_recycle_bin(
    ebsim: CommandLine, store: Store
) -> None:
    rule = ebsim.told("recycle-bin", "rule", "create", "--days", "14", "--tag", "keep=yes")
    volumes = ebsim.told("recycle-bin", "rule", "create", "--of", "volume", "--days", "7")
    volume_id = ebsim.told("volume", "create", "--size", "1")
    ebsim.told("snapshot", "tag", store.snapshot_id, "keep=yes")
    removed = ebsim.run("snapshot", "rm", store.snapshot_id)
    assert removed.stdout.strip() == store.snapshot_id
    assert f"{store.snapshot_id} is in the recycle bin until" in removed.stderr
    ebsim.told("volume", "rm", volume_id)
    assert store.snapshot_id not in ebsim.told("snapshot", "ls")
    listed = ebsim.told("recycle-bin", "ls")
    assert store.snapshot_id in listed
    assert volume_id in listed
    contents = documents(ebsim, "recycle-bin", "ls")
    assert [one["SnapshotId"] for one in contents["Snapshots"]] == [store.snapshot_id]
    assert [one["VolumeId"] for one in contents["Volumes"]] == [volume_id]
    ebsim.told("recycle-bin", "restore", store.snapshot_id, volume_id)
    assert store.snapshot_id in ebsim.told("snapshot", "ls")
    assert volume_id in ebsim.told("volume", "ls")
    refused = ebsim.run("recycle-bin", "restore", store.snapshot_id)
    assert refused.returncode == ExitCode.NOT_FOUND
    ebsim.told("recycle-bin", "rule", "update", rule, "--days", "20", "--description", "more")
    found = {
        one["Identifier"]: one for one in documents(ebsim, "recycle-bin", "rule", "ls")["Rules"]
    }
    assert found.keys() == {rule, volumes}
    assert found[rule]["Description"] == "more"
    assert found[rule]["RetentionPeriod"] == {
        "RetentionPeriodValue": 20, "RetentionPeriodUnit": "DAYS",
    }  # fmt: skip
    ebsim.told("recycle-bin", "rule", "rm", rule)
    assert rule not in ebsim.told("recycle-bin", "rule", "ls")


def test_a_locked_rule_is_not_removed(ebsim: CommandLine) -> None:
    rule = ebsim.told(
        "recycle-bin", "rule", "create", "--days", "1", "--unlock-delay", "7", "--exclude", "a=b"
    )
    assert ebsim.run("recycle-bin", "rule", "rm", rule).returncode == ExitCode.CONFLICT
    ebsim.told("recycle-bin", "rule", "unlock", rule)
    assert "pending_unlock" in ebsim.told("recycle-bin", "rule", "ls")
    assert ebsim.run("recycle-bin", "rule", "rm", rule).returncode == ExitCode.CONFLICT
    other = ebsim.told("recycle-bin", "rule", "create", "--days", "1")
    ebsim.told("recycle-bin", "rule", "lock", other, "--unlock-delay", "30")
    assert ebsim.run("recycle-bin", "rule", "update", other, "--days", "2").returncode == (
        ExitCode.CONFLICT
    )


def test_fast_restore_is_enabled_listed_and_disabled(ebsim: CommandLine, store: Store) -> None:
    assert ebsim.told("fast-restore", "enable", store.snapshot_id[:14]) == store.snapshot_id
    (found,) = documents(ebsim, "fast-restore", "ls")["FastSnapshotRestores"]
    assert (found["AvailabilityZone"], found["State"]) == ("us-east-1a", "enabled")
    assert ebsim.told("volume", "ls").count("vol-") == 1
    assert "enabled" in ebsim.told("fast-restore", "ls")
    ebsim.told("fast-restore", "disable", store.snapshot_id)
    assert "disabled" in ebsim.told("fast-restore", "ls")
    refused = ebsim.run("fast-restore", "disable", store.snapshot_id)
    assert refused.returncode == ExitCode.CONFLICT
