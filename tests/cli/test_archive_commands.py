"""``ebsim snapshot archive`` and what belongs to it, as real processes."""

import json
from pathlib import Path

from ebsim.cli.exit_codes import ExitCode
from tests.cli.conftest import Store
from tests.cli.processes import run_ebsim


def test_a_snapshot_is_archived_refused_and_restored(store: Store) -> None:
    name, target = store.snapshot_id, store.work / "back.img"
    assert run_ebsim("snapshot", "archive", name, home=store.home).stdout.strip() == name
    refused = run_ebsim("restore", name, str(target), home=store.home)
    assert refused.returncode == ExitCode.CONFLICT
    assert f"ebsim snapshot unarchive {name}" in refused.stderr
    assert f"{name}  archive" in run_ebsim("snapshot", "tiers", home=store.home).stdout
    assert "archived" in run_ebsim("store", "stats", home=store.home).stdout

    done = run_ebsim(
        "--output", "json", "snapshot", "unarchive", name, "--days", "2", home=store.home
    )

    document = json.loads(done.stdout)
    assert document["StorageTier"] == "standard"
    assert document["LastTieringOperationStatus"] == "temporary-restore-completed"
    assert document["RestoreExpiryTime"] > document["ArchivalCompleteTime"]
    assert run_ebsim("restore", name, str(target), home=store.home).returncode == 0
    assert Path(target).read_bytes() == store.image.read_bytes()
