"""Writing blocks in runs: neighbours gathered in aligned memory and written as one.

From aligned memory a target can be written past the page cache, which a restored disk
would only pass through: at the speed of the device, while the next run is decoded.
"""

import threading
from typing import Protocol

from ebsim.background_writes import BackgroundWrites
from ebsim.units import MIB

RUN_SIZE_MAX = 4 * MIB

Buffer = bytes | bytearray | memoryview


class Writable(Protocol):
    """What runs are written to."""

    def write_at(self, data: Buffer, offset_bytes: int) -> None:
        """Write all of *data*."""


class RunWriter:
    """Gathers blocks that follow each other.  For one thread, until ``finish``."""

    def __init__(self, target: Writable) -> None:
        self._writes = BackgroundWrites(target.write_at, RUN_SIZE_MAX)
        self._start = 0
        self._size = 0

    def add(self, data: Buffer, offset_bytes: int) -> None:
        """Write *data* at *offset_bytes*, with what precedes and follows it."""
        if offset_bytes != self._start + self._size or self._size + len(data) > RUN_SIZE_MAX:
            self._hand_over()
            self._start = offset_bytes
        self._writes.buffer[self._size : self._size + len(data)] = data
        self._size += len(data)

    def finish(self) -> None:
        """Return when all is written."""
        size, self._size = self._size, 0
        self._writes.finish(size, self._start)

    def cancel(self) -> None:
        """Give up what is not written yet."""
        self._writes.cancel()

    def _hand_over(self) -> None:
        size, self._size = self._size, 0
        if size:
            self._writes.hand_over(size, self._start)


class RunWriters(threading.local):
    """A writer of each thread's own."""

    def __init__(self, target: Writable) -> None:
        self.writer = RunWriter(target)
