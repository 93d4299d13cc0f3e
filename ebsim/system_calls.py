"""The operating system's file calls, one method each: what tests replace to break the disk.

Nothing here loops, checks or translates.  A call may be short and fails with
``OSError``; ``durable_files.py`` makes promises out of that.  Everything ebsim writes
goes through one of these objects (LMDB's own files excepted), so a test that replaces
it can fail the N-th call, or record every step and compute what a power cut leaves.

Linux's ``fallocate`` modes, ``renameat2`` and ``sync_file_range`` are not in ``os``, so they
are called in the C library; one that lacks them counts as ``ENOSYS``.
"""

import ctypes
import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

Buffer = bytes | bytearray | memoryview

_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02
_KEEP_SIZE_ZERO_RANGE = 0x01 | 0x10
_RENAME_NOREPLACE = 1
_SYNC_FILE_RANGE_WRITE = 2
_AT_CURRENT_DIRECTORY = -100
_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)

_libc = ctypes.CDLL(None, use_errno=True)


class SystemCalls:
    """The real calls.  Descriptors are plain ``int``; safe from many threads."""

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, 0o644)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def pwritev(self, descriptor: int, parts: Sequence[Buffer], offset_bytes: int) -> int:
        return os.pwritev(descriptor, parts, offset_bytes)

    def pread(self, descriptor: int, size_bytes: int, offset_bytes: int) -> bytes:
        return os.pread(descriptor, size_bytes, offset_bytes)

    def fdatasync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def begin_write_out(self, descriptor: int, offset_bytes: int, size_bytes: int) -> None:
        """Have a range of the page cache written out soon, promising nothing."""
        _checked(
            "sync_file_range",
            ctypes.c_int(descriptor),
            ctypes.c_int64(offset_bytes),
            ctypes.c_int64(size_bytes),
            ctypes.c_uint(_SYNC_FILE_RANGE_WRITE),
        )

    def fsync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def set_direct(self, descriptor: int, *, is_direct: bool) -> None:
        """Make writes pass by the page cache (``O_DIRECT``), or not."""
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        flags = flags | os.O_DIRECT if is_direct else flags & ~os.O_DIRECT
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)

    def fchmod(self, descriptor: int, mode: int) -> None:
        os.fchmod(descriptor, mode)

    def ftruncate(self, descriptor: int, size_bytes: int) -> None:
        os.ftruncate(descriptor, size_bytes)

    def allocate(self, descriptor: int, offset_bytes: int, size_bytes: int) -> None:
        os.posix_fallocate(descriptor, offset_bytes, size_bytes)

    def punch_hole(self, descriptor: int, offset_bytes: int, size_bytes: int) -> None:
        _fallocate(descriptor, _KEEP_SIZE_PUNCH_HOLE, offset_bytes, size_bytes)

    def zero_range(self, descriptor: int, offset_bytes: int, size_bytes: int) -> None:
        """Make a range zeros that keeps, or gets, its room on the disk."""
        _fallocate(descriptor, _KEEP_SIZE_ZERO_RANGE, offset_bytes, size_bytes)

    def clone(self, descriptor: int, source: int) -> None:
        """Let an empty file share all blocks of the open file *source*, until either changes."""
        fcntl.ioctl(descriptor, _FICLONE, source)

    def preadv(
        self, descriptor: int, parts: Sequence[bytearray | memoryview], offset_bytes: int
    ) -> int:
        return os.preadv(descriptor, parts, offset_bytes)

    def preadv_cached(
        self, descriptor: int, parts: Sequence[bytearray | memoryview], offset_bytes: int
    ) -> int:
        """As ``preadv`` for what is in the page cache; ``EAGAIN`` rather than read a disk."""
        return os.preadv(descriptor, parts, offset_bytes, os.RWF_NOWAIT)

    def seek(self, descriptor: int, offset_bytes: int, whence: int) -> int:
        """``lseek``, to find data and holes; moves a position that nothing else uses."""
        return os.lseek(descriptor, offset_bytes, whence)

    def rename(self, path: Path, target: Path) -> None:
        path.rename(target)

    def rename_new(self, path: Path, target: Path) -> None:
        """Rename, unless *target* exists (``EEXIST``)."""
        _checked(
            "renameat2",
            ctypes.c_int(_AT_CURRENT_DIRECTORY),
            os.fsencode(path),
            ctypes.c_int(_AT_CURRENT_DIRECTORY),
            os.fsencode(target),
            ctypes.c_uint(_RENAME_NOREPLACE),
        )

    def link(self, path: Path, target: Path) -> None:
        target.hardlink_to(path)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def mkdir(self, path: Path) -> None:
        path.mkdir()

    def rmdir(self, path: Path) -> None:
        path.rmdir()

    def scandir(self, path: Path) -> list[tuple[str, bool]]:
        """Each name in directory *path*, and whether it is a directory itself."""
        with os.scandir(path) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]

    def stat(self, path: Path) -> os.stat_result:
        return path.stat()

    def fstat(self, descriptor: int) -> os.stat_result:
        return os.fstat(descriptor)

    def flock(self, descriptor: int, operation: int) -> None:
        fcntl.flock(descriptor, operation)


def _fallocate(descriptor: int, mode: int, offset_bytes: int, size_bytes: int) -> None:
    _checked(
        "fallocate64",
        ctypes.c_int(descriptor),
        ctypes.c_int(mode),
        ctypes.c_int64(offset_bytes),
        ctypes.c_int64(size_bytes),
    )


def _checked(name: str, *arguments: object) -> None:
    """Call the C library's *name*, again while signals interrupt it."""
    function = getattr(_libc, name, None)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    while function(*arguments) != 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
