"""``restore`` and ``snapshot verify`` on a real store."""

import json
import os
import subprocess
from pathlib import Path
from random import Random

import pytest

from ebsim.cli.exit_codes import ExitCode
from tests.cli.processes import command, environment, pseudo_terminal, run_ebsim
from tests.tidy.source_tree import ROOT

# No multiple of a block or a sector.
DISK = Random(5).randbytes(3_000_001) + bytes(5_000_000) + b"the end"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def snapshot_id(home: Path, tmp_path: Path) -> str:
    image = tmp_path / "disk.img"
    image.write_bytes(DISK)
    return run_ebsim("snapshot", "create", str(image), home=home).stdout.strip()


def test_a_restored_file_is_the_disk_byte_for_byte(
    home: Path, snapshot_id: str, tmp_path: Path
) -> None:
    target = tmp_path / "restored.img"
    done = run_ebsim(
        "--output", "json", "restore", snapshot_id, str(target), "--verify", home=home
    )
    assert done.returncode == 0, done.stderr
    assert target.read_bytes() == DISK
    document = json.loads(done.stdout)
    assert (document["SizeBytes"], document["Verified"]) == (len(DISK), True)


def test_standard_output_gets_the_disk_and_nothing_else(home: Path, snapshot_id: str) -> None:
    done = subprocess.run(
        command("--output", "json", "restore", snapshot_id, "-"),
        cwd=ROOT, env=environment(home), capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == DISK


def test_a_reader_that_goes_away_ends_the_restore_quietly(home: Path, snapshot_id: str) -> None:
    with subprocess.Popen(
        command("restore", snapshot_id, "-"),
        cwd=ROOT, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10) == DISK[:10]
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == ExitCode.OUTPUT_CLOSED


def test_a_terminal_gets_no_disk(home: Path, snapshot_id: str) -> None:
    ours, theirs = pseudo_terminal()
    done = subprocess.run(
        command("restore", snapshot_id, "-"),
        cwd=ROOT, env=environment(home), stdout=theirs, stderr=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    os.close(theirs)
    os.close(ours)
    assert done.returncode == ExitCode.TARGET_UNUSABLE
    assert "is a terminal" in done.stderr


def test_a_file_that_exists_is_overwritten_only_by_force(
    home: Path, snapshot_id: str, tmp_path: Path
) -> None:
    target = tmp_path / "precious.txt"
    target.write_text("precious")

    refused = run_ebsim("restore", snapshot_id, str(target), home=home)

    assert (refused.returncode, target.read_text()) == (ExitCode.TARGET_UNUSABLE, "precious")
    assert run_ebsim("restore", snapshot_id, str(target), "--force", home=home).returncode == 0
    assert target.read_bytes() == DISK


def test_a_whole_snapshot_is_said_to_be_whole(home: Path, snapshot_id: str) -> None:
    done = run_ebsim("snapshot", "verify", snapshot_id, home=home)
    assert done.returncode == 0
    assert done.stdout.split()[0] == snapshot_id
    assert done.stdout.split()[-1] == "whole"


def test_damage_is_named_by_block_and_ends_in_code_8(home: Path, snapshot_id: str) -> None:
    (pack,) = (home / "regions" / "us-east-1" / "packs").iterdir()
    with pack.open("r+b") as file:
        file.seek(100_000)
        byte = file.read(1)[0]
        file.seek(100_000)
        file.write(bytes([byte ^ 1]))

    done = run_ebsim("--output", "json", "snapshot", "verify", snapshot_id, home=home)

    (report,) = json.loads(done.stdout)["Snapshots"]
    assert done.returncode == ExitCode.INTEGRITY_ERROR
    assert [block["BlockIndex"] for block in report["DamagedBlocks"]] == [0]
    assert report["DamagedBlockCount"] == 1
