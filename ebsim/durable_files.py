"""The one seam through which ebsim reads and writes its own files (LMDB's excepted).

``Files`` turns system calls (``system_calls.py``, replaceable) into promises:

1. ``write`` writes everything or raises; ``read`` returns everything up to the file's end.
2. Every failure is a ``StorageUnavailable`` (no room: ``StorageFull``) that names the
   operation, the path, the reason and what was left unchanged.  ``FileNotFoundError`` and
   ``FileExistsError`` stay themselves where a docstring says so.
3. Nothing is retried.  After a failed sync the kernel may have dropped the very pages it
   could not write and report success the next time, so the file is given up, not synced again.

``NewFile`` writes a file so that it appears under its name whole or not at all:

    state        on disk                              after a power cut
    being made   ``.NAME.N.unsealed``, locked         nothing, or that name: discarded
    published    NAME                                 NAME, whole

4. Data is synced before the name changes, and the directory after: the order of the two
   is the whole of the guarantee.
5. The temporary file lies in the target's directory, so that publishing it is one rename.
6. Who makes a temporary file holds an exclusive ``flock`` on it until it is published or
   gone.  The kernel drops the lock with the process: what can be locked is abandoned, at
   once and without any rule about age.  Only a holder of that lock may rename or unlink it.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ebsim.disk_errors import Attempt, failure
from ebsim.system_calls import Buffer, SystemCalls

NAME_SIZE_MAX = 200
"""The longest name a :class:`NewFile` may have: 255 bytes less what its temporary name adds."""

_PARTS_MAX = 1024  # IOV_MAX on Linux
_CANNOT = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_UNSEALED = ".unsealed"


class Files:
    """The file operations that ebsim builds on.  Safe from many threads at once.

    Descriptors are plain ``int`` and belong to the caller, who closes them here.
    """

    __slots__ = ("_calls",)

    def __init__(self, calls: SystemCalls | None = None) -> None:
        self._calls = calls or SystemCalls()

    @property
    def calls(self) -> SystemCalls:
        """The raw calls, for what needs more of them than this makes promises about."""
        return self._calls

    def open_to_read(self, path: Path) -> int:
        """Open a file that exists; raises ``FileNotFoundError`` where none does."""
        with Attempt("open", path, "Nothing was changed.", FileNotFoundError):
            return self._calls.open(path, os.O_RDONLY)

    def open_to_write(self, path: Path) -> int:
        """Open a file that exists for reading and writing; else ``FileNotFoundError``."""
        with Attempt("open", path, "Nothing was changed.", FileNotFoundError):
            return self._calls.open(path, os.O_RDWR)

    def open_or_create(self, path: Path) -> int:
        """Open *path* for reading and writing, made empty if there is none (a lock file, say)."""
        with Attempt("open", path, "Nothing was changed."):
            return self._calls.open(path, os.O_RDWR | os.O_CREAT)

    def create(self, path: Path) -> int:
        """Make *path*, empty.

        Raises:
            FileExistsError: the name is taken.
            FileNotFoundError: the directory is missing.
        """
        with Attempt("create", path, "Nothing was changed.", FileExistsError, FileNotFoundError):
            return self._calls.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def close(self, descriptor: int) -> None:
        with Attempt("close", descriptor, "What was synced before is safe."):
            self._calls.close(descriptor)

    def write(self, descriptor: int, parts: Sequence[Buffer], offset_bytes: int) -> int:
        """Write all *parts*, one after the other, from *offset_bytes* on; return their size.

        After a failure the range may be written in part.
        """
        rest = [view for view in map(_as_bytes, parts) if view.nbytes]
        size = sum(view.nbytes for view in rest)
        end = offset_bytes + size
        with Attempt("write", descriptor, "Only the range to be written may have changed."):
            while offset_bytes < end:
                written = self._calls.pwritev(descriptor, rest[:_PARTS_MAX], offset_bytes)
                if written == 0:
                    raise OSError(errno.EIO, "the device took no bytes")
                offset_bytes += written
                rest = _without_first(rest, written)
        return size

    def read(self, descriptor: int, offset_bytes: int, size_bytes: int) -> bytes:
        """*size_bytes* bytes from *offset_bytes* on, fewer only where the file ends."""
        # No `Attempt` here: this is the hot path, and a `try` that succeeds costs nothing.
        try:
            data = self._calls.pread(descriptor, size_bytes, offset_bytes)
            while len(data) < size_bytes:
                wanted = size_bytes - len(data)
                more = self._calls.pread(descriptor, wanted, offset_bytes + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise failure("read", descriptor, "Nothing was changed.", error) from error
        return data

    def sync(self, descriptor: int) -> None:
        """Make the file's bytes and size durable.  Never to be called again once it failed."""
        with Attempt("sync", descriptor, "What was synced before is safe."):
            self._calls.fdatasync(descriptor)

    def sync_directory(self, path: Path) -> None:
        """Make durable which names *path* holds, and what they name."""
        with Attempt("sync", path, "Its names as of the last sync are safe."):
            self._calls.fsync_directory(path)

    def bypass_cache(self, descriptor: int, *, bypass: bool) -> bool:
        """Let writes pass by the page cache, or not; return whether the request was met.

        While it holds, offsets, sizes and buffers must be aligned as the device asks.
        """
        try:
            self._calls.set_direct(descriptor, is_direct=bypass)
        except OSError as error:
            if bypass and error.errno in _CANNOT:
                return False
            raise failure("set up", descriptor, "Nothing was changed.", error) from error
        return True

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        with Attempt("resize", descriptor, "The file keeps its size."):
            self._calls.ftruncate(descriptor, size_bytes)

    def allocate(self, descriptor: int, size_bytes: int) -> None:
        """Reserve room for the file's first *size_bytes* bytes, and make it that long at least."""
        with Attempt("allocate", descriptor, "The bytes it holds are unchanged."):
            self._calls.allocate(descriptor, 0, size_bytes)

    def punch_hole(self, descriptor: int, offset_bytes: int, size_bytes: int) -> int:
        """Turn a range into zeros and give back its whole pages; return the bytes given back.

        0 where the file system has no holes, and then the bytes stay.  The figure is the
        file's own before and after: two threads punching one file may count a page twice.
        """
        if size_bytes <= 0:
            return 0
        before = self.status_of(descriptor).st_blocks
        with Attempt("punch", descriptor, "No byte outside of the range has changed."):
            try:
                self._calls.punch_hole(descriptor, offset_bytes, size_bytes)
            except OSError as error:
                if error.errno not in {errno.EOPNOTSUPP, errno.ENOSYS}:
                    raise
                return 0
        return max(0, before - self.status_of(descriptor).st_blocks) * 512

    def make_private(self, descriptor: int) -> None:
        """Let nobody but the file's owner read it or write to it."""
        with Attempt("protect", descriptor, "Nothing was written to it."):
            self._calls.fchmod(descriptor, 0o600)

    def rename(self, path: Path, target: Path) -> None:
        """Give *path* the name *target*, in place of any file of that name."""
        with Attempt("rename", path, "Both names are as they were."):
            self._calls.rename(path, target)

    def rename_new(self, path: Path, target: Path) -> None:
        """Give *path* the name *target*; raises ``FileExistsError`` where that is taken."""
        with Attempt("rename", path, "Both names are as they were.", FileExistsError):
            try:
                self._calls.rename_new(path, target)
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
                # This file system cannot rename so.  A crash between the two calls leaves
                # one whole file under both names; the temporary one is discarded later.
                self._calls.link(path, target)
                self._calls.unlink(path)

    def unlink(self, path: Path) -> None:
        """Remove a name; raises ``FileNotFoundError`` where there is none."""
        with Attempt("remove", path, "It is still there.", FileNotFoundError):
            self._calls.unlink(path)

    def make_directories(self, path: Path) -> None:
        """Make *path* and the directories above it where they are missing, durably."""
        if self.status(path.parent) is None:
            self.make_directories(path.parent)
        with Attempt("create", path, "Nothing was changed."):
            try:
                self._calls.mkdir(path)
            except FileExistsError:
                if not stat.S_ISDIR(self._calls.stat(path).st_mode):
                    raise
        # Also when another process made it: that one may not have synced it yet.
        self.sync_directory(path.parent)

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory; raises ``FileNotFoundError`` where there is none."""
        with Attempt("remove", path, "It is still there.", FileNotFoundError):
            self._calls.rmdir(path)

    def file_names(self, path: Path) -> list[str]:
        """The names of the files in *path*; none where there is no such directory."""
        return [name for name, is_directory in self._entries(path) if not is_directory]

    def folder_names(self, path: Path) -> list[str]:
        """The names of the directories in *path*; none where there is no such directory."""
        return [name for name, is_directory in self._entries(path) if is_directory]

    def status(self, path: Path) -> os.stat_result | None:
        """What ``stat`` says about *path*, ``None`` where there is nothing."""
        with Attempt("look up", path, "Nothing was changed."):
            try:
                return self._calls.stat(path)
            except FileNotFoundError:
                return None

    def status_of(self, descriptor: int) -> os.stat_result:
        with Attempt("look up", descriptor, "Nothing was changed."):
            return self._calls.fstat(descriptor)

    def lock(self, descriptor: int, *, shared: bool = False, wait: bool = True) -> bool:
        """Take the ``flock`` of an open file; whether it was taken (always, if *wait*).

        It goes with the last descriptor of this opening: with the process at the latest.
        """
        operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        with Attempt("lock", descriptor, "Nothing was changed."):
            try:
                self._calls.flock(descriptor, operation if wait else operation | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def _entries(self, path: Path) -> list[tuple[str, bool]]:
        with Attempt("list", path, "Nothing was changed."):
            try:
                return self._calls.scandir(path)
            except FileNotFoundError:
                return []


class NewFile:
    """A file being written: under a temporary name until ``publish``, which may fail.

    Its room is given back by ``discard``, or by :func:`discard_abandoned` once the process
    is gone.  One thread at a time.
    """

    __slots__ = ("_descriptor", "_files", "_is_broken", "_temporary", "size_bytes", "target")

    def __init__(self, files: Files, target: Path, *, is_private: bool = False) -> None:
        """Begin *target*, unreadable to others if it *is_private*.

        Raises ``FileNotFoundError`` where its directory is missing."""
        assert len(target.name) <= NAME_SIZE_MAX, "the temporary name would be too long"
        self.target = target
        self.size_bytes = 0
        self._files = files
        self._is_broken = False
        self._temporary, self._descriptor = _create_locked(files, target, is_private)

    def append(self, parts: Sequence[Buffer]) -> int:
        """Write *parts* at the end; return the offset of their first byte."""
        self._begin_step()
        offset_bytes = self.size_bytes
        self.size_bytes += self._files.write(self._descriptor, parts, offset_bytes)
        self._is_broken = False
        return offset_bytes

    def publish(self, *, replace: bool) -> None:
        """Make the file durable, then durably visible as its target.

        Raises:
            FileExistsError: the name is taken, and *replace* is false.
        """
        self._begin_step()
        self._files.sync(self._descriptor)
        if replace:
            self._files.rename(self._temporary, self.target)
        else:
            self._files.rename_new(self._temporary, self.target)
        self._files.sync_directory(self.target.parent)
        self._is_broken = False
        self._close()

    def discard(self) -> None:
        """Remove the temporary file.  Harmless after ``publish`` and when called twice."""
        if self._descriptor < 0:
            return
        try:
            _unlink_if_same(self._files, self._temporary, self._descriptor)
        finally:
            self._close()

    def _begin_step(self) -> None:
        assert self._descriptor >= 0, f"{self.target} is published or discarded"
        assert not self._is_broken, f"{self.target} failed before and can only be discarded"
        self._is_broken = True

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        self._files.close(descriptor)


def write_atomically(files: Files, path: Path, data: bytes) -> None:
    """Make *path* hold *data*, durably: at any moment it is the old file or the new, whole."""
    new_file = NewFile(files, path)
    try:
        new_file.append([data])
        new_file.publish(replace=True)
    finally:
        new_file.discard()


def discard_abandoned(files: Files, directory: Path) -> int:
    """Remove the temporary files in *directory* whose makers are gone; return how many."""
    # Not synced: one that comes back after a power cut is found and removed again.
    return sum(
        _discard_if_abandoned(files, directory / name)
        for name in files.file_names(directory)
        if name.startswith(".") and name.endswith(_UNSEALED)
    )


def _create_locked(files: Files, target: Path, is_private: bool) -> tuple[Path, int]:
    """Make and lock a temporary file for *target*, under the first free number."""
    number = 0
    while True:
        temporary = target.with_name(f".{target.name}.{number}{_UNSEALED}")
        try:
            descriptor = files.create(temporary)
        except FileExistsError:
            number += 1
            continue
        try:
            if is_private:
                files.make_private(descriptor)
            files.lock(descriptor)
            # Before it was locked, another process may have taken it for abandoned.
            if files.status_of(descriptor).st_nlink:
                return temporary, descriptor
        except BaseException:
            files.close(descriptor)
            raise
        files.close(descriptor)


def _discard_if_abandoned(files: Files, temporary: Path) -> bool:
    try:
        descriptor = files.open_to_write(temporary)
    except FileNotFoundError:
        return False
    try:
        if not files.lock(descriptor, wait=False):
            return False
        return _unlink_if_same(files, temporary, descriptor)
    finally:
        files.close(descriptor)


def _unlink_if_same(files: Files, temporary: Path, descriptor: int) -> bool:
    """Unlink *temporary* if it still names the locked file *descriptor*.

    It may have been published meanwhile and its name used again by another writer.
    While the lock is held nobody else may change what the name means.
    """
    named = files.status(temporary)
    if named is None or not os.path.samestat(named, files.status_of(descriptor)):
        return False
    files.unlink(temporary)
    return True


def _as_bytes(part: Buffer) -> memoryview:
    return memoryview(part).cast("B")


def _without_first(views: list[memoryview], size_bytes: int) -> list[memoryview]:
    """*views* without their first *size_bytes* bytes."""
    for index, view in enumerate(views):
        if size_bytes < view.nbytes:
            return [view[size_bytes:], *views[index + 1 :]]
        size_bytes -= view.nbytes
    return []
