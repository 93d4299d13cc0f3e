"""Sessions: which processes are at work on a region, without a lock that outlives them.

Whoever writes to a region opens a session: a small file held by ``flock``, named by a
random id that also begins the names of the session's packs.  The kernel lets go of the
file when the process ends, however it ends, so a session whose file can be locked is
over, and what it left may be cleared away by anybody.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os.path import samestat
from pathlib import Path
from random import Random

from ebsim.durable_files import Files
from ebsim.errors import Conflict, StorageUnavailable

_REBUILD = "rebuild"


class Session:
    """A process at work.  Ends with ``close``, or with the process."""

    def __init__(self, files: Files, path: Path, descriptor: int) -> None:
        self._files = files
        self._path = path
        self._descriptor = descriptor
        self._pack_count = 0
        self._archive_pack_count = 0
        self.session_id = path.name

    def next_pack_name(self) -> str:
        """A name that no pack ever had."""
        self._pack_count += 1
        return f"packs/{self.session_id}-{self._pack_count:06x}.pack"

    def next_archive_pack_name(self) -> str:
        """The same for the one archive that a session may make."""
        self._archive_pack_count += 1
        return f"archive/{self.session_id}-{self._archive_pack_count:06x}.pack"

    def close(self) -> None:
        """End the session.  Call it only when the session has left nothing undone."""
        if self._descriptor >= 0:
            # What the session was for is done and durable.  A file that cannot be removed
            # is that of a dead session: recovery finds nothing to clear, and removes it.
            with suppress(StorageUnavailable, FileNotFoundError):
                self._files.unlink(self._path)
            self.abandon()

    def abandon(self) -> None:
        """End the session as a crash would: what it left is for recovery to clear."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._files.close(descriptor)


class Sessions:
    """The sessions of a region, as files in a directory."""

    def __init__(self, directory: Path, random: Random, files: Files | None = None) -> None:
        self._directory = directory
        self._random = random
        self._files = files or Files()

    def open(self) -> Session:
        """Begin a session for this process.

        Its file is durable when this returns: what a power cut leaves of the session is
        found by the file.
        """
        while True:
            path = self._directory / f"{self._random.getrandbits(64):016x}"
            try:
                descriptor = self._files.create(path)
            except FileExistsError:
                continue
            try:
                self._files.lock(descriptor)
                # Between the two calls somebody may have taken the file for a dead
                # session's and removed it; then this lock is on a file that nobody finds.
                if self._is_at(descriptor, path):
                    self._refuse_during_rebuild(path)
                    self._files.sync_directory(self._directory)
                    return Session(self._files, path, descriptor)
            except BaseException:
                self._files.close(descriptor)
                raise
            self._files.close(descriptor)

    def _refuse_during_rebuild(self, path: Path) -> None:
        # After the session's own file is there: either this sees the rebuild, or the
        # rebuild sees the session.
        if self.is_alive(_REBUILD):
            self._files.unlink(path)
            raise Conflict(
                "the store's metadata is being rebuilt. Nothing was changed. "
                "Wait until 'ebsim store rebuild' is done."
            )

    @contextmanager
    def shut_out(self) -> Iterator[None]:
        """Let no session begin while the body runs.

        Raises:
            Conflict: one is alive, or somebody else shuts sessions out.
        """
        path = self._directory / _REBUILD
        descriptor = self._files.open_or_create(path)
        try:
            if not self._files.lock(descriptor, wait=False) or not self._is_at(descriptor, path):
                raise Conflict("another process rebuilds the store. Nothing was changed.")
            names = [name for name in self._files.file_names(self._directory) if name != _REBUILD]
            alive = [name for name in names if self.is_alive(name)]
            if alive:
                raise Conflict(
                    f"{len(alive)} processes are at work on the store. Nothing was changed. "
                    "Wait until they are done, or stop them."
                )
            yield
            # A region that was removed meanwhile has taken the file with it.
            with suppress(FileNotFoundError):
                self._files.unlink(path)
        finally:
            self._files.close(descriptor)

    def dead(self) -> list[str]:
        """The ids of sessions whose process is gone."""
        found = []
        for name in sorted(self._files.file_names(self._directory)):
            with self._claimed(name) as is_dead:
                if is_dead:
                    found.append(name)
        return found

    def is_alive(self, session_id: str) -> bool:
        with self._claimed(session_id) as is_dead:
            return not is_dead and self._files.status(self._directory / session_id) is not None

    @contextmanager
    def clearing(self, session_id: str) -> Iterator[bool]:
        """Clear up after a dead session: its file goes when the body ends well.

        Yields whether the session is dead and nobody else is clearing it.
        """
        with self._claimed(session_id) as is_dead:
            yield is_dead
            if is_dead:
                with suppress(FileNotFoundError):
                    self._files.unlink(self._directory / session_id)

    @contextmanager
    def _claimed(self, session_id: str) -> Iterator[bool]:
        """Hold the file of a dead session for a moment; yields whether it is dead."""
        path = self._directory / session_id
        try:
            descriptor = self._files.open_to_write(path)
        except FileNotFoundError:
            yield False
            return
        try:
            yield self._files.lock(descriptor, wait=False) and self._is_at(descriptor, path)
        finally:
            self._files.close(descriptor)

    def _is_at(self, descriptor: int, path: Path) -> bool:
        """Whether *path* still names the file open as *descriptor*."""
        there = self._files.status(path)
        return there is not None and samestat(there, self._files.status_of(descriptor))
