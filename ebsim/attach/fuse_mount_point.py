"""The directory to mount at: whether it can be used, and how it is unmounted."""

import errno
import os
import shlex
import stat
import subprocess
from enum import Enum, auto
from pathlib import Path

from ebsim.errors import TargetUnusable


class Unmounted(Enum):
    """What became of an attempt to unmount."""

    AT_ONCE = auto()
    WHEN_UNUSED = auto()  # out of sight, and served until the last user lets go
    FAILED = auto()


def usable_mount_point(path: Path, *, home: Path | None) -> Path:
    """The real path of the empty directory *path*, outside the store at *home*.

    Raises:
        TargetUnusable: for any other place, a dead mount among them.
    """
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before 3.13
        raise _unusable(path, error) from error
    if not stat.S_ISDIR(mode):
        raise _refusal(path, "it is not a directory", "Name an empty directory.")
    if home is not None and real.is_relative_to(home.resolve()):
        raise _refusal(
            path, f"it lies inside the ebsim home {home}", "Name a directory outside it."
        )
    try:
        with os.scandir(real) as entries:
            is_empty = next(entries, None) is None
    except OSError as error:
        raise _unusable(path, error) from error
    if not is_empty:
        raise _refusal(path, "it is not empty", "Name an empty directory.")
    return real


def unmount(unmounter: str, place: Path) -> Unmounted:
    """Unmount *place*, at once where nothing uses it.

    Where something does, a loop device say, the mount goes out of sight and stays alive
    until that ends.  To cut it off instead would lose what a file system above it has not
    yet written.
    """
    for option, outcome in (("-uq", Unmounted.AT_ONCE), ("-uzq", Unmounted.WHEN_UNUSED)):
        done = subprocess.run(
            [unmounter, option, "--", place],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            # The Ctrl-C that is the reason for unmounting must not end this as well.
            start_new_session=True,
        )
        if done.returncode == 0:
            return outcome
    return Unmounted.FAILED


def _unusable(path: Path, error: OSError | RuntimeError) -> TargetUnusable:
    if not isinstance(error, OSError):
        return _refusal(path, str(error), "Name an empty directory.")
    if error.errno == errno.ENOTCONN:
        return _refusal(
            path,
            "it is a dead mount: what served it ended without unmounting it",
            f"Clear it with 'fusermount3 -u {shlex.quote(str(path))}' (with -uz if a loop "
            "device still holds it), then mount again.",
        )
    if error.errno == errno.ENOENT:
        return _refusal(path, "it does not exist", "Make the directory first.")
    return _refusal(path, error.strerror or str(error), "Name an empty directory.")


def _refusal(path: Path, reason: str, advice: str) -> TargetUnusable:
    return TargetUnusable(f"cannot mount at {path}: {reason}. Nothing was changed. {advice}")
