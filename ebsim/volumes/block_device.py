"""What a block device is to whoever shows it to the world, and nothing more.

Offsets and lengths are bytes, of any alignment.  Every method may be called from many
threads at once.  The caller keeps to the device: ``offset_bytes + length`` is at most
``size_bytes``, and whoever speaks to strangers checks that before.

Guarantees:

1. A read sees every write that returned before the read began.
2. A read never sees a part of a write, and overlapping writes end as one of them.
3. When ``flush`` returns, all that returned before it was called survives a power cut.

What a method raises says what became of the request: ``StorageFull`` there is no room,
``ReadOnly`` the device is not to be written, any other ``EbsimError`` these bytes
cannot be had now.  The rest of the device stays usable.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

Buffer = bytes | bytearray | memoryview


class BlockDevice(Protocol):
    """A disk to read and write."""

    @property
    def size_bytes(self) -> int:
        """The device's exact length.  It may grow while it is used, and never shrinks."""

    def read_at(self, offset_bytes: int, buffer: memoryview) -> None:
        """Fill *buffer* from *offset_bytes* on."""

    def write_at(self, offset_bytes: int, data: Buffer) -> None:
        """Replace the bytes from *offset_bytes* on by *data*, in the page cache at least."""

    def zero_at(self, offset_bytes: int, length: int, *, allocate: bool = False) -> None:
        """Make *length* bytes read as zeros; with *allocate*, keep room for them on disk."""

    def trim(self, offset_bytes: int, length: int) -> None:
        """Say that *length* bytes are not needed any more.  They read as zeros afterwards."""

    def flush(self) -> None:
        """Make what was written durable."""


class PromptDevice(BlockDevice, Protocol):
    """A device that can say whether a request would have to wait."""

    def try_read_at(self, offset_bytes: int, buffer: memoryview) -> bool:
        """As ``read_at`` if that needs no disk, store or lock; else ``False``, at once.

        *buffer* holds anything when it is ``False``.
        """

    def try_write_at(self, offset_bytes: int, data: Buffer) -> bool:
        """As ``write_at`` if that waits for nobody; else ``False``, and nothing is written."""


class AllocationRange(NamedTuple):
    """A piece of a device: is room taken for it, and does it read as zeros?"""

    length: int
    is_hole: bool
    is_zero: bool


class DirtyRange(NamedTuple):
    """A piece of a device, and whether it was written since the last snapshot."""

    length: int
    is_dirty: bool


class MappedDevice(BlockDevice, Protocol):
    """A device that knows what its parts are."""

    def allocation(self, offset_bytes: int, length: int) -> Iterator[AllocationRange]:
        """What the range consists of, from its start on; never empty, at least one byte each.

        May end before the range does, and may be asked for the rest.
        """

    def dirty(self, offset_bytes: int, length: int) -> Iterator[DirtyRange]:
        """Which parts of the range were written since the last snapshot; as above."""
