"""How a failed system call is told: what was tried, where, why, what is unchanged, what to do."""

import errno
from pathlib import Path
from types import TracebackType

from ebsim.errors import StorageFull, StorageUnavailable

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class Attempt:
    """A block whose ``OSError`` becomes a :func:`failure`, unless of a class in *passed_on*."""

    __slots__ = ("_aftermath", "_operation", "_passed_on", "_where")

    def __init__(
        self, operation: str, where: Path | int, aftermath: str, *passed_on: type[OSError]
    ) -> None:
        self._operation = operation
        self._where = where
        self._aftermath = aftermath
        self._passed_on = passed_on

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, self._passed_on):
            raise failure(self._operation, self._where, self._aftermath, error) from error


def failure(
    operation: str, where: Path | int, aftermath: str, error: OSError
) -> StorageUnavailable:
    """The error that says that *operation* on a path or open descriptor failed."""
    path = where if isinstance(where, Path) else _path_of(where)
    reason = error.strerror or str(error)
    kind, advice = StorageUnavailable, "Check the disk, then try again."
    if error.errno in _NO_ROOM:
        kind, advice = StorageFull, "Free some space, then try again."
    return kind(
        f"cannot {operation} {path}: {reason}. {aftermath} {advice}",
        operation=operation,
        path=str(path),
        error_number=error.errno,
    )


def _path_of(descriptor: int) -> Path:
    link = Path(f"/proc/self/fd/{descriptor}")
    try:
        return link.readlink()
    except OSError:
        return link
