"""System calls that fail for as long as a test wants them to, by name and by file."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ebsim.system_calls import SystemCalls


def _watched(name: str) -> Callable[..., Any]:
    def call(self: "FailingCalls", target: Path | int, *rest: Any, **options: Any) -> Any:
        self.refuse_if_failing(name, target)
        return getattr(SystemCalls, name)(self, target, *rest, **options)

    return call


class FailingCalls(SystemCalls):
    """Real calls, but for those that ``fail`` names.  Closing never fails.

    Attributes:
        refused_count: How many calls failed so far.
        call_count: How many calls there were, of those that can fail.
        fail_call: The number of a call that fails by itself, from 0.
    """

    def __init__(self, fail_call: int | None = None, error_number: int = errno.EIO) -> None:
        self.refused_count = 0
        self.call_count = 0
        self.fail_call = fail_call
        self._error_number = error_number
        self._failing: dict[tuple[str, str], int] = {}

    def fail(self, name: str, file_name: str = "", error_number: int = errno.EIO) -> None:
        """Fail calls of *name* on files whose name begins with *file_name*."""
        self._failing[name, file_name] = error_number

    def heal(self) -> None:
        """Fail no more."""
        self._failing.clear()

    def refuse_if_failing(self, name: str, target: Path | int) -> None:
        number = self.call_count
        self.call_count += 1
        if number == self.fail_call:
            self.refused_count += 1
            raise OSError(self._error_number, os.strerror(self._error_number))
        if not self._failing:
            return
        path = target if isinstance(target, Path) else Path(f"/proc/self/fd/{target}").readlink()
        for (failing, file_name), error_number in self._failing.items():
            if failing == name and path.name.startswith(file_name):
                self.refused_count += 1
                raise OSError(error_number, os.strerror(error_number))

    open = _watched("open")
    pwritev = _watched("pwritev")
    pread = _watched("pread")
    preadv = _watched("preadv")
    preadv_cached = _watched("preadv_cached")
    fdatasync = _watched("fdatasync")
    fsync_directory = _watched("fsync_directory")
    ftruncate = _watched("ftruncate")
    allocate = _watched("allocate")
    punch_hole = _watched("punch_hole")
    zero_range = _watched("zero_range")
    seek = _watched("seek")
    rename = _watched("rename")
    unlink = _watched("unlink")
    mkdir = _watched("mkdir")
    scandir = _watched("scandir")
    stat = _watched("stat")
    fstat = _watched("fstat")
    flock = _watched("flock")
