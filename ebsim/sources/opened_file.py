"""A regular file, opened to be read: what was found at the opening, and what changed since.

Shared by raw files and by image formats.  The file is identified by device and inode, so
that a file put in its place under the same name is noticed, and its state by size,
modification time and status-change time (which a program that sets the modification
time back cannot set).
"""

import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

from ebsim.errors import SourceUnusable

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
}


class Stamp(NamedTuple):
    """What shows that a file was written."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int


def describe_change(before: Stamp, after: Stamp) -> str | None:
    """How *after* shows a write since *before*, or ``None``."""
    if after.size_bytes != before.size_bytes:
        return f"its size went from {before.size_bytes} to {after.size_bytes} bytes"
    if after.mtime_ns != before.mtime_ns:
        return "its modification time changed"
    if after.ctime_ns != before.ctime_ns:
        return "its status-change time changed"
    return None


class OpenedFile:
    """A regular file or block device at *path*, opened read-only.

    Args:
        path: Followed through links; ``location`` is where it ends.

    Raises:
        SourceUnusable: missing, unreadable, or no file or device that holds a disk.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.location = os.path.realpath(path)
        # A named pipe without a writer would block the open, and opening some character
        # devices has effects, so the kind is looked at first.
        _require_disk(self.location, self._stat_path(self.location))
        self.fd = _open_readonly(self.location)
        found = os.fstat(self.fd)
        try:
            _require_disk(self.location, found)
        except SourceUnusable:
            os.close(self.fd)
            raise
        self.is_block_device = stat.S_ISBLK(found.st_mode)
        self.stamp = _stamp(found)
        self._identity = (found.st_dev, found.st_ino)
        self._is_open = True

    @staticmethod
    def _stat_path(location: str) -> os.stat_result:
        try:
            return Path(location).stat()
        except OSError as error:
            raise SourceUnusable(_cannot_open(location, error)) from error

    def current_stamp(self) -> Stamp:
        """The file's stamp as of now, by its descriptor."""
        return _stamp(os.fstat(self.fd))

    def changed_since_opened(self) -> str | None:
        """See :meth:`ebsim.sources.source.Source.changed_since_opened`."""
        # Before the stamp: replacing a file changes the old one's status-change time too.
        try:
            found = Path(self.location).stat()
        except OSError as error:
            return f"{self.location} went away while it was read: {error.strerror}."
        if (found.st_dev, found.st_ino) != self._identity:
            return f"{self.location} was replaced by another file while it was read."
        change = describe_change(self.stamp, self.current_stamp())
        if change is not None:
            return f"{self.location} changed while it was read: {change}."
        return None

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            os.close(self.fd)


def read_fully(fd: int, buffer: memoryview, offset_bytes: int, *, location: str) -> None:
    """Fill *buffer* from *offset_bytes* on.

    Raises:
        SourceUnusable: the file ends before, or the disk failed.
    """
    filled = 0
    while filled < len(buffer):
        try:
            count = os.preadv(fd, [buffer[filled:]], offset_bytes + filled)
        except OSError as error:
            raise SourceUnusable(
                f"{location} cannot be read at byte {offset_bytes + filled}: "
                f"{error.strerror}. Nothing was made from it."
            ) from error
        if count == 0:
            raise SourceUnusable(
                f"{location} shrank while it was read: {len(buffer)} bytes were expected at "
                f"byte {offset_bytes} and {filled} found. Nothing was made from it. Try "
                "again when nothing writes to it."
            )
        filled += count


def _require_disk(location: str, found: os.stat_result) -> None:
    kind = _KINDS.get(stat.S_IFMT(found.st_mode))
    if kind is not None:
        raise SourceUnusable(
            f"{location} is {kind}, not a disk. Name a disk image or a block device."
        )
    if stat.S_ISREG(found.st_mode) and found.st_size == 0:
        raise SourceUnusable(f"{location} is empty: there is no disk in it.")


def _open_readonly(location: str) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC
    try:
        # Only the owner may leave the access time alone.
        return os.open(location, flags | os.O_NOATIME)
    except PermissionError:
        pass
    except OSError as error:
        raise SourceUnusable(_cannot_open(location, error)) from error
    try:
        return os.open(location, flags)
    except OSError as error:
        raise SourceUnusable(_cannot_open(location, error)) from error


def _cannot_open(location: str, error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"{location} does not exist."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{location} may not be read by this user: {error.strerror}."
    return f"{location} cannot be opened: {error.strerror}."


def _stamp(found: os.stat_result) -> Stamp:
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns)
