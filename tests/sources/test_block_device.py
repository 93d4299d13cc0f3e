import os
import random
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from ebsim.errors import SourceUnusable
from ebsim.sources.block_device import BlockDevice
from ebsim.sources.mounts import Mount, caution_for_file, parse_mountinfo
from ebsim.sources.source import Extent
from tests.sources.conftest import mount
from tests.tools import require_tool, run

Attach = Callable[[Path], Path]
MIB = 1 << 20


def image_of(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def whole(source: BlockDevice) -> bytes:
    buffer = bytearray(source.size_bytes)
    source.read_into(memoryview(buffer), 0)
    return bytes(buffer)


def test_a_device_reads_as_one_extent_of_its_exact_size(tmp_path: Path, attach: Attach) -> None:
    data = random.Random(2).randbytes(3 * MIB + 512)
    device = attach(image_of(tmp_path / "disk", data))
    with closing(BlockDevice(device)) as source:
        assert source.size_bytes == len(data)
        assert list(source.extents()) == [Extent(0, len(data))]
        assert list(source.extents(len(data))) == []
        assert whole(source) == data
        assert source.caution is None
        assert source.changed_since_opened() is None


def test_bytes_past_the_device_are_zeros(tmp_path: Path, attach: Attach) -> None:
    device = attach(image_of(tmp_path / "disk", b"x" * 4096))
    with closing(BlockDevice(device)) as source:
        buffer = bytearray(b"\xff" * 8192)
        source.read_into(memoryview(buffer), 0)
        assert buffer == b"x" * 4096 + bytes(4096)


def test_a_device_that_changes_its_size_is_noticed(tmp_path: Path, attach: Attach) -> None:
    image = image_of(tmp_path / "disk", b"x" * 8192)
    device = attach(image)
    with closing(BlockDevice(device)) as source:
        os.truncate(image, 4096)
        run("losetup", "--set-capacity", device)
        assert "from 8192 to 4096" in (source.changed_since_opened() or "")
        with pytest.raises(SourceUnusable, match=r"byte 0|byte 4096"):
            source.read_into(memoryview(bytearray(8192)), 0)


def test_a_device_that_fails_to_read_is_named_with_the_byte(
    tmp_path: Path, attach: Attach
) -> None:
    """A loop device answers EIO for what its file no longer holds."""
    image = image_of(tmp_path / "disk", b"x" * MIB)
    device = attach(image)
    with closing(BlockDevice(device)) as source:
        os.truncate(image, MIB // 2)
        with pytest.raises(SourceUnusable, match=r"at byte 786432: Input/output error"):
            source.read_into(memoryview(bytearray(4096)), 786432)


def test_a_regular_file_is_no_device(tmp_path: Path) -> None:
    with pytest.raises(SourceUnusable, match="regular file"):
        BlockDevice(image_of(tmp_path / "disk", b"x"))


def test_a_device_mounted_read_write_carries_a_caution_and_is_read_fresh(
    tmp_path: Path, attach: Attach, stack: ExitStack
) -> None:
    """The file's data goes to the device past the cache that reading it filled."""
    make = require_tool("mkfs.ext4", package="e2fsprogs")
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(16 * MIB)
    run(make, "-q", image)
    device = attach(image)
    folder = mount(stack, device, tmp_path / "here it is")
    for text in (b"first version of the file", b"other version of the file"):
        with (folder / "file").open("r+b" if (folder / "file").exists() else "wb") as file:
            file.write(text.ljust(8192, b"."))
            file.flush()
            os.fsync(file.fileno())
        with closing(BlockDevice(device)) as source:
            assert text in whole(source)
            assert f"mounted read-write at {folder}" in (source.caution or "")
    assert f"mounted read-write at {folder}" in (caution_for_file(os.path.realpath(image)) or "")


def test_a_mount_line_is_read_with_its_escapes() -> None:
    line = "36 35 98:0 / /mnt/a\\040b rw,noatime shared:1 - ext3 /dev/sda\\0401 rw,errors=x"
    assert list(parse_mountinfo(line + "\nrubbish\n")) == [
        Mount("98:0", "/mnt/a b", True, "/dev/sda 1")
    ]


def test_a_mount_is_writable_only_if_both_its_options_say_so() -> None:
    line = "36 35 98:0 / /mnt {} - ext3 /dev/sda1 {}\n"
    texts = [line.format(a, b) for a in ("rw", "ro") for b in ("rw", "ro")]
    assert [next(parse_mountinfo(text)).is_writable for text in texts] == [
        True, False, False, False,
    ]  # fmt: skip
