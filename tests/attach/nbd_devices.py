"""Simple devices to serve: one over a file, as fast as Linux has it, and one in memory."""

import ctypes
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from ebsim.errors import StorageUnavailable
from ebsim.volumes.block_device import AllocationRange, Buffer, DirtyRange

_PUNCH_HOLE = 0x02 | 0x01
_ZERO_RANGE = 0x10 | 0x01
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class FileDevice:
    """A file's bytes.  Reads that need the disk are left to those who may wait."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._nowait = os.RWF_NOWAIT
        self._size_bytes = os.fstat(self._fd).st_size

    def close(self) -> None:
        os.close(self._fd)

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read_at(self, offset_bytes: int, buffer: memoryview) -> None:
        if os.preadv(self._fd, [buffer], offset_bytes) != len(buffer):
            raise StorageUnavailable("the file is shorter than it was")

    def try_read_at(self, offset_bytes: int, buffer: memoryview) -> bool:
        try:
            return os.preadv(self._fd, [buffer], offset_bytes, self._nowait) == len(buffer)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:  # tmpfs: everything is in memory
                self._nowait = 0
            return False

    def write_at(self, offset_bytes: int, data: Buffer) -> None:
        assert os.pwrite(self._fd, data, offset_bytes) == len(data)

    def try_write_at(self, offset_bytes: int, data: Buffer) -> bool:
        self.write_at(offset_bytes, data)
        return True

    def zero_at(self, offset_bytes: int, length: int, *, allocate: bool = False) -> None:
        self._fallocate(_ZERO_RANGE if allocate else _PUNCH_HOLE, offset_bytes, length)

    def trim(self, offset_bytes: int, length: int) -> None:
        self._fallocate(_PUNCH_HOLE, offset_bytes, length)

    def flush(self) -> None:
        os.fdatasync(self._fd)

    def _fallocate(self, mode: int, offset_bytes: int, length: int) -> None:
        if _libc.fallocate(self._fd, mode, offset_bytes, length) == 0:
            return
        if ctypes.get_errno() != errno.EOPNOTSUPP:
            raise StorageUnavailable(os.strerror(ctypes.get_errno()))
        for start in range(0, length, 1 << 20):
            self.write_at(offset_bytes + start, bytes(min(1 << 20, length - start)))


class MemoryDevice:
    """A disk in memory that notes its calls, fails when told to, and waits at a gate.

    It has no ``try`` methods: every request goes to a worker.  A request that begins at
    ``gated_at``, or a flush if that is "flush", waits until ``gate`` is set, with
    ``is_waiting`` set meanwhile.
    """

    def __init__(self, size_bytes: int) -> None:
        self.content = bytearray(size_bytes)
        self.failure: Exception | None = None
        self.flush_count = 0
        self.calls: list[tuple[str, int, int]] = []
        self.gated_at: int | str | None = None
        self.gate = threading.Event()
        self.is_waiting = threading.Event()
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def read_at(self, offset_bytes: int, buffer: memoryview) -> None:
        self._enter("read", offset_bytes, len(buffer))
        buffer[:] = self.content[offset_bytes : offset_bytes + len(buffer)]

    def write_at(self, offset_bytes: int, data: Buffer) -> None:
        self._enter("write", offset_bytes, len(data))
        self.content[offset_bytes : offset_bytes + len(data)] = data

    def zero_at(self, offset_bytes: int, length: int, *, allocate: bool = False) -> None:
        self._enter("allocate zeros" if allocate else "zero", offset_bytes, length)
        self.content[offset_bytes : offset_bytes + length] = bytes(length)

    def trim(self, offset_bytes: int, length: int) -> None:
        self._enter("trim", offset_bytes, length)
        self.content[offset_bytes : offset_bytes + length] = bytes(length)

    def flush(self) -> None:
        with self._lock:
            self.flush_count += 1
        self._wait_and_fail("flush")

    def allocation(self, offset_bytes: int, length: int) -> Iterator[AllocationRange]:
        """By pieces of 4 KiB: what is all zeros is a hole."""
        for start, size in _pieces(offset_bytes, length):
            is_zero = not any(self.content[start : start + size])
            yield AllocationRange(size, is_hole=is_zero, is_zero=is_zero)

    def dirty(self, offset_bytes: int, length: int) -> Iterator[DirtyRange]:
        """What begins with a byte that is not zero counts as written."""
        for start, size in _pieces(offset_bytes, length):
            yield DirtyRange(size, is_dirty=self.content[start] != 0)

    def _enter(self, call: str, offset_bytes: int, length: int) -> None:
        with self._lock:
            self.calls.append((call, offset_bytes, length))
        self._wait_and_fail(offset_bytes)

    def _wait_and_fail(self, place: int | str) -> None:
        if place == self.gated_at:
            self.is_waiting.set()
            assert self.gate.wait(30), "the test forgot to open the gate"
        if self.failure is not None:
            raise self.failure


class PromptMemoryDevice(MemoryDevice):
    """As above, and answers everything on the spot."""

    def try_read_at(self, offset_bytes: int, buffer: memoryview) -> bool:
        self.read_at(offset_bytes, buffer)
        return True

    def try_write_at(self, offset_bytes: int, data: Buffer) -> bool:
        self.write_at(offset_bytes, data)
        return True


def _pieces(offset_bytes: int, length: int) -> Iterator[tuple[int, int]]:
    end = offset_bytes + length
    while offset_bytes < end:
        size = min(4096 - offset_bytes % 4096, end - offset_bytes)
        yield offset_bytes, size
        offset_bytes += size
