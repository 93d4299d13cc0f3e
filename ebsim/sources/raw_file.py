"""A raw disk image: a regular file whose bytes are the disk's.

Where the file system can share blocks between files (xfs, btrfs), the file is cloned
first, in one atomic call, and the clone is read: the snapshot is then the file at one
moment, whatever is written to it meanwhile.  The clone has no name and goes with its
descriptor, so a killed process leaves nothing behind.  Elsewhere the file itself is read,
and :meth:`RawFile.changed_since_opened` tells whether it held still.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ebsim.errors import SourceUnusable
from ebsim.sources.mounts import caution_for_file
from ebsim.sources.opened_file import OpenedFile, describe_change, read_fully
from ebsim.sources.source import Extent

# linux/fs.h: _IOW(0x94, 9, int)
_FICLONE = 0x40049409

# What SEEK_DATA answers where the file system keeps no account of holes.
_HOLES_UNKNOWN = (errno.EINVAL, errno.EOPNOTSUPP)


class RawFile:
    """A :class:`~ebsim.sources.source.Source` over the regular file at *path*.

    Args:
        path: The image.
        point_in_time: Clone the file first, where the file system can.
        clone_folder: Where the nameless clone is made; the image's own folder by default.

    Raises:
        SourceUnusable: missing, unreadable, empty, or not a regular file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        point_in_time: bool = True,
        clone_folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self._file = OpenedFile(path)
        if self._file.is_block_device:
            self._file.close()
            raise SourceUnusable(f"{self.location} is a block device, not a regular file.")
        self._caution = caution_for_file(self.location)
        folder = Path(clone_folder) if clone_folder else Path(self.location).parent
        self._clone_fd = _clone(self._file.fd, folder) if point_in_time else None
        self._changed_before_clone: str | None = None
        if self._clone_fd is not None:
            change = describe_change(self._file.stamp, self._file.current_stamp())
            if change is not None:
                self._changed_before_clone = (
                    f"{self.location} changed while it was cloned: {change}."
                )
        self._size_bytes = os.fstat(self._fd).st_size

    @property
    def _fd(self) -> int:
        return self._file.fd if self._clone_fd is None else self._clone_fd

    @property
    def location(self) -> str:
        return self._file.location

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def caution(self) -> str | None:
        return self._caution

    @property
    def is_point_in_time(self) -> bool:
        """Whether a clone is read, and later writes to the file cannot be seen."""
        return self._clone_fd is not None

    def extents(self, start: int = 0) -> Iterator[Extent]:
        position = start
        while position < self._size_bytes:
            try:
                data_start = os.lseek(self._fd, position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break
                if error.errno in _HOLES_UNKNOWN:
                    yield Extent(position, self._size_bytes)
                    return
                raise self._unreadable(position, error) from error
            if data_start >= self._size_bytes:
                break
            try:
                data_stop = os.lseek(self._fd, data_start, os.SEEK_HOLE)
            except OSError as error:
                raise self._unreadable(data_start, error) from error
            position = min(data_stop, self._size_bytes)
            yield Extent(data_start, position)
        self._require_whole()

    def read_into(self, buffer: memoryview, offset_bytes: int) -> None:
        inside = max(0, min(len(buffer), self._size_bytes - offset_bytes))
        read_fully(self._fd, buffer[:inside], offset_bytes, location=self.location)
        if inside < len(buffer):
            buffer[inside:] = bytes(len(buffer) - inside)

    def changed_since_opened(self) -> str | None:
        if self._clone_fd is not None:
            return self._changed_before_clone
        return self._file.changed_since_opened()

    def close(self) -> None:
        clone_fd, self._clone_fd = self._clone_fd, None
        if clone_fd is not None:
            os.close(clone_fd)
        self._file.close()

    def _require_whole(self) -> None:
        """Refuse a file that shrank: its missing tail would pass for a hole."""
        found = os.fstat(self._fd).st_size
        if found < self._size_bytes:
            raise SourceUnusable(
                f"{self.location} shrank while it was read: {self._size_bytes} bytes were "
                f"expected and {found} found. Nothing was made from it. Try again when "
                "nothing writes to it."
            )

    def _unreadable(self, offset_bytes: int, error: OSError) -> SourceUnusable:
        return SourceUnusable(
            f"{self.location} cannot be searched for data at byte {offset_bytes}: "
            f"{error.strerror}. Nothing was made from it."
        )


def _clone(fd: int, folder: Path) -> int | None:
    """A nameless clone of *fd* in *folder*, or ``None`` where there can be none.

    Every refusal (no shared blocks, another file system, no permission, no room) has the
    same answer, to read the file itself, so none is told apart.
    """
    try:
        clone_fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.ioctl(clone_fd, _FICLONE, fd)
    except OSError:
        os.close(clone_fd)
        return None
    return clone_fd
