"""Sessions: which processes are at work on a region, without a lock that outlives them.

Whoever writes to a region opens a session: a small file held by ``flock``, named by a
random id that also begins the names of the session's packs.  The kernel lets go of the
file when the process ends, however it ends, so a session whose file can be locked is
over, and what it left may be cleared away by anybody.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random


class Session:
    """A process at work.  Ends with ``close``, or with the process."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd
        self._pack_count = 0
        self.session_id = path.name

    def next_pack_name(self) -> str:
        """A name that no pack ever had."""
        self._pack_count += 1
        return f"packs/{self.session_id}-{self._pack_count:06x}.pack"

    def close(self) -> None:
        """End the session.  Call it only when the session has left nothing undone."""
        if self._fd >= 0:
            self._path.unlink(missing_ok=True)
            self.abandon()

    def abandon(self) -> None:
        """End the session as a crash would: what it left is for recovery to clear."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Sessions:
    """The sessions of a region, as files in a directory."""

    def __init__(self, directory: Path, random: Random) -> None:
        self._directory = directory
        self._random = random

    def open(self) -> Session:
        """Begin a session for this process."""
        while True:
            path = self._directory / f"{self._random.getrandbits(64):016x}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Between the two calls somebody may have taken the file for a dead session's
            # and removed it; then this lock is on a file that nobody can find.
            if _is_at(fd, path):
                return Session(path, fd)
            os.close(fd)

    def dead(self) -> list[str]:
        """The ids of sessions whose process is gone."""
        found = []
        for name in sorted(path.name for path in self._directory.iterdir()):
            with self._claimed(name) as is_dead:
                if is_dead:
                    found.append(name)
        return found

    def is_alive(self, session_id: str) -> bool:
        with self._claimed(session_id) as is_dead:
            return not is_dead and (self._directory / session_id).exists()

    @contextmanager
    def clearing(self, session_id: str) -> Iterator[bool]:
        """Clear up after a dead session: its file goes when the body ends well.

        Yields whether the session is dead and nobody else is clearing it.
        """
        with self._claimed(session_id) as is_dead:
            yield is_dead
            if is_dead:
                (self._directory / session_id).unlink(missing_ok=True)

    @contextmanager
    def _claimed(self, session_id: str) -> Iterator[bool]:
        """Hold the file of a dead session for a moment; yields whether it is dead."""
        try:
            fd = os.open(self._directory / session_id, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            yield False
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield _is_at(fd, self._directory / session_id)
        finally:
            os.close(fd)


def _is_at(fd: int, path: Path) -> bool:
    """Whether *path* still names the file open as *fd*."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
