"""``ebsim mount`` as a process of its own: what it shows, what it keeps in use, how it ends."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from ebsim.cli.exit_codes import ExitCode
from ebsim.waiting import wait_until
from tests.cli.conftest import Store
from tests.cli.in_process import CommandLine
from tests.cli.processes import run_ebsim
from tests.tools import require_fuse, run

pytestmark = pytest.mark.slow

Mount = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ebsim(store: Store, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(store.home, capsys)


@pytest.fixture
def folder(store: Store) -> Path:
    made = store.work / "disks"
    made.mkdir()
    return made


@pytest.fixture
def mount(store: Store, folder: Path) -> Iterator[Mount]:
    """A function that mounts at *folder* in the background, unmounted afterwards."""
    require_fuse()
    with ExitStack() as stack:
        runtime = Path(tempfile.mkdtemp(prefix="ebsim-"))
        stack.callback(shutil.rmtree, runtime)

        def start(*options: str) -> subprocess.CompletedProcess[str]:
            stack.callback(
                subprocess.run, ["fusermount3", "-uzq", folder], check=False, capture_output=True
            )
            return run_ebsim(
                "mount", str(folder), "--detach-process", *options,
                home=store.home, XDG_RUNTIME_DIR=str(runtime),
            )  # fmt: skip

        yield start


def state_of(ebsim: CommandLine, volume_id: str) -> str:
    shown = json.loads(ebsim.told("--output", "json", "volume", "show", volume_id))
    return str(shown["State"])


def test_one_volume_is_shown_alone_and_in_use_while_it_is_open(
    ebsim: CommandLine, store: Store, folder: Path, mount: Mount
) -> None:
    volume_id = ebsim.told("volume", "create", "--snapshot", store.snapshot_id)
    ebsim.told("volume", "create", "--size", "1")
    done = mount("--volume", volume_id)
    assert (done.returncode, done.stdout) == (0, f"{folder}\n"), done.stderr
    assert [path.name for path in folder.iterdir()] == [f"{volume_id}.img"]

    with (folder / f"{volume_id}.img").open("r+b") as file:
        assert file.read() == store.image.read_bytes()
        file.seek(0)
        file.write(b"written")
        file.flush()
        os.fsync(file.fileno())
        assert state_of(ebsim, volume_id) == "in-use"
        for command in ("detach", "rm", "copy"):
            refused = ebsim.run("volume", command, volume_id)
            assert refused.returncode == ExitCode.CONFLICT
        snapshot_id = ebsim.told("--quiet", "snapshot", "create", volume_id)
    assert wait_until(lambda: state_of(ebsim, volume_id) == "available", 30)

    run("fusermount3", "-u", folder)
    ebsim.told("restore", snapshot_id, str(store.work / "restored"))
    expected = b"written" + store.image.read_bytes()[7:]
    assert (store.work / "restored").read_bytes() == expected


def test_snapshots_and_volumes_are_shown_as_they_come(
    ebsim: CommandLine, store: Store, folder: Path, mount: Mount
) -> None:
    assert mount().returncode == 0
    snapshot = folder / "snapshots" / f"{store.snapshot_id}.img"
    assert snapshot.read_bytes() == store.image.read_bytes()
    with pytest.raises(PermissionError if os.geteuid() else OSError):
        snapshot.open("r+b")
    volume_id = ebsim.told("volume", "create", "--size", "1")
    assert [path.name for path in (folder / "volumes").iterdir()] == [f"{volume_id}.img"]


def test_where_nothing_can_be_mounted_the_background_process_says_why(
    folder: Path, mount: Mount
) -> None:
    (folder / "file").write_text("in the way")
    done = mount()
    assert (done.returncode, done.stdout) == (ExitCode.TARGET_UNUSABLE, "")
    assert "it is not empty" in done.stderr
    (folder / "file").unlink()


def test_a_mount_whose_process_was_killed_is_explained(
    ebsim: CommandLine, store: Store, folder: Path, mount: Mount
) -> None:
    volume_id = ebsim.told("volume", "create", "--snapshot", store.snapshot_id)
    assert mount().returncode == 0
    descriptor = os.open(folder / "volumes" / f"{volume_id}.img", os.O_RDONLY)
    shown = json.loads(ebsim.told("--output", "json", "volume", "show", volume_id))
    os.kill(shown["OpenedBy"]["ProcessId"], signal.SIGKILL)
    # Aborted while it was asked, or not connected any more when it would have been.
    with suppress(OSError):
        os.close(descriptor)
    assert wait_until(lambda: ebsim.run("volume", "rm", volume_id).returncode == 0, 30)
    done = mount()
    assert done.returncode == ExitCode.TARGET_UNUSABLE
    assert "it is a dead mount" in done.stderr
    assert f"fusermount3 -u {folder}" in done.stderr
    run("fusermount3", "-u", folder)
    assert mount().returncode == 0
