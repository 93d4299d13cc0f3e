"""A file system on a loop device over a mounted image, as ``mount -o loop`` makes it."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

from tests.attach.conftest import ServedImages
from tests.tools import require_tool, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("loop_devices")]

MIB = 1 << 20
Loop = Callable[..., Path]


@pytest.fixture
def disk(served: ServedImages) -> Path:
    """The mounted file of a volume of 64 MiB with an ext4 on it."""
    kept = served.images / "volumes" / "vol-ext4.img"
    with kept.open("wb") as file:
        file.truncate(64 * MIB)
    path = served.mount_point / "volumes" / "vol-ext4.img"
    run(require_tool("mke2fs", package="e2fsprogs"), "-q", "-F", "-t", "ext4", path)
    return path


def mount(stack: ExitStack, device: Path, folder: Path, options: str = "rw") -> Path:
    folder.mkdir(exist_ok=True)
    run("mount", "-o", options, device, folder)
    stack.callback(run, "umount", folder)
    return folder


def write_files(folder: Path) -> dict[str, str]:
    """Some files of random bytes; their names and digests."""
    digests = {}
    for index in range(20):
        data = os.urandom(index * 50_000 + 1)
        (folder / f"file-{index}").write_bytes(data)
        digests[f"file-{index}"] = sha256(data).hexdigest()
    return digests


def digests_in(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.glob("file-*")}


def test_ext4_over_loop_is_clean_and_whole_and_the_device_holds_its_bytes(
    served: ServedImages, disk: Path, loop: Loop, tmp_path: Path
) -> None:
    kept = served.images / "volumes" / "vol-ext4.img"
    with ExitStack() as mounts:
        written = write_files(mount(mounts, loop(disk), tmp_path / "ext4"))
        run("sync", "-f", tmp_path / "ext4")
    for path in (disk, kept):
        run(require_tool("e2fsck", package="e2fsprogs"), "-fn", path)
    assert disk.read_bytes() == kept.read_bytes()
    with ExitStack() as mounts:
        assert digests_in(mount(mounts, loop(kept), tmp_path / "ext4", "ro")) == written


def test_what_is_synced_above_has_reached_the_device(
    served: ServedImages, disk: Path, loop: Loop, tmp_path: Path, stack: ExitStack
) -> None:
    """The image is copied while it is mounted: the journal brings back what was synced."""
    folder = mount(stack, loop(disk), tmp_path / "ext4")
    written = write_files(folder)
    run("sync", "-f", folder)
    copy = tmp_path / "copy.img"
    copy.write_bytes((served.images / "volumes" / "vol-ext4.img").read_bytes())
    with ExitStack() as mounts:
        assert digests_in(mount(mounts, loop(copy), tmp_path / "copied")) == written
    run(require_tool("e2fsck", package="e2fsprogs"), "-fn", copy)


def test_trimming_a_loop_device_zeroes_the_image(
    served: ServedImages, disk: Path, loop: Loop
) -> None:
    device = loop(disk)
    assert any(disk.read_bytes())
    run(require_tool("blkdiscard", package="util-linux"), "-f", device)
    run("blockdev", "--flushbufs", device)
    run("losetup", "--detach", device)
    assert not any(disk.read_bytes())
    assert served.process.poll() is None


def test_zeroing_a_loop_device_keeps_its_room(
    served: ServedImages, disk: Path, loop: Loop
) -> None:
    device = loop(disk)
    run(require_tool("blkdiscard", package="util-linux"), "-f", "-z", device)
    served.wait_for("kept room 0 ")
    assert not any(disk.read_bytes())


def test_a_loop_device_over_a_snapshot_is_read_only(served: ServedImages, loop: Loop) -> None:
    device = loop(served.mount_point / "snapshots" / "snap-1.img")
    assert run("blockdev", "--getro", device).strip() == "1"
    expected = (served.images / "snapshots" / "snap-1.img").read_bytes()
    assert device.read_bytes() == expected
