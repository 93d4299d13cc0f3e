"""``ebsim snapshot`` and ``ebsim import`` on real files, as real processes."""

import json
import os
import subprocess
from pathlib import Path
from random import Random

import pytest

from ebsim.cli.exit_codes import ExitCode
from ebsim.cli.option_types import FORMATS
from ebsim.sources.image_format import ImageFormat
from tests.cli.processes import command, environment, pseudo_terminal, run_ebsim
from tests.tidy.source_tree import ROOT

MIB = 1 << 20


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk of 4 MiB, the first two of them data."""
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.write(Random(7).randbytes(2 * MIB))
        file.truncate(4 * MIB)
    return path


def test_a_snapshot_s_id_is_the_only_thing_on_standard_output(home: Path, image: Path) -> None:
    done = run_ebsim("snapshot", "create", str(image), home=home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("snap-")
    assert len(done.stdout.split()) == 1
    assert "4 blocks changed" in done.stderr


def test_quiet_leaves_standard_error_empty(home: Path, image: Path) -> None:
    done = run_ebsim("-q", "snapshot", "create", str(image), home=home)
    assert (done.returncode, done.stderr) == (0, "")


def test_one_source_gives_one_snapshot_object_in_amazon_s_shape(home: Path, image: Path) -> None:
    done = run_ebsim(
        "--output", "json", "snapshot", "create", str(image), "--tag", "env=test",
        "--description", "first", home=home,
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert (document["State"], document["Progress"]) == ("completed", "100%")
    assert (document["Description"], document["Tags"]) == (
        "first",
        [{"Key": "env", "Value": "test"}],
    )
    assert (document["SizeBytes"], document["VolumeSize"]) == (4 * MIB, 1)
    assert "ParentSnapshotId" not in document


def test_several_sources_give_a_list_and_the_second_of_a_disk_stores_nothing(
    home: Path, image: Path
) -> None:
    done = run_ebsim("--output", "json", "snapshot", "create", str(image), str(image), home=home)
    first, second = json.loads(done.stdout)["Snapshots"]
    assert second["ParentSnapshotId"] == first["SnapshotId"]
    assert second["VolumeId"] == first["VolumeId"]
    assert (first["ChangedBlockCount"], second["ChangedBlockCount"]) == (4, 0)
    assert second["StoredBytes"] == 0


def test_snapshots_taken_before_a_source_that_fails_are_printed(home: Path, image: Path) -> None:
    missing = image.with_name("missing.img")
    done = run_ebsim("--output", "json", "snapshot", "create", str(image), str(missing), home=home)
    assert done.returncode == ExitCode.SOURCE_UNUSABLE
    assert len(json.loads(done.stdout)["Snapshots"]) == 1
    assert str(missing) in done.stderr.splitlines()[-1]


def test_a_disk_is_piped_in(home: Path, image: Path) -> None:
    done = subprocess.run(
        command("--output", "json", "snapshot", "create", "-"),
        cwd=ROOT, env=environment(home), input=image.read_bytes(), capture_output=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["SizeBytes"] == 4 * MIB


def test_an_empty_pipe_is_refused(home: Path) -> None:
    done = run_ebsim("snapshot", "create", "-", home=home)
    assert (done.returncode, done.stdout) == (ExitCode.SOURCE_UNUSABLE, "")
    assert "standard input is empty" in done.stderr


def test_a_terminal_is_no_disk(home: Path) -> None:
    ours, theirs = pseudo_terminal()
    done = subprocess.run(
        command("snapshot", "create", "-"),
        cwd=ROOT, env=environment(home), stdin=theirs, capture_output=True, text=True, check=False,
    )  # fmt: skip
    os.close(ours)
    os.close(theirs)
    assert done.returncode == ExitCode.SOURCE_UNUSABLE
    assert "is a terminal" in done.stderr


@pytest.mark.parametrize(
    ("options", "code", "part"),
    [
        (["--block-size", "5000"], ExitCode.INVALID_REQUEST, "power of two"),
        (["--tag", "aws:x=1"], ExitCode.INVALID_REQUEST, "reserved"),
        (["--tag", "a=1", "--tag", "a=2"], ExitCode.USAGE, "given twice"),
        (["--description", "x" * 256], ExitCode.INVALID_REQUEST, "256 characters"),
    ],
)
def test_a_senseless_option_takes_no_snapshot(
    options: list[str], code: ExitCode, part: str, home: Path, image: Path
) -> None:
    done = run_ebsim("snapshot", "create", str(image), *options, home=home)
    assert (done.returncode, done.stdout) == (code, "")
    assert part in done.stderr
    assert done.stderr.count("\n") == 1


def test_tags_are_set_and_removed(home: Path, image: Path) -> None:
    snapshot_id = run_ebsim("snapshot", "create", str(image), home=home).stdout.strip()
    run_ebsim("snapshot", "tag", snapshot_id, "env=test", "keep=yes", home=home)

    done = run_ebsim("--output", "json", "snapshot", "untag", snapshot_id, "env", home=home)

    assert json.loads(done.stdout)["Tags"] == [{"Key": "keep", "Value": "yes"}]


@pytest.mark.parametrize(
    ("name", "code"),
    [("snap-00000000000000000", ExitCode.NOT_FOUND), ("disk.img", ExitCode.INVALID_REQUEST)],
)
def test_an_unknown_or_malformed_snapshot_is_refused(
    name: str, code: ExitCode, home: Path, image: Path
) -> None:
    run_ebsim("snapshot", "create", str(image), home=home)
    done = run_ebsim("snapshot", "tag", name, "a=b", home=home)
    assert (done.returncode, done.stdout) == (code, "")
    assert name in done.stderr


def test_a_home_that_is_not_there_is_not_made_by_a_command_that_only_looks(home: Path) -> None:
    done = run_ebsim("snapshot", "tag", "snap-1", "a=b", home=home)
    assert done.returncode == ExitCode.NOT_FOUND
    assert str(home) in done.stderr
    assert not home.exists()


def test_a_region_s_name_cannot_leave_the_home(home: Path, image: Path) -> None:
    done = run_ebsim("--region", "../elsewhere", "snapshot", "create", str(image), home=home)
    assert done.returncode == ExitCode.INVALID_REQUEST
    assert "../elsewhere" in done.stderr


def test_importing_a_raw_image_is_taking_a_snapshot_of_it(home: Path, image: Path) -> None:
    done = run_ebsim(
        "--output", "json", "import", str(image), "--format", "raw", "--tag", "a=b", home=home
    )
    assert json.loads(done.stdout)["ChangedBlockCount"] == 4


def test_the_formats_offered_are_those_that_can_be_read() -> None:
    assert tuple(ImageFormat) == FORMATS
