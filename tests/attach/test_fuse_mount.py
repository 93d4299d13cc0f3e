"""Mounting and unmounting: where it is refused, and every way in which it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ebsim.attach.fuse_library import find_unmounter, load_library, may_let_root_in
from ebsim.attach.fuse_mount_point import usable_mount_point
from ebsim.errors import MissingTool, TargetUnusable
from tests.attach.conftest import Serve, ServedImages, is_mounted
from tests.tools import run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("loop_devices")]


def test_unmounting_from_outside_ends_it(served: ServedImages) -> None:
    run("fusermount3", "-u", served.mount_point)
    assert served.end() == 0
    assert served.told[-1] == "unmounted"
    assert list(served.mount_point.iterdir()) == []


def test_the_working_directory_stays_what_it_was(serve: Serve) -> None:
    assert serve().wait_for("ready") == f"ready in {Path.cwd()}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unmounts(served: ServedImages, number: signal.Signals) -> None:
    served.signal(number)
    assert served.end() == 0
    assert served.told[-1] == "unmounted"
    assert not is_mounted(served.mount_point)


def test_a_signal_flushes_and_serves_on_what_is_open(served: ServedImages) -> None:
    """The directory is free at once, the open file works until it is closed."""
    kept = served.images / "volumes" / "vol-1.img"
    fd = os.open(served.mount_point / "volumes" / "vol-1.img", os.O_RDWR)
    try:
        os.pwrite(fd, b"before", 0)
        served.signal(signal.SIGTERM)
        served.wait_for("still used")
        assert kept.read_bytes()[:6] == b"before"
        assert list(served.mount_point.iterdir()) == []
        os.pwrite(fd, b"after.", 0)
        assert os.pread(fd, 6, 0) == b"after."
    finally:
        os.close(fd)
    assert served.end() == 0
    assert served.told[-2:] == ["released vol-1", "unmounted"]
    assert kept.read_bytes()[:6] == b"after."


def test_a_second_signal_gives_up_what_is_open_and_flushes_it(served: ServedImages) -> None:
    fd = os.open(served.mount_point / "volumes" / "vol-1.img", os.O_RDWR)
    served.signal(signal.SIGTERM)
    served.wait_for("still used")
    os.pwrite(fd, b"late", 0)
    served.signal(signal.SIGTERM)
    assert served.end() == 0
    assert served.told[-2:] == ["released vol-1", "unmounted"]
    assert (served.images / "volumes" / "vol-1.img").read_bytes()[:4] == b"late"
    # The kernel gives the file back, and says that nobody is there to hear of it.
    with pytest.raises(OSError, match="not connected"):
        os.close(fd)


def test_a_killed_process_leaves_a_dead_mount_that_the_next_explains(
    served: ServedImages, serve: Serve
) -> None:
    served.signal(signal.SIGKILL)
    served.end()
    next_one = serve()
    message = next_one.wait_for("refused")
    assert message.startswith("refused: TargetUnusable cannot mount at")
    command = f"fusermount3 -u {served.mount_point}"
    assert "it is a dead mount" in message
    assert f"'{command}'" in message
    run(*command.split())
    serve().wait_for("ready")


def test_a_mount_over_a_mount_is_refused(served: ServedImages, serve: Serve) -> None:
    assert "it is not empty" in serve().wait_for("refused: TargetUnusable")
    assert (served.mount_point / "volumes").is_dir()


def make_file(path: Path) -> None:
    path.write_bytes(b"")


def make_full(path: Path) -> None:
    path.mkdir()
    (path / "file").touch()


def make_link_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _path: None, r"it does not exist\. Nothing was changed\. Make the directory"),
        (make_file, "it is not a directory"),
        (make_full, "it is not empty"),
        (make_link_loop, "(?i)symlink loop|too many levels of symbolic links"),
    ],
)
def test_an_unusable_place_is_refused(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    make(tmp_path / "place")
    with pytest.raises(TargetUnusable, match=reason):
        usable_mount_point(tmp_path / "place", home=None)


@pytest.mark.parametrize("inside", [".", "regions", "link"])
def test_a_place_in_the_store_is_refused(tmp_path: Path, inside: str) -> None:
    """Also through a link, to the home or in front of it."""
    home = tmp_path / "home"
    (home / "regions").mkdir(parents=True)
    (tmp_path / "front").symlink_to(home)
    (home / "link").symlink_to(home / "regions")
    for path in (home / inside, tmp_path / "front" / inside):
        with pytest.raises(TargetUnusable, match="inside the ebsim home"):
            usable_mount_point(path, home=tmp_path / "front")


def test_a_place_in_the_store_is_refused_by_the_mount_itself(
    serve: Serve, mount_point: Path
) -> None:
    assert "inside the ebsim home" in serve("--home", mount_point.parent).wait_for("refused")
    assert not is_mounted(mount_point)


def test_a_place_beside_the_store_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home-2").mkdir()
    (tmp_path / "link").symlink_to("home-2")
    found = usable_mount_point(tmp_path / "link", home=tmp_path / "home")
    assert found == (tmp_path / "home-2").resolve()


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingTool, match=r"'fusermount3', .*'apt-get install fuse3'"):
        find_unmounter()


def test_a_missing_module_is_named_with_its_extra() -> None:
    """In a process whose import system is told that there is no mfusepy."""
    text = (
        "import sys; sys.modules['mfusepy'] = None\n"
        "from ebsim.attach.fuse_library import load_library\n"
        "load_library()"
    )
    assert r"'pip install ebsim[fuse]'" in complaint(text)


def test_a_missing_library_is_named_with_its_package() -> None:
    """``find_library`` knows no library of the name that the variable gives."""
    text = (
        "import ctypes.util; ctypes.util.find_library = lambda name: None\n"
        "from ebsim.attach.fuse_library import load_library\n"
        "load_library()"
    )
    assert "'libfuse3', which is not installed" in complaint(text)


def complaint(text: str) -> str:
    """The last line of what a new process complains that runs *text*."""
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_the_environment_is_as_before_when_the_library_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FUSE_LIBRARY_NAME", "other")
    assert load_library().fuse_version_major == 3
    assert os.environ["FUSE_LIBRARY_NAME"] == "other"


def test_root_needs_nobody_s_leave() -> None:
    assert not may_let_root_in(0)
