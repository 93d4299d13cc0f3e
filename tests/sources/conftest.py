"""Disks to read: mounted file systems and loop devices, always taken down again."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.tools import require_root, require_tool


def run(*command: str | Path) -> str:
    """Run an outside program that must succeed; return what it printed."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def loop_device(stack: ExitStack, image: Path) -> Path:
    """A loop device over *image*, detached when *stack* closes."""
    device = run("losetup", "--find", "--show", image).strip()
    stack.callback(run, "losetup", "--detach", device)
    return Path(device)


def mount(stack: ExitStack, device: Path, folder: Path) -> Path:
    """*device* mounted at *folder*, unmounted when *stack* closes."""
    folder.mkdir(exist_ok=True)
    run("mount", device, folder)
    stack.callback(run, "umount", folder)
    return folder


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def attach(stack: ExitStack) -> Callable[[Path], Path]:
    """A function that puts an image behind a loop device."""
    require_root()
    require_tool("losetup", package="mount")
    return lambda image: loop_device(stack, image)


@pytest.fixture(params=[("mkfs.xfs", "xfsprogs"), ("mkfs.btrfs", "btrfs-progs")])
def cloning_folder(request: pytest.FixtureRequest, tmp_path: Path, stack: ExitStack) -> Path:
    """A folder on a file system whose files can share blocks."""
    program, package = request.param
    make = require_tool(program, package=package)
    require_root()
    image = tmp_path / "cloning.img"
    with image.open("wb") as file:
        file.truncate(400 << 20)  # xfs takes no less than 300 MiB
    run(make, "-q", image)
    return mount(stack, loop_device(stack, image), tmp_path / "mounted")
