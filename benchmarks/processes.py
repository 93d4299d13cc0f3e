"""Real commands, run and measured: wall and processor seconds, peak memory."""

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ebsim.units import KIB

_CHILD = Path(__file__).with_name("measured_child.py")
_libc = ctypes.CDLL(None, use_errno=True)


class CommandFailed(Exception):
    """A command that the benchmark needs ended with an error."""

    def __init__(self, command: str, exit_code: int | None, output: str) -> None:
        super().__init__(f"{command} ended with {exit_code}: {output.strip()}")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a step took; ``peak_bytes`` of the command that had most."""

    wall_seconds: float
    processor_seconds: float
    peak_bytes: int

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.wall_seconds + other.wall_seconds,
            self.processor_seconds + other.processor_seconds,
            max(self.peak_bytes, other.peak_bytes),
        )


def run_measured(
    command: Sequence[str | Path],
    *,
    sync: Path | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> tuple[Usage, str]:
    """Run *command*; return what it used and what it printed.

    The wall time goes on until the file system that *sync* lies on has written everything
    out, whoever asked for it: a tool that never syncs gains nothing by that.

    Python keeps compiled modules, as it does for its users, whatever this shell asks for:
    compiling ebsim takes longer than most of its commands.

    Raises:
        CommandFailed: its exit code was not 0.
    """
    inherited = {k: value for k, value in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    words = [str(word) for word in command]
    read_fd, write_fd = os.pipe()
    with closing(os.fdopen(read_fd)) as report:
        done = subprocess.run(
            [sys.executable, "-I", "-S", _CHILD, str(write_fd), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            pass_fds=[write_fd],
            env={**inherited, **(environment or {})},
            cwd=folder,
        )
        os.close(write_fd)
        figures = report.read().split()
    if not figures or figures[0] != "0":
        code = int(figures[0]) if figures else None
        raise CommandFailed(" ".join(words), code, done.stderr or done.stdout)
    usage = Usage(float(figures[1]), float(figures[2]), int(figures[3]) * KIB)
    if sync is not None:
        usage += Usage(sync_file_system(sync), 0.0, 0)
    return usage, done.stdout


def sync_file_system(path: Path) -> float:
    """Write out the file system that *path* lies on; return the seconds it took."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        begun_ns = time.perf_counter_ns()
        if _libc.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "syncfs", str(path))
        return (time.perf_counter_ns() - begun_ns) / 1e9
    finally:
        os.close(descriptor)


def allocated_bytes(path: Path) -> int:
    """What a file, or everything in a folder, occupies on the disk."""
    if not path.is_dir():
        return path.stat().st_blocks * 512
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file())


def ebsim_command(home: Path, *words: str | Path) -> list[str | Path]:
    """``ebsim`` as this Python runs it, with its store under *home*."""
    return [sys.executable, "-m", "ebsim", "--quiet", "--home", home, *words]


def use_two_processors() -> int:
    """Keep this process, and all that it starts, to two processors; return how many it has."""
    chosen = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, chosen)
    return len(chosen)
