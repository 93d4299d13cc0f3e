"""Disks to read: mounted file systems and loop devices, always taken down again."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.sources.images import convert, make_disk
from tests.tools import require_root, require_tool, run


def loop_device(stack: ExitStack, image: Path, *options: str) -> Path:
    """A loop device over *image*, detached when *stack* closes."""
    device = run("losetup", "--find", "--show", *options, image).strip()
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


@pytest.fixture
def qemu() -> None:
    """Skip the test unless qemu's tools for images are there."""
    for program in ("qemu-img", "qemu-nbd", "qemu-io"):
        require_tool(program, package="qemu-utils")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return make_disk(tmp_path / "disk.raw")


@pytest.fixture
def qcow2(tmp_path: Path, disk: Path) -> Path:
    return convert(disk, tmp_path / "disk.qcow2", "qcow2")
