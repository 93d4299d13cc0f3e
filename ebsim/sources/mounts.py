"""Whether a disk is in use on this machine: mounted, or under another device.

Reading such a disk is allowed.  What is read may hold a file system half-way through a
write, and the user is told so.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SYS_BLOCK = Path("/sys/block")
_SYS_DEV_BLOCK = Path("/sys/dev/block")
_MOUNTINFO = Path("/proc/self/mountinfo")


class Mount(NamedTuple):
    """A line of ``/proc/self/mountinfo``."""

    device: str  # major:minor
    folder: str
    is_writable: bool
    source: str


def parse_mountinfo(text: str) -> Iterator[Mount]:
    """The mounts that *text* lists.

    Source:
        proc_pid_mountinfo(5): fields 3 (major:minor), 5 (mount point), and after the
        lone dash the type, the source and the options of the file system itself.
    """
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if dash and len(fields) >= 6 and len(tail) >= 3:
            is_writable = "rw" in tail[2].split(",") and "rw" in fields[5].split(",")
            yield Mount(fields[2], _unescape(fields[4]), is_writable, _unescape(tail[1]))


def caution_for_device(location: str) -> str | None:
    """A sentence when the block device at *location* is being written by this machine."""
    number = os.stat(location).st_rdev  # noqa: PTH116 - beside os.major and os.minor
    return _caution(location, f"{os.major(number)}:{os.minor(number)}")


def caution_for_file(location: str) -> str | None:
    """The same for an image file that is behind a loop device."""
    for device in _loop_devices(location):
        caution = _caution(location, device)
        if caution is not None:
            return caution
    return None


def use_of_file(location: str) -> str | None:
    """Who would notice if the image file at *location* were replaced: ``mounted at /mnt``."""
    for device in _loop_devices(location):
        for place, mounts in _mounts_of(device):
            for mount in mounts:
                return f"mounted at {mount.folder}"
            for holder in _holders(place):
                return f"in use by the device {holder}"
    return None


def _loop_devices(location: str) -> Iterator[str]:
    """The numbers of the loop devices over a file."""
    for loop in sorted(_SYS_BLOCK.glob("loop*")):
        if _read(loop / "loop" / "backing_file") == location:
            yield _read(loop / "dev")


def _caution(location: str, device: str) -> str | None:
    for place, mounts in _mounts_of(device):
        for mount in mounts:
            if mount.is_writable:
                return (
                    f"{location} is mounted read-write at {mount.folder}: the snapshot may "
                    "hold a half-written file system. Unmount it, or freeze it with "
                    "'fsfreeze', for one that is whole."
                )
        for holder in _holders(place):
            return (
                f"{location} is in use by the device {holder}: the snapshot may hold "
                "half-written data."
            )
    return None


def _mounts_of(device: str) -> Iterator[tuple[Path, list[Mount]]]:
    """A device and each of its partitions, by place in ``/sys``, and what is mounted of it."""
    folder = _SYS_DEV_BLOCK / device
    devices = {device: folder} | {
        _read(child): child.parent for child in folder.glob("*/dev") if _read(child)
    }
    mounts = list(parse_mountinfo(_read(_MOUNTINFO)))
    for number, place in devices.items():
        # btrfs mounts under a number of its own, and is known by its source only.
        path = f"/dev/{os.path.basename(os.path.realpath(place))}"  # noqa: PTH119 - text
        yield place, [mount for mount in mounts if mount.device == number or mount.source == path]


def _holders(place: Path) -> list[str]:
    """The names of the devices that are built on the one at *place*."""
    return sorted(holder.name for holder in place.glob("holders/*"))


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape").strip()
    except OSError:
        return ""


def _unescape(field: str) -> str:
    """Undo the octal escapes of space, tab, newline and backslash."""
    for code, text in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, text)
    return field
