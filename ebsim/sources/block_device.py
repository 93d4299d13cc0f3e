"""A block device: a disk, a partition, a loop device, a logical volume."""

import os
from collections.abc import Iterator

from ebsim.errors import SourceUnusable
from ebsim.sources.mounts import caution_for_device
from ebsim.sources.opened_file import OpenedFile, read_fully
from ebsim.sources.source import Extent


class BlockDevice:
    """A :class:`~ebsim.sources.source.Source` over the block device at *path*.

    A device keeps no account of what was written to it: its whole length is one extent,
    and only a change of its size is ever noticed.

    Raises:
        SourceUnusable: missing, unreadable, of no size, or not a block device.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = OpenedFile(path)
        try:
            self._size_bytes = self._measure()
            self._caution = caution_for_device(self.location)
            self._forget_cached()
        except BaseException:
            self._file.close()
            raise

    @property
    def location(self) -> str:
        return self._file.location

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def caution(self) -> str | None:
        return self._caution

    def extents(self, start: int = 0) -> Iterator[Extent]:
        if start < self._size_bytes:
            yield Extent(start, self._size_bytes)

    def read_into(self, buffer: memoryview, offset_bytes: int) -> None:
        inside = max(0, min(len(buffer), self._size_bytes - offset_bytes))
        read_fully(self._file.fd, buffer[:inside], offset_bytes, location=self.location)
        if inside < len(buffer):
            buffer[inside:] = bytes(len(buffer) - inside)

    def changed_since_opened(self) -> str | None:
        found = _device_size(self._file.fd)
        if found != self._size_bytes:
            return (
                f"{self.location} changed while it was read: its size went from "
                f"{self._size_bytes} to {found} bytes."
            )
        return None

    def close(self) -> None:
        self._file.close()

    def _measure(self) -> int:
        if not self._file.is_block_device:
            raise SourceUnusable(f"{self.location} is a regular file, not a block device.")
        try:
            size_bytes = _device_size(self._file.fd)
        except OSError as error:
            raise SourceUnusable(
                f"the size of {self.location} cannot be found: {error.strerror}."
            ) from error
        if size_bytes == 0:
            raise SourceUnusable(f"{self.location} has no size: no medium is in it.")
        return size_bytes

    def _forget_cached(self) -> None:
        """Drop what the kernel remembers of the device's bytes.

        A mounted file system writes its files' data past this cache, so that a second
        snapshot would read what the first one left in it.
        """
        try:
            os.fsync(self._file.fd)
        except OSError as error:
            raise SourceUnusable(
                f"{self.location} cannot be flushed before reading: {error.strerror}."
            ) from error
        os.posix_fadvise(self._file.fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _device_size(fd: int) -> int:
    return os.lseek(fd, 0, os.SEEK_END)
