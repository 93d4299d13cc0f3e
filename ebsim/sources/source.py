"""Where a disk's bytes come from: the protocol that every kind of source implements."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Extent(NamedTuple):
    """A half-open range of bytes that may hold data."""

    start: int
    stop: int


class Source(Protocol):
    """A disk to read.  ``read_into`` is safe from many threads at once."""

    @property
    def location(self) -> str:
        """The real path, or ``-`` for standard input: what the source is registered by."""

    @property
    def size_bytes(self) -> int:
        """The disk's exact length."""

    @property
    def is_seekable(self) -> bool:
        """Whether blocks can be read again and in any order.  Standard input's cannot."""

    def extents(self, start: int = 0) -> Iterator[Extent]:
        """The ranges from *start* on that may hold data, by rising offset, not touching.

        What lies between them reads as zeros and is never read.
        """

    def read_into(self, buffer: memoryview, offset_bytes: int) -> None:
        """Fill *buffer* from *offset_bytes* on.  Bytes past the disk's end become zeros.

        Raises:
            SourceUnusable: the disk ended early or could not be read; the text names the
                byte offset.
        """

    def changed_since_opened(self) -> str | None:
        """What shows that the source was written or replaced meanwhile, or ``None``.

        A sentence for the snapshot's status message: size, modification time.
        """

    def close(self) -> None:
        """Release files, clones and helper processes."""
