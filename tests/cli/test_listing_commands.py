"""``snapshot ls``, ``show``, ``diff``, ``rm`` and ``volume ls`` on a real store."""

import json
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from ebsim.cli.exit_codes import ExitCode
from tests.cli.processes import run_ebsim

MIB = 1 << 20
BLOCK = MIB // 2


class Lineage(NamedTuple):
    """Two snapshots of a disk of 4 MiB; the second changed blocks 1, 2 and 7."""

    home: Path
    first: str
    second: str

    def json(self, *arguments: str) -> Any:
        done = run_ebsim("--output", "json", *arguments, home=self.home)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def lineage(tmp_path: Path) -> Lineage:
    image, home, random = tmp_path / "disk.img", tmp_path / "home", Random(3)
    disk = bytearray(random.randbytes(4 * MIB))
    image.write_bytes(disk)
    first = run_ebsim("snapshot", "create", str(image), "--tag", "n=1", home=home).stdout.strip()
    for index in (1, 2, 7):
        disk[index * BLOCK : index * BLOCK + 16] = random.randbytes(16)
    image.write_bytes(disk)
    second = run_ebsim("snapshot", "create", str(image), "--tag", "n=2", home=home).stdout.strip()
    return Lineage(home, first, second)


def ids(listing: Any) -> list[str]:
    return [snapshot["SnapshotId"] for snapshot in listing["Snapshots"]]


def test_a_listing_is_oldest_first_and_says_what_each_added(lineage: Lineage) -> None:
    listing = lineage.json("snapshot", "ls")
    assert ids(listing) == [lineage.first, lineage.second]
    assert [s["ChangedBlockCount"] for s in listing["Snapshots"]] == [8, 3]


def test_a_table_has_a_line_for_each_snapshot_under_a_header(lineage: Lineage) -> None:
    lines = run_ebsim("snapshot", "ls", "--unique", home=lineage.home).stdout.splitlines()
    assert lines[0].split()[-3:] == ["unique", "shared", "description"]
    assert [line.split()[0] for line in lines[1:]] == [lineage.first, lineage.second]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tag", "n=2"], [1]),
        (["--tag", "n=*"], []),
        (["--filter", "Name=tag:n,Values=*"], [0, 1]),
        (["--state", "completed"], [0, 1]),
        (["--state", "pending"], []),
        (["--volume", "vol-00000000000000000"], []),
    ],
)
def test_a_listing_can_be_narrowed(
    options: list[str], expected: list[int], lineage: Lineage
) -> None:
    both = [lineage.first, lineage.second]
    assert ids(lineage.json("snapshot", "ls", *options)) == [both[index] for index in expected]


def test_an_unknown_filter_is_refused_by_name(lineage: Lineage) -> None:
    done = run_ebsim("snapshot", "ls", "--filter", "Name=colour,Values=red", home=lineage.home)
    assert done.returncode == ExitCode.INVALID_REQUEST
    assert "'colour'" in done.stderr


def test_unique_bytes_are_what_a_dry_run_says_and_a_deletion_frees(lineage: Lineage) -> None:
    listing = lineage.json("snapshot", "ls", "--unique")
    unique = listing["Snapshots"][0]["UniqueBytes"]

    plan = lineage.json("snapshot", "rm", lineage.first, "--dry-run")
    freed = lineage.json("snapshot", "rm", lineage.first)

    assert 3 * BLOCK <= unique < 4 * BLOCK
    assert plan == {"DryRun": True, "FreedBytes": unique, "ChunkCount": freed["ChunkCount"]}
    assert (ids(freed), freed["FreedBytes"]) == ([lineage.first], unique)
    assert ids(lineage.json("snapshot", "ls")) == [lineage.second]


def test_deleting_one_that_does_not_exist_deletes_none(lineage: Lineage) -> None:
    done = run_ebsim("snapshot", "rm", lineage.first, "snap-00000000000000000", home=lineage.home)
    assert (done.returncode, done.stdout) == (ExitCode.NOT_FOUND, "")
    assert ids(lineage.json("snapshot", "ls")) == [lineage.first, lineage.second]


def test_a_shortened_id_is_enough_to_show_a_snapshot(lineage: Lineage) -> None:
    document = lineage.json("snapshot", "show", lineage.second[:12])
    assert document["SnapshotId"] == lineage.second
    assert document["UniqueBytes"] + document["SharedBytes"] > 4 * MIB


def test_showing_a_snapshot_to_people_names_its_tags(lineage: Lineage) -> None:
    lines = run_ebsim("snapshot", "show", lineage.first, home=lineage.home).stdout.splitlines()
    assert ["tags", "n=1"] in [line.split() for line in lines]


def test_a_difference_is_told_in_ranges_of_bytes(lineage: Lineage) -> None:
    document = lineage.json("snapshot", "diff", lineage.first, lineage.second)
    assert document["ChangedRanges"] == [
        {"OffsetBytes": BLOCK, "SizeBytes": 2 * BLOCK},
        {"OffsetBytes": 7 * BLOCK, "SizeBytes": BLOCK},
    ]


def test_a_difference_is_told_block_by_block_if_asked(lineage: Lineage) -> None:
    document = lineage.json("snapshot", "diff", lineage.first, lineage.second, "--blocks")
    assert [block["BlockIndex"] for block in document["ChangedBlocks"]] == [1, 2, 7]


def test_equal_snapshots_differ_nowhere(lineage: Lineage) -> None:
    document = lineage.json("snapshot", "diff", lineage.first, lineage.first)
    assert document["ChangedRanges"] == []


def test_a_difference_is_printed_for_people_under_a_header(lineage: Lineage) -> None:
    done = run_ebsim("snapshot", "diff", lineage.first, lineage.second, home=lineage.home)
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["OffsetBytes", "SizeBytes"],
        [str(BLOCK), str(2 * BLOCK)],
        [str(7 * BLOCK), str(BLOCK)],
    ]


def test_a_volume_says_where_its_disk_is(lineage: Lineage) -> None:
    (volume,) = lineage.json("volume", "ls")["Volumes"]
    assert volume["SourceLocation"] == str(lineage.home.with_name("disk.img"))
    lines = run_ebsim("volume", "ls", home=lineage.home).stdout.splitlines()
    assert lines[1].split()[0] == volume["VolumeId"]
