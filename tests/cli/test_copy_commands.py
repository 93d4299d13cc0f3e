"""``ebsim snapshot copy`` and ``ebsim region``, as real processes."""

import json
from contextlib import closing

from ebsim.cli.exit_codes import ExitCode
from ebsim.cli.settings import DEFAULT_ACCOUNT
from ebsim.engine.region import open_region
from ebsim.engine.restore_snapshot import restore_snapshot
from ebsim.ids import AccountId
from tests.cli.conftest import Store
from tests.cli.processes import run_ebsim


def test_a_copy_is_restored_from_the_other_region(store: Store) -> None:
    done = run_ebsim(
        "snapshot", "copy", store.snapshot_id, "--to-region", "eu-north-1", home=store.home
    )
    assert done.returncode == 0, done.stderr
    assert "4 blocks sent to eu-north-1, 2.00 MiB" in done.stderr
    target = store.work / "copy.img"
    with closing(open_region(store.home, "eu-north-1", AccountId(DEFAULT_ACCOUNT))) as region:
        restore_snapshot(region, done.stdout.strip(), str(target))
    assert target.read_bytes() == store.image.read_bytes()


def test_a_copy_as_json_says_what_it_is(store: Store) -> None:
    done = run_ebsim(
        "--output", "json", "snapshot", "copy", store.snapshot_id, "--to-region", "eu-north-1",
        "--description", "kept", "--tag", "a=b", "--completion-duration", "15", home=store.home,
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert document["VolumeId"] == "vol-ffffffff"
    assert document["CopiedFrom"] == f"us-east-1/{store.snapshot_id}"
    assert (document["TransferType"], document["CompletionDurationMinutes"]) == ("time-based", 15)
    assert (document["Description"], document["Tags"]) == ("kept", [{"Key": "a", "Value": "b"}])


def test_what_cannot_be_copied_makes_no_region(store: Store) -> None:
    for arguments in (
        ("snap-0123456789abcdef0", "--to-region", "eu-north-1"),
        (store.snapshot_id, "--to-region", "eu-north-1", "--completion-duration", "14"),
    ):
        done = run_ebsim("snapshot", "copy", *arguments, home=store.home)
        assert done.returncode in {ExitCode.NOT_FOUND, ExitCode.INVALID_REQUEST}
        assert len(done.stderr.splitlines()) == 1
    assert not (store.home / "regions" / "eu-north-1").exists()


def test_a_region_is_made_listed_and_removed(store: Store) -> None:
    assert run_ebsim("region", "create", "eu-north-1", home=store.home).returncode == 0
    again = run_ebsim("region", "create", "eu-north-1", home=store.home)
    assert again.returncode == ExitCode.CONFLICT

    listed = run_ebsim("--output", "json", "region", "ls", home=store.home)
    names = [region["RegionName"] for region in json.loads(listed.stdout)["Regions"]]
    assert names == ["eu-north-1", "us-east-1"]

    assert run_ebsim("region", "rm", "eu-north-1", home=store.home).returncode == 0
    assert sorted(path.name for path in (store.home / "regions").iterdir()) == ["us-east-1"]
