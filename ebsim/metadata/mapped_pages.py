"""How much of the metadata file is mapped into this process, and letting go of it.

LMDB reads through a mapping, so pages once touched count as this process's resident
memory until the kernel wants them back, up to the whole file.  They are clean, and
dropping them from the process leaves them in the page cache: touching one again costs a
minor fault.  Holding a command to its memory bound is worth those.
"""

import ctypes
import mmap
from pathlib import Path
from typing import Final

_STATM: Final = Path("/proc/self/statm")
_MAPS: Final = Path("/proc/self/maps")
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def mapped_resident_bytes() -> int:
    """What this process has resident of files, all of its mappings together."""
    return int(_STATM.read_text().split()[2]) * mmap.PAGESIZE


def find_mapping(path: Path) -> tuple[int, int]:
    """Where the file *path* is mapped in this process: address and size, (0, 0) if nowhere."""
    inode, wanted = str(path.stat().st_ino), str(path)
    for line in _MAPS.read_text(errors="replace").splitlines():
        # Not by device: some file systems show another there than stat() does.
        bounds, _, _, _, line_inode, *name = line.split(maxsplit=5)
        if line_inode == inode and name == [wanted]:
            start, _, stop = bounds.partition("-")
            return int(start, 16), int(stop, 16) - int(start, 16)
    return 0, 0


def drop_mapped(address: int, size_bytes: int) -> None:
    """Take the pages of a clean, shared file mapping out of this process's memory.

    Safe beside threads that read the mapping: they fault the pages in again.
    """
    if size_bytes:
        _LIBC.madvise(address, size_bytes, mmap.MADV_DONTNEED)
