"""Images as files: what can be read, written and asked, and what is refused."""

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.attach.conftest import Serve, ServedImages
from tests.attach.fuse_process import BLOCK

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("loop_devices")]

MIB = 1 << 20
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16

libc = ctypes.CDLL(None, use_errno=True)


class OpenFile:
    """A descriptor that closes itself."""

    def __init__(self, path: Path, flags: int) -> None:
        self.fd = os.open(path, flags)

    def close(self) -> None:
        os.close(self.fd)


def opened(path: Path, flags: int = os.O_RDWR) -> "closing[OpenFile]":
    return closing(OpenFile(path, flags))


def fallocate(fd: int, mode: int, offset: int, length: int) -> int:
    """The C library's call; 0 or the error number."""
    arguments = (ctypes.c_int(fd), ctypes.c_int(mode), ctypes.c_int64(offset))
    done = libc.fallocate(*arguments, ctypes.c_int64(length))
    return 0 if done == 0 else ctypes.get_errno()


def volume(served: ServedImages, name: str = "vol-1") -> Path:
    return served.mount_point / "volumes" / f"{name}.img"


def refused(call: Callable[[], object]) -> int:
    """The error number that *call* is refused with."""
    try:
        call()
    except OSError as error:
        return error.errno or 0
    pytest.fail("it was not refused")


def test_snapshots_and_volumes_are_files_of_their_size_mode_and_time(served: ServedImages) -> None:
    seen = {}
    for folder in served.mount_point.iterdir():
        for path in folder.iterdir():
            status = path.stat()
            seen[f"{folder.name}/{path.name}"] = (
                status.st_size,
                oct(status.st_mode),
                status.st_mtime_ns,
            )
    assert seen == {
        place: (MIB, mode, (served.images / place).stat().st_mtime_ns)
        for place, mode in [
            ("snapshots/snap-1.img", "0o100400"),
            ("volumes/vol-1.img", "0o100600"),
        ]
    }


def test_a_single_volume_is_all_there_is_to_see(serve: Serve, images: Path) -> None:
    (images / "volumes" / "vol-2.img").write_bytes(b"another")
    served = serve("--only", "vol-1")
    served.wait_for("ready")
    (path,) = served.mount_point.iterdir()
    assert path.name == "vol-1.img"
    assert path.read_bytes() == (images / "volumes" / "vol-1.img").read_bytes()
    assert not (served.mount_point / "vol-2.img").exists()
    assert not volume(served).exists()


def test_images_come_go_and_grow_while_they_are_shown(served: ServedImages) -> None:
    folder = served.images / "snapshots"
    shown = served.mount_point / "snapshots"
    assert [path.name for path in shown.iterdir()] == ["snap-1.img"]
    (folder / "snap-2.img").write_bytes(b"new")
    assert sorted(path.name for path in shown.iterdir()) == ["snap-1.img", "snap-2.img"]
    assert (shown / "snap-2.img").read_bytes() == b"new"
    os.truncate(folder / "snap-2.img", 7)
    assert (shown / "snap-2.img").stat().st_size == 7
    (folder / "snap-2.img").unlink()
    assert not (shown / "snap-2.img").exists()
    assert [path.name for path in shown.iterdir()] == ["snap-1.img"]


@pytest.mark.parametrize(
    ("offset", "length"), [(0, MIB), (1, 1), (4095, 2), (511, 70001), (MIB - 3, 3)]
)
def test_reads_and_writes_may_lie_anywhere(served: ServedImages, offset: int, length: int) -> None:
    expected = bytearray((served.images / "volumes" / "vol-1.img").read_bytes())
    data = os.urandom(length)
    expected[offset : offset + length] = data
    with opened(volume(served)) as file:
        assert os.pwrite(file.fd, data, offset) == length
        assert os.pread(file.fd, length, offset) == data
        os.fsync(file.fd)
    assert (served.images / "volumes" / "vol-1.img").read_bytes() == expected


def test_a_file_ends_where_a_disk_does(served: ServedImages) -> None:
    with opened(volume(served)) as file:
        assert os.pread(file.fd, 10, MIB) == b""
        assert os.pread(file.fd, 10, MIB - 4) == os.pread(file.fd, 4, MIB - 4)
        assert os.pwrite(file.fd, b"ten bytes.", MIB - 4) == 4
        assert refused(lambda: os.pwrite(file.fd, b"more", MIB)) == errno.ENOSPC
        assert os.fstat(file.fd).st_size == MIB


def test_what_is_written_is_durable_after_fsync_and_not_before(served: ServedImages) -> None:
    kept = served.images / "volumes" / "vol-1.img"
    before = kept.read_bytes()
    with opened(volume(served)) as file:
        os.pwrite(file.fd, b"written", 0)
        assert kept.read_bytes() == before
        os.fsync(file.fd)
        assert kept.read_bytes() == b"written" + before[7:]


def test_closing_a_file_makes_it_durable(served: ServedImages) -> None:
    with opened(volume(served), os.O_WRONLY) as file:
        os.pwrite(file.fd, b"written", 0)
    assert (served.images / "volumes" / "vol-1.img").read_bytes()[:7] == b"written"


def test_a_device_is_opened_once_for_all_and_released_after_the_last(
    served: ServedImages,
) -> None:
    with opened(volume(served)) as writer, opened(volume(served), os.O_RDONLY) as reader:
        os.pwrite(writer.fd, b"seen at once", 100)
        assert os.pread(reader.fd, 12, 100) == b"seen at once"
    served.wait_for("released vol-1")
    assert [line for line in served.told if line.startswith("opened")] == ["opened vol-1"]


def test_reads_never_see_a_part_of_a_write(served: ServedImages) -> None:
    """Eight readers while each block of 64 KiB is rewritten with one byte throughout."""
    block = 64 << 10
    torn: list[bytes] = []

    def read(fd: int) -> None:
        for turn in range(200):
            data = os.pread(fd, block, turn % 16 * block)
            if data.count(data[:1]) != block:
                torn.append(data)

    with opened(volume(served)) as file:
        for index in range(16):
            os.pwrite(file.fd, bytes(block), index * block)
        readers = [threading.Thread(target=read, args=(file.fd,)) for _ in range(8)]
        for reader in readers:
            reader.start()
        for turn in range(400):
            os.pwrite(file.fd, bytes([turn % 256]) * block, turn % 16 * block)
        for reader in readers:
            reader.join()
    assert torn == []


def test_holes_and_zeros_are_passed_on(served: ServedImages) -> None:
    with opened(volume(served)) as file:
        expected = bytearray(os.pread(file.fd, MIB, 0))
        assert fallocate(file.fd, PUNCH_HOLE | KEEP_SIZE, 5000, 9000) == 0
        expected[5000:14000] = bytes(9000)
        assert fallocate(file.fd, ZERO_RANGE, 20000, 10) == 0
        assert served.wait_for("kept room") == "kept room 20000 10"
        expected[20000:20010] = bytes(10)
        assert fallocate(file.fd, ZERO_RANGE | KEEP_SIZE, MIB - 5, 1000) == 0
        assert served.wait_for("kept room") == f"kept room {MIB - 5} 5"
        expected[MIB - 5 :] = bytes(5)
        assert os.pread(file.fd, MIB, 0) == expected


def test_room_beyond_the_end_is_refused(served: ServedImages) -> None:
    with opened(volume(served)) as file:
        before = os.pread(file.fd, MIB, 0)
        assert fallocate(file.fd, ZERO_RANGE, MIB - 5, 6) == errno.ENOSPC
        assert fallocate(file.fd, 0, 0, 4096) == errno.EOPNOTSUPP
        assert fallocate(file.fd, PUNCH_HOLE | KEEP_SIZE, MIB, 4096) == 0
        assert os.pread(file.fd, MIB, 0) == before


def test_an_image_keeps_its_size(served: ServedImages) -> None:
    path = volume(served)
    before = path.read_bytes()
    for length in (0, MIB - 1, MIB + 1):
        assert refused(lambda length=length: os.truncate(path, length)) == errno.EPERM
    os.truncate(path, MIB)
    with opened(path) as file:
        os.ftruncate(file.fd, MIB)
        assert refused(lambda: os.ftruncate(file.fd, 0)) == errno.EPERM
    assert refused(lambda: path.write_bytes(b"replaced")) == errno.EPERM
    assert path.read_bytes() == before


def test_files_are_neither_made_nor_removed_nor_changed(served: ServedImages) -> None:
    path, folder = volume(served), served.mount_point / "volumes"
    attempts: list[Callable[[], object]] = [
        path.unlink,
        lambda: path.rename(folder / "vol-9.img"),
        lambda: (folder / "vol-9.img").touch(),
        lambda: (folder / "vol-9.img").symlink_to(path),
        lambda: (folder / "vol-9.img").hardlink_to(path),
        (served.mount_point / "folder").mkdir,
        folder.rmdir,
        lambda: path.chmod(0o666),
        lambda: os.chown(path, 1, 1),
        lambda: os.utime(path),
    ]
    assert [refused(attempt) for attempt in attempts] == [errno.EPERM] * len(attempts)
    assert path.stat().st_size == MIB


def test_a_snapshot_is_read_only(served: ServedImages) -> None:
    path = served.mount_point / "snapshots" / "snap-1.img"
    assert path.read_bytes() == (served.images / "snapshots" / "snap-1.img").read_bytes()
    assert refused(lambda: os.open(path, os.O_RDWR)) == errno.EROFS
    assert refused(lambda: os.open(path, os.O_WRONLY)) == errno.EROFS


def test_a_full_store_is_told_and_harms_no_other_volume(served: ServedImages) -> None:
    (served.images / "volumes" / "vol-full.img").write_bytes(bytes(MIB))
    with opened(volume(served, "vol-full")) as full, opened(volume(served)) as other:
        assert refused(lambda: os.pwrite(full.fd, b"x", 0)) == errno.ENOSPC
        assert served.wait_for("failure") == "failure: there is no room"
        assert os.pread(full.fd, 4, 0) == bytes(4)
        assert os.pwrite(other.fd, b"x", 0) == 1


def test_a_damaged_block_is_an_error_there_alone(served: ServedImages) -> None:
    (served.images / "volumes" / "vol-damaged.img").write_bytes(b"d" * MIB)
    with opened(volume(served, "vol-damaged")) as file:
        assert refused(lambda: os.pread(file.fd, BLOCK, 3 * BLOCK)) == errno.EIO
        assert served.wait_for("failure") == "failure: block 3 cannot be read"
        assert os.pread(file.fd, BLOCK, 0) == b"d" * BLOCK


def test_a_volume_that_another_process_has_is_busy(served: ServedImages) -> None:
    (served.images / "volumes" / "vol-taken.img").write_bytes(bytes(MIB))
    assert refused(lambda: os.open(volume(served, "vol-taken"), os.O_RDONLY)) == errno.EBUSY
    assert served.wait_for("failure") == "failure: another process has it"


@pytest.mark.parametrize(
    "name",
    [
        b"vol-1",
        b"vol-1.img.img",
        b".img",
        b"..img",
        b"vol-\xff\xfe.img",
        b"vol-1\n.img",
        b"vol-1.img ",
        b"%2e%2e%2fsnapshots.img",
        b"*.img",
        b"\\..\\snapshots\\snap-1.img",
        b"vol-\xef\xbc\x91.img",  # a digit, though not of ASCII
        b"x" * 251 + b".img",
    ],
)
def test_a_name_of_another_form_is_not_found(served: ServedImages, name: bytes) -> None:
    path = os.path.join(os.fsencode(served.mount_point / "volumes"), name)  # noqa: PTH118 - bytes
    assert refused(lambda: os.stat(path)) == errno.ENOENT  # noqa: PTH116 - bytes
    assert refused(lambda: os.open(path, os.O_RDONLY)) == errno.ENOENT
    assert volume(served).exists()


def test_an_image_has_its_folder_and_no_other(served: ServedImages) -> None:
    top = served.mount_point
    for path in ("vol-1.img", "snapshots/vol-1.img", "volumes/snap-1.img", "other/vol-1.img"):
        assert not (top / path).exists()
    assert refused(lambda: os.stat(top / "volumes/vol-1.img/x.img")) == errno.ENOTDIR  # noqa: PTH116
