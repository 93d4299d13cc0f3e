"""Objects as the files of a directory on a local file system.

    ROOT/packs/NAME               an object: read-only from the moment it has this name
    ROOT/packs/.NAME.N.unsealed   an object being written, locked by its writer

1. A name that begins with a dot is never an object's, so ``names`` shows whole objects only.
2. Sealing, replacing and discarding are those of ``durable_files.NewFile``.
3. Deleting is one ``unlink`` and a sync of the folder.  A read that has begun in another
   process ends well; the space comes back when that process reads or closes next.
4. A hole is not synced: after a power cut the range may hold its old bytes again, whole
   pages of them, and may be punched again.

Folders are made, durably, when the first object is written into them.
"""

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from ebsim.backends.backend import ObjectWriter
from ebsim.backends.descriptor_cache import DescriptorCache
from ebsim.backends.object_names import (
    NAME_SIZE_MAX,
    check_folder_name,
    check_object_name,
    is_object_name,
    name_taken,
)
from ebsim.durable_files import NAME_SIZE_MAX as FILE_NAME_SIZE_MAX
from ebsim.durable_files import Files, discard_abandoned, write_atomically
from ebsim.staged_file import StagedFile
from ebsim.system_calls import Buffer

assert NAME_SIZE_MAX <= FILE_NAME_SIZE_MAX, "every object must fit a temporary name"

_OPEN_MAX = 128
"""Descriptors kept open: 8 GiB of packs, and a small part of the usual limit of 1024."""


class LocalDirectory:
    """The :class:`Backend` in the directory *root*.  Threads and processes may share it."""

    __slots__ = ("_descriptors", "_files", "_ready_folders", "_root")

    def __init__(self, root: Path, files: Files) -> None:
        self._root = root
        self._files = files
        self._ready_folders: set[Path] = set()
        self._descriptors = DescriptorCache(files, root, _OPEN_MAX)

    def create(self, name: str) -> ObjectWriter:
        if self.size_bytes(name) is not None:
            raise name_taken(name)
        path = self._root / name
        self._make_ready(path.parent)
        return _LocalWriter(name, StagedFile(self._files, path))

    def put(self, name: str, data: bytes) -> None:
        path = self._path(name)
        self._make_ready(path.parent)
        write_atomically(self._files, path, data)
        self._descriptors.drop(name)

    def size_bytes(self, name: str) -> int | None:
        status = self._files.status(self._path(name))
        return status.st_size if status and stat.S_ISREG(status.st_mode) else None

    def read(self, name: str, offset_bytes: int, size_bytes: int) -> bytes:
        check_object_name(name)
        return self._descriptors.read(name, offset_bytes, size_bytes)

    def names(self, folder: str) -> Iterator[str]:
        check_folder_name(folder)
        prefix = f"{folder}/" if folder else ""
        for file_name in self._files.file_names(self._root / folder):
            if is_object_name(prefix + file_name):
                yield prefix + file_name

    def delete(self, name: str) -> None:
        path = self._path(name)
        try:
            self._files.unlink(path)
        except FileNotFoundError:
            if self._files.status(path.parent) is None:
                return
            # Whoever removed it may not have come to sync the folder: what follows is for both.
        self._descriptors.drop(name)
        self._files.sync_directory(path.parent)

    def punch(self, name: str, offset_bytes: int, size_bytes: int) -> int:
        try:
            descriptor = self._files.open_to_write(self._path(name))
        except FileNotFoundError:
            return 0
        try:
            return self._files.punch_hole(descriptor, offset_bytes, size_bytes)
        finally:
            self._files.close(descriptor)

    def allocated_bytes(self, name: str) -> int | None:
        status = self._files.status(self._path(name))
        return status.st_blocks * 512 if status and stat.S_ISREG(status.st_mode) else None

    def discard_unsealed(self) -> int:
        folders = ["", *self._files.folder_names(self._root)]
        return sum(discard_abandoned(self._files, self._root / folder) for folder in folders)

    def close(self) -> None:
        self._descriptors.close()

    def _path(self, name: str) -> Path:
        check_object_name(name)
        return self._root / name

    def _make_ready(self, folder: Path) -> None:
        """Make *folder* durably, once in a backend's life: others may be making it too."""
        if folder not in self._ready_folders:
            self._files.make_directories(folder)
            self._ready_folders.add(folder)


class _LocalWriter:
    """An object being written by this process."""

    __slots__ = ("_file", "_name")

    def __init__(self, name: str, file: StagedFile) -> None:
        self._name = name
        self._file = file

    @property
    def size_bytes(self) -> int:
        return self._file.size_bytes

    def append(self, parts: Sequence[Buffer]) -> int:
        return self._file.append(parts)

    def seal(self) -> None:
        try:
            self._file.publish(replace=False)
        except FileExistsError as error:
            raise name_taken(self._name) from error

    def discard(self) -> None:
        self._file.discard()
