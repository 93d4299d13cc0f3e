"""Where a restored disk goes: a new file, a file to be replaced, or a block device.

A file is made without a name and gets one when it is whole and durable, so a restore that
fails or is killed leaves nothing behind, and a file that is replaced is the old one or
the new one.  A device is written in place: a failed restore leaves it half-written, which
the message says.
"""

import errno
import fcntl
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ebsim.engine.home import home_of
from ebsim.errors import EbsimError, StorageFull, TargetUnusable
from ebsim.sources.mounts import use_of_file
from ebsim.units import MIB

_BLKGETSIZE64 = 0x80081272
_BLKSSZGET = 0x1268
_BLKZEROOUT = 0x127F
_ZEROS_PER_CALL = 64 * MIB
_ALIGNMENT = 4096

Buffer = bytes | bytearray | memoryview


class RestoreTarget(Protocol):
    """A disk being written; ``write_at`` is safe from many threads at once."""

    def write_at(self, data: Buffer, offset_bytes: int) -> None:
        """Write all of *data*."""

    def zero_at(self, offset_bytes: int, size_bytes: int) -> None:
        """Make a range read as zeros."""

    def read_back(self, offset_bytes: int, size_bytes: int) -> bytes:
        """What the range holds now, read from the device where the system allows."""

    def sync(self) -> None:
        """Make what was written durable, under no name yet."""

    def publish(self) -> None:
        """Give the finished disk its name."""

    def close(self) -> None:
        """Release it; one not published is gone."""


def open_target(name: str, size_bytes: int, *, force: bool, source: str) -> RestoreTarget:
    """The target *name* for a disk of *size_bytes* bytes.

    *source* is the path that the snapshot was taken of.

    Raises:
        TargetUnusable: it exists and *force* is not given, is too small, is not writable,
            is mounted or in use, or is a directory.
    """
    path, mode = settle_target(name, force=force, source=source)
    if mode is None:
        return FileTarget(path, size_bytes, replace=False)
    if stat.S_ISBLK(mode):
        return DeviceTarget(path, size_bytes)
    return FileTarget(path, size_bytes, replace=True)


def settle_target(name: str, *, force: bool, source: str) -> tuple[Path, int | None]:
    """The real path of the target *name*, and its mode where it exists and may be replaced.

    Raises:
        TargetUnusable: it exists and *force* is not given, is neither file nor device,
            holds a mounted file system, or lies in a home.
    """
    path = Path(name)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        path = path.resolve()
        _refuse_store_as_target(name, path)
        return path, None
    except OSError as error:
        raise TargetUnusable(
            f"{name} cannot be used: {error.strerror}. Nothing was changed. Name a file to make."
        ) from error
    path = path.resolve()
    _refuse_store_as_target(name, path)
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise TargetUnusable(
            f"{name} is no file and no block device. Nothing was changed. Name a file to make."
        )
    if not force:
        whose = "it is what the snapshot was taken of; " if str(path) == source else ""
        raise TargetUnusable(
            f"{name} exists: {whose}it was not changed. Use --force to overwrite it."
        )
    if stat.S_ISREG(mode):
        in_use = use_of_file(str(path))
        if in_use is not None:
            raise TargetUnusable(f"{name} was not changed: it is {in_use}. Release it first.")
    return path, mode


def _refuse_store_as_target(name: str, path: Path) -> None:
    home = home_of(path.parent)
    if home is not None:
        raise TargetUnusable(
            f"{name} would lie in the ebsim home {home}. Nothing was changed. "
            "Name a file outside it."
        )


def write_failure(name: str, error: OSError, unchanged: str) -> EbsimError:
    """The error for a failed write to the target."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return StorageFull(f"there is no room for {name}: {error.strerror}. {unchanged}")
    return TargetUnusable(f"{name} cannot be written: {error.strerror}. {unchanged}")


class _OpenTarget:
    """What files and devices have in common: a descriptor."""

    unchanged = ""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self.descriptor = descriptor
        self._direct = _open_direct(descriptor)

    def write_at(self, data: Buffer, offset_bytes: int) -> None:
        view = memoryview(data)
        is_aligned = not (offset_bytes | len(view)) % _ALIGNMENT
        try:
            if is_aligned and self._direct >= 0 and self._write_directly(view, offset_bytes):
                return
            while view:
                written = os.pwrite(self.descriptor, view, offset_bytes)
                view = view[written:]
                offset_bytes += written
        except OSError as error:
            raise write_failure(self.name, error, self.unchanged) from error

    def _write_directly(self, view: memoryview, offset_bytes: int) -> bool:
        """Write past the page cache; return whether it was possible, and all was written."""
        try:
            return os.pwrite(self._direct, view, offset_bytes) == len(view)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return False

    def read_back(self, offset_bytes: int, size_bytes: int) -> bytes:
        os.posix_fadvise(self.descriptor, offset_bytes, size_bytes, os.POSIX_FADV_DONTNEED)
        parts = []
        while size_bytes:
            part = os.pread(self.descriptor, size_bytes, offset_bytes)
            if not part:
                break
            parts.append(part)
            offset_bytes += len(part)
            size_bytes -= len(part)
        return b"".join(parts)

    def sync(self) -> None:
        try:
            os.fsync(self.descriptor)
        except OSError as error:
            raise write_failure(self.name, error, self.unchanged) from error

    def close(self) -> None:
        for descriptor in {self.descriptor, self._direct} - {-1}:
            os.close(descriptor)
        self.descriptor = self._direct = -1


def _open_direct(descriptor: int) -> int:
    """The file of *descriptor* once more, for writing past the page cache; -1 if it cannot."""
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT}:
            raise
        return -1


class FileTarget(_OpenTarget):
    """A file, nameless until it is published."""

    unchanged = "Nothing was left behind."

    def __init__(self, path: Path, size_bytes: int, *, replace: bool) -> None:
        self._path = path
        self._replace = replace
        self._temporary: Path | None = None
        super().__init__(str(path), self._create())
        try:
            if replace:
                os.fchmod(self.descriptor, stat.S_IMODE(path.stat().st_mode))
            os.ftruncate(self.descriptor, size_bytes)
        except OSError as error:
            self.close()
            raise write_failure(self.name, error, self.unchanged) from error

    def _create(self) -> int:
        folder = self._path.parent
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            with suppress(NotImplementedError):
                return os.open(folder, flags | os.O_TMPFILE, 0o666)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT}:
                raise self._cannot_create(error) from error
        # A file system without nameless files.
        self._temporary = folder / _temporary_name(self._path, "restoring")
        try:
            return os.open(self._temporary, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            self._temporary = None
            raise self._cannot_create(error) from error

    def _cannot_create(self, error: OSError) -> TargetUnusable:
        return TargetUnusable(
            f"{self._path} cannot be made: {error.strerror}. Nothing was changed."
        )

    def zero_at(self, offset_bytes: int, size_bytes: int) -> None:
        """A file begins as one hole."""

    def publish(self) -> None:
        try:
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._link(directory)
                os.fsync(directory)
            finally:
                os.close(directory)
        except FileExistsError as error:
            raise TargetUnusable(
                f"{self.name} was made by somebody else meanwhile; it was not changed."
            ) from error
        except OSError as error:
            raise write_failure(self.name, error, self.unchanged) from error

    def _link(self, directory: int) -> None:
        if self._temporary is None:
            nameless = f"/proc/self/fd/{self.descriptor}"
            name = self._path
            if self._replace:
                name = self._temporary = self._path.with_name(_temporary_name(self._path, "new"))
            # A directory descriptor, though the path is absolute, makes Python call
            # linkat(2) and follow the link, which link(2) does not.
            os.link(nameless, name, src_dir_fd=directory)
        elif not self._replace:
            os.link(self._temporary, self._path)
            self._temporary.unlink()
            self._temporary = None
        if self._replace and self._temporary is not None:
            self._temporary.rename(self._path)
            self._temporary = None

    def close(self) -> None:
        super().close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)


def _temporary_name(path: Path, suffix: str) -> str:
    return f".{path.name[:200]}.{os.getpid()}.{suffix}"


class DeviceTarget(_OpenTarget):
    """A block device, written in place."""

    unchanged = "What was written before remains: the device holds no whole disk now."

    def __init__(self, path: Path, size_bytes: int) -> None:
        try:
            # O_EXCL: the kernel refuses a device that is mounted or under another.
            descriptor = os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            why = "it is mounted or in use" if error.errno == errno.EBUSY else error.strerror
            raise TargetUnusable(
                f"{path} cannot be written: {why}. It was not changed."
            ) from error
        super().__init__(str(path), descriptor)
        (found,) = struct.unpack("Q", fcntl.ioctl(descriptor, _BLKGETSIZE64, bytes(8)))
        (self._sector_size,) = struct.unpack("i", fcntl.ioctl(descriptor, _BLKSSZGET, bytes(4)))
        if found < size_bytes:
            self.close()
            raise TargetUnusable(
                f"{path} has {found} bytes, the disk {size_bytes}. It was not changed. "
                "Use a larger device."
            )

    def zero_at(self, offset_bytes: int, size_bytes: int) -> None:
        while size_bytes:
            count = min(size_bytes, _ZEROS_PER_CALL)
            # The kernel zeroes whole sectors; what the disk has of its last one is written.
            count -= count % self._sector_size if count > self._sector_size else 0
            if (offset_bytes | count) % self._sector_size == 0:
                try:
                    fcntl.ioctl(
                        self.descriptor, _BLKZEROOUT, struct.pack("QQ", offset_bytes, count)
                    )
                except OSError as error:
                    raise write_failure(self.name, error, self.unchanged) from error
            else:
                self.write_at(bytes(count), offset_bytes)
            offset_bytes += count
            size_bytes -= count

    def publish(self) -> None:
        """A device has its name already."""
