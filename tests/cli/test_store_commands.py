"""``store stats``, ``check``, ``compact`` and ``rebuild`` on a real store."""

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.cli.exit_codes import ExitCode
from tests.cli.processes import run_ebsim

MIB = 1 << 20
BLOCK = MIB // 2


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A store with two snapshots of a disk of 4 MiB, the second with one block changed."""
    image, home, random = tmp_path / "disk.img", tmp_path / "home", Random(3)
    disk = bytearray(random.randbytes(4 * MIB))
    for description in ("first", "second"):
        image.write_bytes(disk)
        done = run_ebsim("snapshot", "create", str(image), "--description", description, home=home)
        assert done.returncode == 0, done.stderr
        disk[:BLOCK] = random.randbytes(BLOCK)
    return home


def document_of(home: Path, *arguments: str, code: int = ExitCode.OK) -> Any:
    done = run_ebsim("--output", "json", *arguments, home=home)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def flip_a_bit(home: Path) -> None:
    """Damage the first record of the larger pack: the first snapshot's first block."""
    packs = (home / "regions" / "us-east-1" / "packs").iterdir()
    pack = max(packs, key=lambda path: path.stat().st_size)
    with pack.open("r+b") as file:
        file.seek(100_000)
        byte = file.read(1)[0]
        file.seek(100_000)
        file.write(bytes([byte ^ 1]))


def listing(home: Path) -> Any:
    return document_of(home, "snapshot", "ls")


def test_stats_count_what_is_stored_and_what_it_saves(home: Path) -> None:
    stats = document_of(home, "store", "stats")
    assert (stats["SnapshotCount"], stats["VolumeCount"], stats["PackCount"]) == (2, 1, 2)
    # Two disks of eight blocks, of which nine are different.
    assert (stats["LogicalBytes"], stats["BlockCount"]) == (8 * MIB, 9)
    assert 1.7 < stats["SavingRatio"] < 16 / 9
    lines = run_ebsim("store", "stats", home=home).stdout.splitlines()
    assert lines[0].split(maxsplit=1) == ["holds", "2 snapshots of 1 volume"]


def test_a_whole_store_checks_clean(home: Path) -> None:
    report = document_of(home, "store", "check", "--read-data")
    assert (report["Damaged"], report["Findings"]) == (False, [])
    assert report["SnapshotCount"] == 2
    assert report["ReadBytes"] > 9 * BLOCK
    assert "all is whole" in run_ebsim("store", "check", home=home).stdout


def test_damage_is_named_with_its_snapshots_and_blocks_and_ends_in_code_8(home: Path) -> None:
    flip_a_bit(home)
    first = listing(home)["Snapshots"][0]["SnapshotId"]

    done = run_ebsim("store", "check", "--read-data", home=home)
    report = document_of(home, "store", "check", "--read-data", code=ExitCode.INTEGRITY_ERROR)

    assert done.returncode == ExitCode.INTEGRITY_ERROR
    assert f"affects {first}, blocks 0" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("ebsim: error: damaged: 1 fault in the region")
    (finding,) = report["Findings"]
    assert (finding["Kind"], finding["Mended"]) == ("chunk", False)
    assert finding["Affects"] == report["Lost"]
    assert report["Lost"] == [
        {"SnapshotId": first, "Whole": False, "BlockRanges": [{"Start": 0, "Stop": 1}]}
    ]


def test_a_repair_says_what_is_lost_for_good(home: Path) -> None:
    flip_a_bit(home)
    report = document_of(
        home, "store", "check", "--read-data", "--repair", code=ExitCode.INTEGRITY_ERROR
    )
    assert report["Damaged"]
    assert [len(lost["BlockRanges"]) for lost in report["Lost"]] == [1]


def test_compaction_gives_back_what_a_deletion_left(home: Path) -> None:
    """Blocks of noise are punched out at once; what is left is small packs to be merged."""
    plan = document_of(home, "store", "compact", "--dry-run")
    before = listing(home)
    done = document_of(home, "store", "compact")
    assert (plan["DryRun"], done["DryRun"]) == (True, False)
    assert done["RewrittenPackCount"] == plan["RewrittenPackCount"]
    assert done["OccupiedBytesBefore"] == plan["OccupiedBytesBefore"]
    assert done["Damage"] == []
    assert listing(home) == before
    assert document_of(home, "store", "check", "--read-data")["Findings"] == []


def test_lost_metadata_is_rebuilt_with_every_snapshot_as_it_was(home: Path) -> None:
    before = listing(home)
    shutil.rmtree(home / "regions" / "us-east-1" / "metadata")

    refused = run_ebsim("snapshot", "ls", home=home)
    report = document_of(home, "store", "rebuild")

    assert refused.returncode == ExitCode.INTEGRITY_ERROR
    assert "Run 'ebsim store rebuild'" in refused.stderr
    assert (report["SnapshotCount"], report["Lost"], report["OldMetadata"]) == (2, [], None)
    assert listing(home) == before


def test_a_rebuild_without_a_store_is_refused(tmp_path: Path) -> None:
    done = run_ebsim("store", "rebuild", home=tmp_path / "none")
    assert (done.returncode, done.stdout) == (ExitCode.NOT_FOUND, "")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("verb", ["stats", "check", "compact"])
def test_nothing_is_made_where_there_is_no_store(verb: str, tmp_path: Path) -> None:
    done = run_ebsim("store", verb, home=tmp_path / "none")
    assert (done.returncode, done.stdout) == (ExitCode.NOT_FOUND, "")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "arguments", [("snapshot", "ls"), ("store", "check"), ("store", "rebuild"), ("volume", "ls")]
)
def test_a_region_that_is_not_there_is_not_made_by_looking(
    arguments: tuple[str, ...], home: Path
) -> None:
    done = run_ebsim("--region", "eu-west-1", *arguments, home=home)
    assert (done.returncode, done.stdout) == (ExitCode.NOT_FOUND, "")
    assert "eu-west-1" in done.stderr
    assert not (home / "regions" / "eu-west-1").exists()
