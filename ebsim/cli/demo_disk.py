"""The disk of ``ebsim demo``: an ext4 image with real files, or a synthetic one.

Files are put into the image from outside, by ``mke2fs -d`` and ``debugfs -w``: nothing is
mounted, so nobody needs to be root.
"""

import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Protocol

from ebsim.errors import TargetUnusable
from ebsim.units import KIB, MIB, format_size

_SIZE = 64 * MIB
# Where Debian has the programs, and not on everybody's path.
_SYSTEM_FOLDERS = "/usr/sbin:/sbin"
_PACKAGES = (
    "asyncio", "collections", "concurrent", "ctypes", "email", "encodings", "html", "http",
    "idlelib", "importlib", "json", "logging", "multiprocessing", "pydoc_data", "sqlite3",
    "tkinter", "unittest", "urllib", "xml",
)  # fmt: skip
_BLOCK = 512 * KIB


class DemoDisk(Protocol):
    """A disk image that the demo makes, and changes twice."""

    def make(self) -> str:
        """Make it; return what it is."""

    def change(self) -> str:
        """Change a little of it; return what."""

    def change_again(self) -> str:
        """Change some more; return what."""


def demo_disk(path: Path, system_folders: str = _SYSTEM_FOLDERS) -> DemoDisk:
    """The best disk that this machine can make at *path*."""
    programs = {
        name: shutil.which(name) or shutil.which(name, path=system_folders)
        for name in ("mke2fs", "debugfs")
    }
    found = {name: program for name, program in programs.items() if program is not None}
    return Ext4Disk(path, found) if len(found) == len(programs) else SyntheticDisk(path)


class Ext4Disk:
    """An ext4 file system with a part of the running Python's own library."""

    def __init__(self, path: Path, programs: Mapping[str, str]) -> None:
        self._path = path
        self._programs = programs

    def make(self) -> str:
        library = Path(sysconfig.get_path("stdlib"))
        files = self._path.with_name("files")
        files.mkdir()
        for package in _PACKAGES:
            if (library / package).is_dir():
                shutil.copytree(
                    library / package,
                    files / package,
                    ignore=shutil.ignore_patterns("__pycache__", "tests", "test"),
                )
        count = sum(1 for path in files.rglob("*") if path.is_file())
        with self._path.open("wb") as file:
            file.truncate(_SIZE)
        self._run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(files), str(self._path))
        shutil.rmtree(files)
        return f"{format_size(_SIZE)}, an ext4 file system with {count} files of Python's library"

    def change(self) -> str:
        self._write("notes.txt", b"the demo was here\n" * 100)
        return "wrote the file notes.txt, 1.8 kB, into it"

    def change_again(self) -> str:
        self._write("photo.raw", Random(1).randbytes(3 * MIB))
        self._run("debugfs", "-w", "-R", "rm /notes.txt", str(self._path))
        return "wrote photo.raw, 3 MiB, and removed notes.txt"

    def _write(self, name: str, data: bytes) -> None:
        source = self._path.with_name(name)
        source.write_bytes(data)
        self._run("debugfs", "-w", "-R", f"write {name} {name}", str(self._path))
        source.unlink()

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs[name], *arguments],
            check=False,
            cwd=self._path.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise TargetUnusable(f"{self._path} cannot be made by {name}: {done.stderr.strip()}")


class SyntheticDisk:
    """A disk of nothing in particular, half of it data, half of that compressible."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._random = Random(1)

    def make(self) -> str:
        with self._path.open("wb") as file:
            for _ in range(_SIZE // 2 // _BLOCK):
                file.write(self._random.randbytes(_BLOCK // 2) + bytes(_BLOCK // 2))
            file.truncate(_SIZE)
        return f"{format_size(_SIZE)} of made-up data (no mke2fs here for a file system)"

    def change(self) -> str:
        self._write(5 * _BLOCK, 2 * KIB)
        return "changed 2 KiB at 2.5 MiB"

    def change_again(self) -> str:
        self._write(20 * MIB, 3 * MIB)
        return "changed 3 MiB at 20 MiB"

    def _write(self, offset_bytes: int, size_bytes: int) -> None:
        with self._path.open("r+b") as file:
            file.seek(offset_bytes)
            file.write(self._random.randbytes(size_bytes))
