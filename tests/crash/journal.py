"""Every call that changes files, written down in the order in which it took effect.

A :class:`Recording` stands in for the system's calls: it lets each call happen in a real
directory and adds a step to its :class:`Journal`.  A test adds marks of its own: what was
acknowledged by then, and the files of the metadata as that last commit made them durable.
LMDB is trusted to be atomic and durable, so its files change at marks only.

Paths in a journal are relative to the recorded root.  What happens outside of it, and
calls that fail, are not recorded.
"""

import os
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NewType

from ebsim.system_calls import Buffer, SystemCalls

Inode = NewType("Inode", int)
"""A file, whatever it is called."""

DIRECTORY = Inode(-1)


@dataclass(frozen=True, slots=True)
class Create:
    path: str
    inode: Inode


@dataclass(frozen=True, slots=True)
class Write:
    inode: Inode
    offset_bytes: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    inode: Inode
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Allocate:
    inode: Inode
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Punch:
    inode: Inode
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SyncFile:
    inode: Inode


@dataclass(frozen=True, slots=True)
class SyncDirectory:
    path: str


@dataclass(frozen=True, slots=True)
class Rename:
    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Link:
    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Unlink:
    path: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that the test knows to be true from here on, whatever the disk loses."""

    name: str
    trusted: Mapping[str, bytes]


Change = Write | Resize | Allocate | Punch
Step = Change | Create | SyncFile | SyncDirectory | Rename | Link | Unlink | Mark


@dataclass(slots=True)
class Journal:
    """What lay in the root, durably, before the first step; then the steps."""

    files: dict[str, bytes] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)
    steps: list[Step] = field(default_factory=list)


class Recording(SystemCalls):
    """System calls that keep a :class:`Journal` of *root*."""

    def __init__(self, root: Path, ignored: Collection[str] = ()) -> None:
        """Begin with what lies in *root*, but for the paths *ignored* (a lock file, say)."""
        self.journal = Journal()
        self._root = root
        self._lock = threading.RLock()
        self._inodes: dict[str, Inode] = {}
        self._open: dict[int, Inode] = {}
        self._inode_count = 0
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            if path.is_dir():
                self.journal.directories.add(name)
                self._inodes[name] = DIRECTORY
            elif name not in ignored:
                self.journal.files[name] = path.read_bytes()
                self._inodes[name] = self._new_inode()

    def mark(self, name: str, trusted: Mapping[str, bytes] | None = None) -> None:
        """Add a mark; *trusted* files hold this content in every state from here on."""
        with self._lock:
            self.journal.steps.append(Mark(name, dict(trusted or {})))

    def open(self, path: Path, flags: int) -> int:
        assert not flags & os.O_TRUNC, "the simulated disk does not know this flag"
        with self._lock:
            is_new = bool(flags & os.O_CREAT) and not path.exists()
            descriptor = super().open(path, flags)
            name = self._name(path)
            if is_new and name is not None:
                self._inodes[name] = self._new_inode()
                self.journal.steps.append(Create(name, self._inodes[name]))
            if name in self._inodes:
                self._open[descriptor] = self._inodes[name]
            return descriptor

    def close(self, descriptor: int) -> None:
        with self._lock:
            self._open.pop(descriptor, None)
            super().close(descriptor)

    def pwritev(self, descriptor: int, parts: Sequence[Buffer], offset_bytes: int) -> int:
        with self._lock:
            written = super().pwritev(descriptor, parts, offset_bytes)
            data = b"".join(parts)[:written]
            self._change(descriptor, lambda inode: Write(inode, offset_bytes, data))
            return written

    def fdatasync(self, descriptor: int) -> None:
        with self._lock:
            super().fdatasync(descriptor)
            self._change(descriptor, SyncFile)

    def fsync_directory(self, path: Path) -> None:
        with self._lock:
            super().fsync_directory(path)
            self._name_step(SyncDirectory, path)

    def ftruncate(self, descriptor: int, size_bytes: int) -> None:
        with self._lock:
            super().ftruncate(descriptor, size_bytes)
            self._change(descriptor, lambda inode: Resize(inode, size_bytes))

    def allocate(self, descriptor: int, offset_bytes: int, size_bytes: int) -> None:
        with self._lock:
            super().allocate(descriptor, offset_bytes, size_bytes)
            self._change(descriptor, lambda inode: Allocate(inode, offset_bytes + size_bytes))

    def punch_hole(self, descriptor: int, offset_bytes: int, size_bytes: int) -> None:
        with self._lock:
            super().punch_hole(descriptor, offset_bytes, size_bytes)
            self._change(descriptor, lambda inode: Punch(inode, offset_bytes, size_bytes))

    def rename(self, path: Path, target: Path) -> None:
        with self._lock:
            super().rename(path, target)
            self._renamed(path, target)

    def rename_new(self, path: Path, target: Path) -> None:
        with self._lock:
            super().rename_new(path, target)
            self._renamed(path, target)

    def link(self, path: Path, target: Path) -> None:
        with self._lock:
            super().link(path, target)
            if self._name_step(Link, path, target):
                self._inodes[str(self._name(target))] = self._inodes[str(self._name(path))]

    def unlink(self, path: Path) -> None:
        with self._lock:
            super().unlink(path)
            if self._name_step(Unlink, path):
                self._inodes.pop(str(self._name(path)), None)

    def rmdir(self, path: Path) -> None:
        with self._lock:
            super().rmdir(path)
            if self._name_step(Unlink, path):
                self._inodes.pop(str(self._name(path)), None)

    def mkdir(self, path: Path) -> None:
        with self._lock:
            super().mkdir(path)
            name = self._name(path)
            if name is not None:
                self._inodes[name] = DIRECTORY
                self.journal.steps.append(Create(name, DIRECTORY))

    def _new_inode(self) -> Inode:
        self._inode_count += 1
        return Inode(self._inode_count)

    def _name(self, path: Path) -> str | None:
        """*path* as the journal names it, ``None`` outside of the root."""
        return str(path.relative_to(self._root)) if path.is_relative_to(self._root) else None

    def _change(self, descriptor: int, step_for) -> None:
        inode = self._open.get(descriptor)
        if inode is not None:
            self.journal.steps.append(step_for(inode))

    def _name_step(self, kind, *paths: Path) -> bool:
        names = [self._name(path) for path in paths]
        if None in names:
            assert set(names) == {None}, "a step may not cross the border of the recorded root"
            return False
        self.journal.steps.append(kind(*names))
        return True

    def _renamed(self, path: Path, target: Path) -> None:
        if self._name_step(Rename, path, target):
            old, new = str(self._name(path)), str(self._name(target))
            for name in [n for n in self._inodes if n == old or n.startswith(f"{old}/")]:
                self._inodes[new + name.removeprefix(old)] = self._inodes.pop(name)
