"""The file operations of a mount, as libfuse asks for them.

An image is a file of a fixed size, like a disk: writing behaves at its end as on a block
device (``ENOSPC``), and nothing makes, removes, renames or resizes a file (``EPERM``).  That
includes ``O_TRUNC``: what opens an image so means to replace it, and would leave the rest of
a longer disk behind what it writes.  ``dd conv=notrunc`` is how to write an image.

Requests reach the device as they come.  Nothing is cached by the kernel (``direct_io``, and
time-outs of 0 for names and sizes): what another process writes is seen by the next read.

    ENOSPC   StorageFull; a write past the end
    EROFS    ReadOnly; an image that is not writable is opened for writing
    ENOENT   the image has gone        EBUSY   opening: another process has it
    EIO      any other EbsimError, told to ``on_failure`` besides

Source:
    libfuse's ``fuse.h``, ``struct fuse_operations``; fallocate(2) for the modes.
"""

import ctypes
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ebsim.attach.fuse_open_images import Handle, OpenImages
from ebsim.attach.fuse_shelf import Image, Shelf
from ebsim.errors import Conflict, EbsimError, NotFound, ReadOnly, StorageFull

BLOCK_SIZE = 4096
"""The unit that files are said to be made of, and that a loop device discards in."""

_SUFFIX = ".img"
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,127}")
_WRITING = os.O_WRONLY | os.O_RDWR

_KEEP_SIZE = 0x01
_PUNCH_HOLE = 0x02
_ZERO_RANGE = 0x10

Attributes = dict[str, int]


class FuseOperations:
    """The images of *shelf* as files; what mfusepy calls, from many threads at once.

    Args:
        on_start: Called once, when the kernel has begun to send requests.  Must not use
            the mount.
        on_failure: Told why a request was answered with ``EIO``.
    """

    use_ns = True  # mfusepy: times are nanoseconds

    def __init__(
        self,
        shelf: Shelf,
        images: OpenImages,
        *,
        on_start: Callable[[], None],
        on_failure: Callable[[EbsimError], None],
    ) -> None:
        self._shelf = shelf
        self._images = images
        self._on_start = on_start
        self._on_failure = on_failure
        self._owner: Attributes = {"st_uid": os.geteuid(), "st_gid": os.getegid()}

    def init_with_config(self, _connection: object, _config: object) -> None:
        self._on_start()

    def getattr(self, path: str, _handle: int | None) -> Attributes:
        if self._is_folder(path):
            return self._owner | {"st_mode": stat.S_IFDIR | 0o500, "st_nlink": 2}
        folder, name = self._place(path)
        image = self._find(folder, name)
        open_size_bytes = self._images.size_bytes((folder, name))
        size_bytes = image.size_bytes if open_size_bytes is None else open_size_bytes
        return self._owner | {
            "st_mode": stat.S_IFREG | (0o600 if image.is_writable else 0o400),
            "st_nlink": 1,
            "st_size": size_bytes,
            "st_blksize": BLOCK_SIZE,
            "st_blocks": -(-size_bytes // 512),
            "st_atime": image.modified_at_ns,
            "st_mtime": image.modified_at_ns,
            "st_ctime": image.modified_at_ns,
        }

    def readdir(self, path: str, _handle: int) -> list[str]:
        if not self._is_folder(path):
            raise _failure(errno.ENOTDIR)
        folder = path[1:]
        if folder or not self._shelf.folders:
            with self._answered():
                return [".", ".."] + [name + _SUFFIX for name in self._shelf.names(folder)]
        return [".", "..", *self._shelf.folders]

    def statfs(self, _path: str) -> Attributes:
        # Without a block size, loop devices would not pass discards on.
        return {"f_bsize": BLOCK_SIZE, "f_frsize": BLOCK_SIZE, "f_namemax": 255}

    def open(self, path: str, flags: int) -> int:
        folder, name = self._place(path)
        for_writing = bool(flags & _WRITING)
        if for_writing and not self._find(folder, name).is_writable:
            raise _failure(errno.EROFS)
        if flags & os.O_TRUNC:
            raise _failure(errno.EPERM)
        with self._answered():
            try:
                return self._images.open((folder, name), for_writing=for_writing)
            except NotFound as error:
                raise _failure(errno.ENOENT) from error
            except ReadOnly:
                raise
            except Conflict as error:
                self._on_failure(error)
                raise _failure(errno.EBUSY) from error

    def release(self, _path: str, number: int) -> int:
        self._images.release(number)
        return 0

    def read(
        self, _path: str, size: int, offset: int, number: int
    ) -> "ctypes.Array[ctypes.c_char]":
        with self._request(number) as handle:
            length = max(0, min(size, handle.device.size_bytes - offset))
            # mfusepy copies out of it: as ``bytes`` it would be copied once more before.
            buffer = (ctypes.c_char * length)()
            if length:
                handle.device.read_at(offset, memoryview(buffer).cast("B"))
            return buffer

    def write(self, _path: str, data: bytes, offset: int, number: int) -> int:
        with self._request(number) as handle:
            length = min(len(data), handle.device.size_bytes - offset)
            if length <= 0:
                raise _failure(errno.ENOSPC)
            handle.device.write_at(offset, data if length == len(data) else data[:length])
            return length

    def flush(self, _path: str, number: int) -> int:
        """What close(2) waits for, and can fail for."""
        with self._request(number) as handle:
            if handle.is_writable:
                handle.device.flush()
        return 0

    def fsync(self, _path: str, _only_data: int, number: int) -> int:
        with self._request(number) as handle:
            handle.device.flush()
        return 0

    def truncate(self, path: str, length: int) -> int:
        if length != self.getattr(path, None)["st_size"]:
            raise _failure(errno.EPERM)
        return 0

    def fallocate(self, _path: str, mode: int, offset: int, size: int, number: int) -> int:
        if mode not in (_PUNCH_HOLE | _KEEP_SIZE, _ZERO_RANGE | _KEEP_SIZE, _ZERO_RANGE):
            raise _failure(errno.EOPNOTSUPP)
        with self._request(number) as handle:
            room = handle.device.size_bytes - offset
            if size > room and not mode & _KEEP_SIZE:
                raise _failure(errno.ENOSPC)
            length = min(size, room)
            if length <= 0:
                return 0
            if mode & _PUNCH_HOLE:
                handle.device.trim(offset, length)
            else:
                handle.device.zero_at(offset, length, allocate=True)
        return 0

    def _refused(self, *_arguments: object) -> int:
        raise _failure(errno.EPERM)

    create = mknod = mkdir = symlink = link = unlink = rmdir = rename = _refused
    chmod = chown = utimens = _refused

    def _is_folder(self, path: str) -> bool:
        return path == "/" or path[1:] in self._shelf.folders

    def _place(self, path: str) -> tuple[str, str]:
        """The folder and name of the image at *path*; a name of another form has none."""
        folder, _, file_name = path[1:].rpartition("/")
        name = file_name.removesuffix(_SUFFIX)
        if name == file_name or _NAME.fullmatch(name) is None:
            raise _failure(errno.ENOENT)
        if folder not in (self._shelf.folders or ("",)):
            raise _failure(errno.ENOENT)
        return folder, name

    def _find(self, folder: str, name: str) -> Image:
        with self._answered():
            image = self._shelf.find(folder, name)
        if image is None:
            raise _failure(errno.ENOENT)
        return image

    @contextmanager
    def _request(self, number: int) -> Iterator[Handle]:
        with self._answered(), self._images.request(number) as handle:
            yield handle

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """A block whose ``EbsimError`` becomes the error number for it."""
        try:
            yield
        except StorageFull as error:
            self._on_failure(error)
            raise _failure(errno.ENOSPC) from error
        except ReadOnly as error:
            raise _failure(errno.EROFS) from error
        except EbsimError as error:
            self._on_failure(error)
            raise _failure(errno.EIO) from error


def _failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))
