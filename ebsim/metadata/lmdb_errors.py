"""What LMDB's errors mean in ours.

LMDB reports its own failures by negative codes, each a class of ``lmdb.Error``, and the
operating system's by ``errno``.  Code 0 is the binding's: a closed transaction used
again, say, which is a bug in ebsim.
"""

import errno
import os
import resource
from pathlib import Path
from typing import Final

import lmdb

from ebsim.errors import (
    EbsimError,
    MetadataCorrupt,
    StorageFull,
    StorageUnavailable,
    UnsupportedFormat,
)

# EFBIG is a limit on the size of a file (`ulimit -f`): a quota by another name.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_ROOM_MIN: Final = 1 << 20

_CORRUPT: Final = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.InvalidError,
    lmdb.CursorFullError,
    lmdb.IncompatibleError,
)

_MISUSE: Final = (
    lmdb.BadValsizeError,
    lmdb.BadDbiError,
    lmdb.BadRslotError,
    lmdb.DbsFullError,
    lmdb.KeyExistsError,
    lmdb.TxnFullError,
)


def translate(error: lmdb.Error | OSError, path: Path, doing: str) -> EbsimError:
    """The error of ours that *error* means, where it happened at *path* while *doing*.

    Raises:
        AssertionError: *error* says that LMDB was called wrongly.
    """
    if isinstance(error, OSError):
        return _from_errno(error.errno or 0, path, doing, error.strerror or str(error))
    if isinstance(error, lmdb.MapFullError):
        return StorageFull(
            f"the metadata in {path} has reached the largest size its map allows, {doing}. "
            "Nothing was changed. Delete snapshots, or open the store with a larger map."
        )
    if isinstance(error, lmdb.VersionMismatchError):
        return UnsupportedFormat(
            f"the metadata in {path} is in a format of LMDB that this ebsim does not read. "
            "Nothing was changed. Use the ebsim that wrote it, or run 'ebsim store rebuild'."
        )
    if isinstance(error, _CORRUPT):
        return MetadataCorrupt(where=f"{path}, {doing}", found=str(error))
    if isinstance(error, lmdb.ReadersFullError):
        return StorageUnavailable(
            f"too many transactions read the metadata in {path} at once, {doing}. "
            "Nothing was changed. Try again when other ebsim processes have ended."
        )
    if isinstance(error, lmdb.MapResizedError):
        return StorageUnavailable(
            f"another process made the metadata in {path} larger than the map here, {doing}. "
            "Nothing was changed. Try again."
        )
    if isinstance(error, _MISUSE) or error.code == 0:
        raise AssertionError(f"LMDB was called wrongly, {doing}: {error}") from error
    return _from_errno(error.code, path, doing, error.reason)


def _from_errno(code: int, path: Path, doing: str, reason: str) -> EbsimError:
    if code in _FULL or (code == errno.EIO and _is_room_used_up(path)):
        return StorageFull(
            f"no room for the metadata in {path}, {doing}: {reason}. "
            "Nothing was changed. Free some space, or delete snapshots, and try again."
        )
    return StorageUnavailable(
        f"the metadata in {path} could not be used, {doing}: {reason}. "
        "Nothing is known to have changed. Check the disk and the rights, and try again."
    )


def _is_room_used_up(path: Path) -> bool:
    """Whether an input/output error at *path* is a full disk by another name.

    A disk that fills in the middle of a write cuts the write short, which LMDB reports
    as EIO.  The part written stays, so what is left afterwards is next to nothing.
    """
    try:
        disk = os.statvfs(path)
        file_size_bytes = max(file.stat().st_size for file in path.iterdir())
    except (OSError, ValueError):
        return False
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return disk.f_bavail * disk.f_frsize < _ROOM_MIN or (
        limit != resource.RLIM_INFINITY and file_size_bytes + _ROOM_MIN > limit
    )
