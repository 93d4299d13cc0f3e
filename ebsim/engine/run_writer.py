"""Writing blocks in runs: neighbours gathered in aligned memory and written as one.

From aligned memory a target can be written past the page cache, which a restored disk
would only pass through: at the speed of the device, and with the processor left to
decoding.
"""

import mmap
import threading
from typing import Protocol

from ebsim.units import MIB

RUN_SIZE_MAX = 4 * MIB

Buffer = bytes | bytearray | memoryview


class Writable(Protocol):
    """What runs are written to."""

    def write_at(self, data: Buffer, offset_bytes: int) -> None:
        """Write all of *data*."""


class RunBuffers(threading.local):
    """Each thread's own page-aligned buffer."""

    def __init__(self) -> None:
        self.buffer = memoryview(mmap.mmap(-1, RUN_SIZE_MAX))


class RunWriter:
    """Gathers blocks that follow each other.  For one thread, until ``flush``."""

    def __init__(self, target: Writable, buffer: memoryview) -> None:
        self._target = target
        self._buffer = buffer
        self._start = 0
        self._size = 0

    def add(self, data: Buffer, offset_bytes: int) -> None:
        """Write *data* at *offset_bytes*, now or with what follows it."""
        if offset_bytes != self._start + self._size or self._size + len(data) > RUN_SIZE_MAX:
            self.flush()
            self._start = offset_bytes
        self._buffer[self._size : self._size + len(data)] = data
        self._size += len(data)

    def flush(self) -> None:
        """Write what was gathered."""
        if self._size:
            self._target.write_at(self._buffer[: self._size], self._start)
        self._start += self._size
        self._size = 0
