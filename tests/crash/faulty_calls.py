"""System calls of which the N-th fails, for a test that tries every N."""

import os
from collections.abc import Collection, Sequence
from enum import StrEnum
from pathlib import Path

from ebsim.system_calls import Buffer, SystemCalls


class Fault(StrEnum):
    ERROR = "error"
    """The call fails; of a write, half is done all the same."""
    SHORT = "short"
    """A read or write does half of what it was asked, and succeeds."""


class FaultyCalls(SystemCalls):
    """Calls of *inner*, the one numbered *fail_call* (from 0) going wrong.

    ``fault_count`` says how many did: when it stays 0, *fail_call* is past the last call.
    Closing never fails, so that a test can tell a descriptor left open.
    """

    def __init__(
        self,
        inner: SystemCalls,
        fail_call: int,
        error_number: int,
        *,
        fault: Fault = Fault.ERROR,
        persistent: bool = False,
        only: Collection[str] | None = None,
    ) -> None:
        """With *persistent*, all calls from *fail_call* on; *only* counts just those names."""
        self.call_count = 0
        self.fault_count = 0
        self._inner = inner
        self._fail_call = fail_call
        self._error_number = error_number
        self._fault = fault
        self._persistent = persistent
        self._only = only

    def open(self, path: Path, flags: int) -> int:
        self._fail_if_due("open")
        return self._inner.open(path, flags)

    def close(self, descriptor: int) -> None:
        self._inner.close(descriptor)

    def pwritev(self, descriptor: int, parts: Sequence[Buffer], offset_bytes: int) -> int:
        if not self._is_due("pwritev"):
            return self._inner.pwritev(descriptor, parts, offset_bytes)
        # A direct write must come from the caller's own, aligned memory.
        data = memoryview(parts[0]).cast("B") if len(parts) == 1 else b"".join(parts)
        half = data[: max(1, len(data) // 2)]
        written = self._inner.pwritev(descriptor, [half], offset_bytes)
        if self._fault is Fault.ERROR:
            raise self._error()
        return written

    def pread(self, descriptor: int, size_bytes: int, offset_bytes: int) -> bytes:
        if not self._is_due("pread"):
            return self._inner.pread(descriptor, size_bytes, offset_bytes)
        if self._fault is Fault.ERROR:
            raise self._error()
        return self._inner.pread(descriptor, max(1, size_bytes // 2), offset_bytes)

    def fdatasync(self, descriptor: int) -> None:
        self._fail_if_due("fdatasync")
        self._inner.fdatasync(descriptor)

    def fsync_directory(self, path: Path) -> None:
        self._fail_if_due("fsync_directory")
        self._inner.fsync_directory(path)

    def set_direct(self, descriptor: int, *, is_direct: bool) -> None:
        self._fail_if_due("set_direct")
        self._inner.set_direct(descriptor, is_direct=is_direct)

    def ftruncate(self, descriptor: int, size_bytes: int) -> None:
        self._fail_if_due("ftruncate")
        self._inner.ftruncate(descriptor, size_bytes)

    def allocate(self, descriptor: int, offset_bytes: int, size_bytes: int) -> None:
        self._fail_if_due("allocate")
        self._inner.allocate(descriptor, offset_bytes, size_bytes)

    def punch_hole(self, descriptor: int, offset_bytes: int, size_bytes: int) -> None:
        self._fail_if_due("punch_hole")
        self._inner.punch_hole(descriptor, offset_bytes, size_bytes)

    def rename(self, path: Path, target: Path) -> None:
        self._fail_if_due("rename")
        self._inner.rename(path, target)

    def rename_new(self, path: Path, target: Path) -> None:
        self._fail_if_due("rename_new")
        self._inner.rename_new(path, target)

    def link(self, path: Path, target: Path) -> None:
        self._fail_if_due("link")
        self._inner.link(path, target)

    def unlink(self, path: Path) -> None:
        self._fail_if_due("unlink")
        self._inner.unlink(path)

    def mkdir(self, path: Path) -> None:
        self._fail_if_due("mkdir")
        self._inner.mkdir(path)

    def scandir(self, path: Path) -> list[tuple[str, bool]]:
        self._fail_if_due("scandir")
        return self._inner.scandir(path)

    def stat(self, path: Path) -> os.stat_result:
        self._fail_if_due("stat")
        return self._inner.stat(path)

    def fstat(self, descriptor: int) -> os.stat_result:
        self._fail_if_due("fstat")
        return self._inner.fstat(descriptor)

    def flock(self, descriptor: int, operation: int) -> None:
        self._fail_if_due("flock")
        self._inner.flock(descriptor, operation)

    def _is_due(self, name: str) -> bool:
        if self._only is not None and name not in self._only:
            return False
        number = self.call_count
        self.call_count += 1
        due = number >= self._fail_call if self._persistent else number == self._fail_call
        self.fault_count += due
        return due

    def _fail_if_due(self, name: str) -> None:
        if self._fault is Fault.ERROR and self._is_due(name):
            raise self._error()

    def _error(self) -> OSError:
        return OSError(self._error_number, os.strerror(self._error_number))
