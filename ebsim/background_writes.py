"""Filling one buffer while another is being written.

Writing past the page cache waits for the device.  Whoever has something better to do,
compressing or decoding, hands full buffers over here; one thread writes them in order.
"""

import mmap
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

_BUFFER_COUNT = 2

Write = Callable[[memoryview, int], None]
"""Writes all of a buffer at an offset, or raises."""


class BackgroundWrites:
    """Page-aligned buffers of *buffer_size* bytes, and a thread that writes them.

    For one thread at a time.  A write that failed is told by a later call, which ends the
    writing; one buffer behind it may have been written by then.
    """

    def __init__(self, write: Write, buffer_size: int) -> None:
        self._write = write
        self._buffer_size = buffer_size
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: deque[tuple[Future[None], memoryview]] = deque()
        self._free: list[memoryview] = []
        self._buffer_count = 0
        self.buffer = self._take_buffer()

    def hand_over(self, size_bytes: int, offset_bytes: int) -> None:
        """Have the first *size_bytes* of ``buffer`` written; ``buffer`` is another one then."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "write")
        full = self.buffer
        future = self._thread.submit(self._write, full[:size_bytes], offset_bytes)
        self._waiting.append((future, full))
        self.buffer = self._take_buffer()

    def finish(self, size_bytes: int = 0, offset_bytes: int = 0) -> None:
        """Write the first *size_bytes* of ``buffer`` and return when everything is written.

        The last piece is written by the caller's own thread, which has to wait anyhow; so
        somebody who has one piece only never starts another.
        """
        try:
            while self._waiting:
                self._wait_for_oldest()
            if size_bytes:
                self._write(self.buffer[:size_bytes], offset_bytes)
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Wait for the write under way, drop those behind it, and end the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._thread = None
        self._waiting.clear()

    def close(self) -> None:
        """Give the buffers back, after ``finish`` or ``cancel``.

        Whoever is written for holds this and is held by it: the buffers would otherwise
        stay until the interpreter next looks for cycles, which megabytes do not make it do.
        """
        self._free.clear()
        self.buffer = memoryview(b"")

    def _take_buffer(self) -> memoryview:
        if not self._free and self._buffer_count == _BUFFER_COUNT:
            self._wait_for_oldest()
        if self._free:
            return self._free.pop()
        self._buffer_count += 1
        return memoryview(mmap.mmap(-1, self._buffer_size))

    def _wait_for_oldest(self) -> None:
        future, buffer = self._waiting.popleft()
        self._free.append(buffer)
        try:
            future.result()
        except BaseException:
            self.cancel()
            raise
