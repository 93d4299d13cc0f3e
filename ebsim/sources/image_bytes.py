"""The bytes of an image file as its format's checks read them: never past the end.

qemu reads what lies past the end of an image file as zeros and says nothing, so that a
truncated image would be snapshotted with holes in it.  The checks of each format
(``qcow2_image.py``, ``vmdk_image.py`` ...) walk its tables to see that all data is there.
"""

import sys
from array import array
from collections.abc import Iterator
from typing import Literal

from ebsim.errors import SourceUnusable
from ebsim.sources.opened_file import OpenedFile, read_fully

_PIECE_BYTES = 1 << 20


class ImageBytes:
    """A file's bytes, with the errors of an image that is not what it should be."""

    def __init__(self, file: OpenedFile) -> None:
        self.location = file.location
        self.size_bytes = file.stamp.size_bytes
        self._fd = file.fd

    def read(self, offset_bytes: int, size_bytes: int, what: str) -> bytes:
        """Exactly that range, which holds *what*.

        Raises:
            SourceUnusable: the file ends before, or cannot be read.
        """
        self.require(offset_bytes, size_bytes, what)
        buffer = bytearray(size_bytes)
        read_fully(self._fd, memoryview(buffer), offset_bytes, location=self.location)
        return bytes(buffer)

    def read_table(
        self, offset_bytes: int, count: int, what: str, *, code: Literal["I", "Q"], big: bool
    ) -> Iterator[tuple[int, "array[int]"]]:
        """A table of *count* numbers in pieces: the index of the first, and the numbers.

        *code* is that of :mod:`array`; *big* says that the file's numbers are big-endian.
        """
        width = array(code).itemsize
        self.require(offset_bytes, count * width, what)
        step = _PIECE_BYTES // width
        for first in range(0, count, step):
            size_bytes = min(step, count - first) * width
            numbers = array(code, self.read(offset_bytes + first * width, size_bytes, what))
            if big == (sys.byteorder == "little"):
                numbers.byteswap()
            yield first, numbers

    def require(self, offset_bytes: int, size_bytes: int, what: str) -> None:
        """Refuse the image unless the range, which holds *what*, lies inside the file."""
        if offset_bytes < 0 or offset_bytes + size_bytes > self.size_bytes:
            raise SourceUnusable(
                f"{self.location} is truncated: {what} should lie at bytes {offset_bytes} to "
                f"{offset_bytes + size_bytes}, and the file ends at byte {self.size_bytes}. "
                "Nothing was made from it. Copy the image again from where it came."
            )

    def require_data(
        self, offset_bytes: int, size_bytes: int, disk_offset_bytes: int, disk_size_bytes: int
    ) -> None:
        """Refuse the image unless the data of a piece of the disk lies inside the file.

        A writer may leave out what lies past the disk's end.
        """
        inside = min(size_bytes, max(0, disk_size_bytes - disk_offset_bytes))
        self.require(offset_bytes, inside, f"the data of the disk's byte {disk_offset_bytes}")

    def refusal(self, reason: str, remedy: str = "") -> SourceUnusable:
        """The error that this image is not taken for *reason*."""
        return SourceUnusable(
            f"{self.location} {reason}. Nothing was made from it.{' ' if remedy else ''}{remedy}"
        )
