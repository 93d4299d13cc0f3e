"""A bitmap that lives in a file mapped into memory: it outlives the process, at no call a bit.

What is set there is in the page cache at once, so a killed process loses none of it.
When the machine ends uncleanly it may be lost in part and in any order: what needs more
is ``durable_bits.py``'s.
"""

import mmap
from contextlib import suppress
from pathlib import Path

from ebsim.disk_errors import Attempt
from ebsim.durable_files import Files
from ebsim.volumes.block_bitmap import BlockBitmap, bitmap_bytes

PAGE = 4096


def padded_bytes(block_count: int) -> int:
    """How long the file of a bitmap is: whole pages, at least one."""
    return max(PAGE, -(-bitmap_bytes(block_count) // PAGE) * PAGE)


class MappedBits(BlockBitmap):
    """The bits of *block_count* blocks in the file *path*, made of zeros if it is not there.

    The file has its room reserved: a store into a mapped hole of a full disk would end
    the process.

    Raises:
        StorageFull: there is no room for it.
    """

    __slots__ = ("_descriptor", "_files")

    def __init__(self, files: Files, path: Path, block_count: int) -> None:
        self._files = files
        size = padded_bytes(block_count)
        self._descriptor = files.open_or_create(path)
        try:
            files.allocate(self._descriptor, size)
            with Attempt("map", path, "Nothing was changed."):
                mapped = mmap.mmap(self._descriptor, size)
        except BaseException:
            files.close(self._descriptor)
            raise
        super().__init__(mapped, block_count)

    def sync(self) -> None:
        """Make the bits durable."""
        self._files.sync(self._descriptor)

    def close(self) -> None:
        """Release the file; the bits stay in the page cache.

        The memory goes with its last user: another thread may be looking through it.
        """
        self._files.close(self._descriptor)


def new_bits(files: Files, path: Path, block_count: int) -> MappedBits:
    """Bits of which none is set in the file *path*, in place of any that was there."""
    with suppress(FileNotFoundError):
        files.unlink(path)
    return MappedBits(files, path, block_count)
