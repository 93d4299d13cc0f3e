"""A process that mounts a folder of images.

    python -m tests.attach.fuse_process IMAGES MOUNT [--only NAME] [--home HOME]

Shows ``IMAGES/snapshots/*.img`` and ``IMAGES/volumes/*.img``, or with ``--only`` the volume
of that name alone.  What the mount tells is told on standard output, a line each.

Each image is held in memory and reaches its file when it is flushed, never before: a flush
that is left out shows.  The volume ``vol-full`` has no room for writes, ``vol-damaged``
cannot be read beyond its first block, ``vol-taken`` cannot be opened.
"""

import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from ebsim.attach.fuse_mount import mount_shelf
from ebsim.attach.fuse_shelf import Image
from ebsim.errors import Conflict, EbsimError, NotFound, ReadOnly, StorageFull, StorageUnavailable
from ebsim.volumes.block_device import BlockDevice, Buffer

BLOCK = 4096


class BufferedDevice:
    """An image in memory until it is flushed."""

    def __init__(self, path: Path, *, is_writable: bool) -> None:
        self._path = path
        self._is_writable = is_writable
        self._bytes = bytearray(path.read_bytes())
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        return len(self._bytes)

    def read_at(self, offset_bytes: int, buffer: memoryview) -> None:
        if self._path.stem == "vol-damaged" and offset_bytes >= BLOCK:
            raise StorageUnavailable(f"block {offset_bytes // BLOCK} cannot be read")
        with self._lock:
            buffer[:] = self._bytes[offset_bytes : offset_bytes + len(buffer)]

    def write_at(self, offset_bytes: int, data: Buffer) -> None:
        if not self._is_writable:
            raise ReadOnly(f"{self._path} is read-only")
        if self._path.stem == "vol-full":
            raise StorageFull("there is no room")
        with self._lock:
            self._bytes[offset_bytes : offset_bytes + len(data)] = data

    def zero_at(self, offset_bytes: int, length: int, *, allocate: bool = False) -> None:
        self.write_at(offset_bytes, bytes(length))
        if allocate:
            print("kept room", offset_bytes, length, flush=True)

    def trim(self, offset_bytes: int, length: int) -> None:
        self.write_at(offset_bytes, bytes(length))

    def flush(self) -> None:
        with self._lock:
            if self._is_writable:
                with self._path.open("r+b") as file:  # at no time shorter
                    file.write(self._bytes)


class FolderShelf:
    """The images of a folder, as it is at the moment."""

    def __init__(self, images: Path, only: str | None) -> None:
        self._images = images
        self._only = only

    @property
    def folders(self) -> tuple[str, ...]:
        return () if self._only else ("snapshots", "volumes")

    def names(self, folder: str) -> Iterable[str]:
        if self._only:
            return [self._only]
        return [path.stem for path in sorted((self._images / folder).glob("*.img"))]

    def find(self, folder: str, name: str) -> Image | None:
        if self._only not in (None, name):
            return None
        path = self._path(folder, name)
        if not path.exists():
            return None
        status = path.stat()
        return Image(status.st_size, status.st_mtime_ns, folder != "snapshots")

    def open(self, folder: str, name: str) -> BlockDevice:
        path = self._path(folder, name)
        if not path.exists():
            raise NotFound(f"{path} has gone")
        if name == "vol-taken":
            raise Conflict("another process has it")
        print("opened", name, flush=True)
        return BufferedDevice(path, is_writable=folder != "snapshots")

    def release(self, _folder: str, name: str, _device: BlockDevice) -> None:
        print("released", name, flush=True)

    def _path(self, folder: str, name: str) -> Path:
        return self._images / (folder or "volumes") / f"{name}.img"


def main(images: str, mount_point: str, *options: str) -> int:
    chosen = dict(zip(options[::2], options[1::2], strict=True))
    home = chosen.get("--home")
    try:
        mount_shelf(
            FolderShelf(Path(images), chosen.get("--only")),
            Path(mount_point),
            on_ready=lambda: print("ready in", Path.cwd(), flush=True),
            on_still_used=lambda: print("still used", flush=True),
            on_failure=lambda error: print("failure:", error, flush=True),
            home=None if home is None else Path(home),
        )
    except EbsimError as error:
        print("refused:", type(error).__name__, error, flush=True)
        return 1
    print("unmounted", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
