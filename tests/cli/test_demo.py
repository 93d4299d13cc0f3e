"""``ebsim demo``, and the commands that it ends with."""

import subprocess
from pathlib import Path

import pytest

from ebsim.cli.demo_disk import Ext4Disk, SyntheticDisk, demo_disk
from tests.cli.processes import command, environment, run_ebsim
from tests.tidy.source_tree import ROOT
from tests.tools import require_tool, run


def run_demo(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The demo in a temporary directory of its own, as somebody who has a home already."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return run_ebsim(
        "demo", *options, home=tmp_path / "home", TMPDIR=str(folder), PYTHONPATH=str(ROOT)
    )


def test_the_demo_does_the_main_job_and_proves_it(tmp_path: Path) -> None:
    done = run_demo(tmp_path)
    assert done.returncode == 0, done.stderr
    shown = [line for line in done.stdout.splitlines() if line.startswith("$ ebsim ")]
    assert [line.split()[2] for line in shown] == ["snapshot"] * 5 + ["restore"]
    assert done.stderr.count("added to the store") == 3
    assert "The same, byte for byte." in done.stdout


def test_the_demo_leaves_the_user_s_own_home_alone(tmp_path: Path) -> None:
    run_demo(tmp_path)
    assert not (tmp_path / "home").exists()


def test_the_commands_to_try_next_work_as_they_are_pasted(tmp_path: Path) -> None:
    text = run_demo(tmp_path).stdout.partition("Try next")[2]
    script = "\n".join(line[2:] for line in text.splitlines() if line.startswith("  "))
    assert script.count("\n") == 5

    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=ROOT, env=environment(PYTHONPATH=str(ROOT)), capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "all is whole" in done.stdout
    assert list((tmp_path / "temporary").iterdir()) == []


def test_the_demo_removes_everything_when_told_to(tmp_path: Path) -> None:
    done = run_demo(tmp_path, "--remove")
    assert done.returncode == 0, done.stderr
    assert "Try next" not in done.stdout
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_demo_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """Nobody reads what it prints: the first line ends it."""
    (tmp_path / "temporary").mkdir()
    with subprocess.Popen(
        command("demo"), cwd=ROOT, env=environment(TMPDIR=str(tmp_path / "temporary")),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.close()
        process.wait()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_the_disk_is_a_sound_ext4_file_system_whose_files_change(tmp_path: Path) -> None:
    e2fsck = require_tool("e2fsck", package="e2fsprogs")
    debugfs = require_tool("debugfs", package="e2fsprogs")
    image = tmp_path / "disk.img"
    disk = demo_disk(image)
    assert isinstance(disk, Ext4Disk)

    disk.make()
    disk.change()
    assert "the demo was here" in run(debugfs, "-R", "cat /notes.txt", image)
    disk.change_again()

    names = run(debugfs, "-R", "ls -p /", image)
    assert ("photo.raw" in names, "notes.txt" in names, "json" in names) == (True, False, True)
    run(e2fsck, "-f", "-n", image)
    assert list(tmp_path.iterdir()) == [image]


def test_without_mke2fs_the_disk_is_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    disk = demo_disk(tmp_path / "disk.img", "/nonexistent")
    assert isinstance(disk, SyntheticDisk)
    states = []
    for step in (disk.make, disk.change, disk.change_again):
        step()
        states.append((tmp_path / "disk.img").read_bytes())
    assert len(set(states)) == 3
    assert len({len(state) for state in states}) == 1
