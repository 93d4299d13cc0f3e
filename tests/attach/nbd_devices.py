"""Simple devices to serve: one over a file, as fast as Linux has it, and one in memory."""

import ctypes
import errno
import os
from pathlib import Path

from ebsim.errors import StorageUnavailable
from ebsim.volumes.block_device import Buffer

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
