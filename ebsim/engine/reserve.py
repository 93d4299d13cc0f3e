"""Room kept back, so that deleting works on a full disk.

LMDB writes new pages before it frees old ones: on a disk without a free byte nothing
could be deleted.  A file of a few megabytes is allocated beside the metadata; a verb that
frees space and finds none gives the file up, tries once more, and takes the room again
afterwards from what it freed.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ebsim.durable_files import Files
from ebsim.errors import StorageFull, StorageUnavailable
from ebsim.units import MIB

T = TypeVar("T")

RESERVE_SIZE = 16 * MIB


class Reserve:
    """The reserve of a region, a file of *size_bytes* bytes at *path*."""

    def __init__(self, path: Path, files: Files, size_bytes: int = RESERVE_SIZE) -> None:
        self._path = path
        self._files = files
        self._size_bytes = size_bytes

    def fill(self) -> bool:
        """Take the room if it is not taken; return whether it is now."""
        status = self._files.status(self._path)
        if status is not None and status.st_blocks * 512 >= self._size_bytes:
            return True
        descriptor = self._files.open_or_create(self._path)
        try:
            self._files.allocate(descriptor, self._size_bytes)
        except StorageFull:
            self._files.truncate(descriptor, 0)
            return False
        finally:
            self._files.close(descriptor)
        return True

    def use_if_full(self, work: Callable[[], T]) -> T:
        """Run *work*, which must be safe to run again, giving up the room if there is none."""
        try:
            return work()
        except StorageFull:
            with suppress(FileNotFoundError):
                self._files.unlink(self._path)
        try:
            return work()
        finally:
            # Whether or not there is room for it: the work was what mattered, and the next
            # snapshot takes the room again, and tells why it cannot.
            with suppress(StorageUnavailable):
                self.fill()
