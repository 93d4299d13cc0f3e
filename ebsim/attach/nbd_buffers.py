"""Memory for payloads, used again and again.

Buffers are mapped, so they begin at a page: the kernel copies to and from them at about
twice the speed.  What is not touched takes no memory.
"""

import mmap
import threading

_PAGE = mmap.PAGESIZE


class PayloadBuffers:
    """A connection's buffers.  Safe from many threads.

    *kept_bytes* is how much of what came back is kept for the next.
    """

    def __init__(self, kept_bytes: int) -> None:
        self._lock = threading.Lock()
        self._free: list[memoryview] = []
        self._room_bytes = kept_bytes

    def take(self, size_bytes: int) -> memoryview:
        """A buffer of *size_bytes* or more, holding anything."""
        with self._lock:
            for index, buffer in enumerate(self._free):
                if len(buffer) >= size_bytes:
                    self._room_bytes += len(buffer)
                    return self._free.pop(index)
        pages = max(1, -(-size_bytes // _PAGE))
        # Powers of two, so that one serves for many lengths.
        return memoryview(mmap.mmap(-1, _PAGE << (pages - 1).bit_length()))

    def give_back(self, buffer: memoryview) -> None:
        """*buffer*, as ``take`` returned it, is not needed any more."""
        with self._lock:
            if len(buffer) <= self._room_bytes:
                self._room_bytes -= len(buffer)
                self._free.append(buffer)
