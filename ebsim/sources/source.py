"""Where a disk's bytes come from: the protocols that every kind of source implements.

A :class:`Source` is read in any order and again; a :class:`StreamSource` once, front to
back.  Everything but standard input is a :class:`Source`.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from ebsim.units import TIB

SIZE_BYTES_MAX = 64 * TIB
"""The largest volume there can be."""


class Extent(NamedTuple):
    """A half-open range of bytes that may hold data."""

    start: int
    stop: int


class Source(Protocol):
    """A disk to read.  ``read_into`` is safe from many threads at once."""

    @property
    def location(self) -> str:
        """The real path: what the source is registered by."""

    @property
    def size_bytes(self) -> int:
        """The disk's exact length."""

    @property
    def caution(self) -> str | None:
        """What the user should know before the snapshot is relied on, or ``None``.

        A sentence, known when the source is opened: it is mounted read-write, say.
        """

    def extents(self, start: int = 0) -> Iterator[Extent]:
        """The ranges from *start* on that may hold data, by rising offset, not touching.

        What lies between them reads as zeros and is never read.

        Raises:
            SourceUnusable: as for ``read_into``; the ranges given so far are right.
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
        """Release files, clones and helper processes.  Harmless when called twice."""


class StreamSource(Protocol):
    """A disk that arrives once, front to back; its size is known only at its end."""

    @property
    def location(self) -> str:
        """``-`` for standard input: a stream has no path and needs a volume's id."""

    @property
    def size_bytes(self) -> int:
        """What has been read so far: the disk's exact length once the end is reached."""

    def read_next(self, buffer: memoryview) -> int:
        """Fill *buffer* with the next bytes; return how many.

        Fewer than ``len(buffer)`` only at the end of the stream, 0 past it; the rest of
        *buffer* is left as it was.  For one thread.

        Raises:
            SourceUnusable: the stream is empty, broke, or is larger than a volume can be.
        """

    def close(self) -> None:
        """Release the stream."""
