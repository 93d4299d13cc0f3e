"""A disk that is piped in: ``zcat disk.img.gz | ebsim snapshot create -``."""

from io import RawIOBase
from typing import Protocol

from ebsim.errors import SourceUnusable
from ebsim.sources.source import SIZE_BYTES_MAX
from ebsim.units import format_size


class ByteStream(Protocol):
    """What is asked of a stream; ``sys.stdin.buffer`` and ``io.BytesIO`` offer it."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill *buffer* or a part of it; 0 at the end."""


class StandardInput:
    """A :class:`~ebsim.sources.source.StreamSource` over an open binary *stream*.

    The stream is the caller's and is not closed.
    """

    def __init__(
        self, stream: ByteStream | RawIOBase, *, size_bytes_max: int = SIZE_BYTES_MAX
    ) -> None:
        self._stream = stream
        self._size_bytes_max = size_bytes_max
        self._size_bytes = 0

    @property
    def location(self) -> str:
        return "-"

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read_next(self, buffer: memoryview) -> int:
        filled = 0
        while filled < len(buffer):
            try:
                count = self._stream.readinto(buffer[filled:])
            except OSError as error:
                raise SourceUnusable(
                    f"standard input broke at byte {self._size_bytes + filled}: "
                    f"{error.strerror}. No snapshot was made."
                ) from error
            if count is None:
                raise SourceUnusable(
                    f"standard input is non-blocking and had nothing at byte "
                    f"{self._size_bytes + filled}. No snapshot was made. Use a plain pipe."
                )
            if count == 0:
                break
            filled += count
        self._size_bytes += filled
        if self._size_bytes > self._size_bytes_max:
            raise SourceUnusable(
                f"standard input is larger than a volume can be "
                f"({format_size(self._size_bytes_max)}). No snapshot was made."
            )
        if self._size_bytes == 0:
            raise SourceUnusable(
                "standard input is empty. No snapshot was made. Did the command before the "
                "pipe fail?"
            )
        return filled

    def close(self) -> None:
        """Nothing to release: the stream is the caller's."""
