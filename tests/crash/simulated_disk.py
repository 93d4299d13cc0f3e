"""What a disk may hold after a crash, computed from a journal of file calls.

A file system without mercy, after ALICE (Pillai et al., OSDI 2014) and SQLite's test6.c:

1. A file's bytes and size are durable up to its last ``fdatasync``.  Of later changes any
   part may have reached the disk, in any order, whole, torn at a sector, or as garbage.
2. A name is durable from the ``fsync`` of its directory on.  Of later creations, renames and
   removals any part may have reached the disk, each whole.
3. Syncing a file says nothing of its name, and syncing a directory nothing of the bytes.

For each moment of a journal, ``crash_states`` gives these states:

    killed          the process ended; everything it did took effect
    killed midway   the same, with half of the write that comes next
    all lost        names and bytes as of the last syncs
    bytes lost      every name, the bytes of the last syncs
    names lost      every byte, the names of the last syncs
    zeros, garbage  every name and size; unsynced ranges read as zeros, or as anything
    torn            everything, but the last unsynced write of each file ends in garbage
    reordered       any part of the names and bytes, as a seeded random decides
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from random import Random

from tests.crash.journal import (
    DIRECTORY,
    Allocate,
    Change,
    Create,
    Inode,
    Journal,
    Link,
    Mark,
    Punch,
    Rename,
    Resize,
    Step,
    SyncDirectory,
    SyncFile,
    Unlink,
    Write,
)

SECTOR = 512


@dataclass(frozen=True, slots=True)
class CrashState:
    """What is found after a crash: the files, by path, and the marks reached before it."""

    step_count: int
    kind: str
    marks: tuple[str, ...]
    files: dict[str, bytes]
    directories: frozenset[str]

    def __str__(self) -> str:
        return f"{self.kind} after step {self.step_count}, marks {list(self.marks)}"


def materialise(state: CrashState, directory: Path) -> None:
    """Write the files of *state* into *directory*, which must be empty."""
    for name in sorted(state.directories):
        (directory / name).mkdir(parents=True)
    for name, data in state.files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def crash_states(
    journal: Journal, step: int | None = None, *, reorderings: int = 4, seed: int = 0
) -> Iterator[CrashState]:
    """Every distinct state that a crash may leave, by rising moment.

    Moment k lies after the first k steps; *step* asks for that one alone.
    """
    disk = SimulatedDisk(journal)
    seen: set[int] = set()
    for moment in range(len(journal.steps) + 1):
        if moment:
            disk.apply(journal.steps[moment - 1])
        if step is not None and moment != step:
            continue
        coming = journal.steps[moment] if moment < len(journal.steps) else None
        random = Random(f"{seed}/{moment}")
        for state in disk.states(moment, coming, random, reorderings):
            found = hash((state.marks, state.directories, frozenset(state.files.items())))
            if found not in seen:
                seen.add(found)
                yield state


@dataclass(slots=True)
class _File:
    durable: bytes
    current: bytes
    pending: list[Change]


@dataclass(slots=True)
class _NameChange:
    """One operation on names, undone or done as a whole."""

    edits: dict[str, Inode | None]
    unsynced: set[str]
    moved: tuple[str, str] | None = None
    """A directory's old and new path: what it holds moves with it."""


class SimulatedDisk:
    """The files and names of a journal, as far as durable and as far as done."""

    def __init__(self, journal: Journal) -> None:
        self._files: dict[Inode, _File] = {}
        self._durable: dict[str, Inode] = dict.fromkeys(journal.directories, DIRECTORY)
        # In the order in which the recording numbered them.
        for number, (name, data) in enumerate(journal.files.items(), 1):
            self._files[Inode(number)] = _File(data, data, [])
            self._durable[name] = Inode(number)
        self._current = dict(self._durable)
        self._pending: list[_NameChange] = []
        self._trusted: dict[str, bytes] = {}
        self._marks: tuple[str, ...] = ()

    def apply(self, step: Step) -> None:
        match step:
            case Write() | Resize() | Allocate() | Punch():
                file = self._files[step.inode]
                file.pending.append(step)
                file.current = _changed(file.current, step)
            case SyncFile():
                file = self._files[step.inode]
                file.durable, file.pending = file.current, []
            case SyncDirectory():
                self._sync_directory(step.path)
            case Mark():
                self._marks = (*self._marks, step.name)
                self._trusted.update(step.trusted)
            case _:
                self._change_names(step)

    def states(
        self, moment: int, coming: Step | None, random: Random, reorderings: int
    ) -> Iterator[CrashState]:
        """The states of this moment, *coming* being the step that never ends."""

        def state(
            kind: str, names: dict[str, Inode], content: Callable[[_File], bytes]
        ) -> CrashState:
            files, directories = self._image(names, content)
            return CrashState(moment, kind, self._marks, files, directories)

        yield state("killed", self._current, lambda file: file.current)
        if isinstance(coming, Write):
            half = Write(coming.inode, coming.offset_bytes, coming.data[: len(coming.data) // 2])
            writing = self._files[coming.inode]
            yield state(
                "killed midway",
                self._current,
                lambda file: _changed(file.current, half) if file is writing else file.current,
            )
        yield state("all lost", self._durable, lambda file: file.durable)
        yield state("bytes lost", self._current, lambda file: file.durable)
        yield state("names lost", self._durable, lambda file: file.current)
        yield state("zeros", self._current, lambda file: _unsynced_as(file, bytes))
        yield state("garbage", self._current, lambda file: _unsynced_as(file, random.randbytes))
        yield state("torn", self._current, lambda file: _torn(file, random))
        for number in range(reorderings):
            names = self._some_names(random)
            yield state(f"reordered {number}", names, lambda file: _some_changes(file, random))

    def _change_names(self, step: Create | Rename | Link | Unlink) -> None:
        edits: dict[str, Inode | None]
        moved = None
        match step:
            case Create(path, inode):
                edits = {path: inode}
                if inode != DIRECTORY:
                    self._files[inode] = _File(b"", b"", [])
            case Rename(path, target):
                edits = {path: None, target: self._current[path]}
                if self._current[path] == DIRECTORY:
                    moved = (path, target)
                    # Which of its names would be durable where is more than is modelled here.
                    waiting = {name for change in self._pending for name in change.edits}
                    assert not any(name.startswith(f"{path}/") for name in waiting), (
                        "what a directory holds is synced before the directory is renamed"
                    )
            case Link(path, target):
                edits = {target: self._current[path]}
            case Unlink(path):
                edits = {path: None}
        change = _NameChange(edits, {_parent(path) for path in edits}, moved)
        self._pending.append(change)
        _edit(self._current, change)

    def _sync_directory(self, directory: str) -> None:
        for change in self._pending:
            change.unsynced.discard(directory)
            if not change.unsynced:
                _edit(self._durable, change)
        self._pending = [change for change in self._pending if change.unsynced]

    def _some_names(self, random: Random) -> dict[str, Inode]:
        names = dict(self._durable)
        for change in self._pending:
            if random.random() < 0.5:
                _edit(names, change)
        return names

    def _image(
        self, names: dict[str, Inode], content: Callable[[_File], bytes]
    ) -> tuple[dict[str, bytes], frozenset[str]]:
        """The files and directories of *names*, but for those in a directory that was lost."""
        directories = {name for name, inode in names.items() if inode == DIRECTORY} | {"."}
        reached = {name for name in names if directories.issuperset(_parents(name))}
        contents: dict[Inode, bytes] = {}
        files = {}
        for name in sorted(reached):
            inode = names[name]
            if inode != DIRECTORY:
                if inode not in contents:
                    contents[inode] = content(self._files[inode])
                files[name] = contents[inode]
        files.update(self._trusted)
        return files, frozenset(directories & reached)


def _changed(data: bytes, change: Change) -> bytes:
    match change:
        case Write(_, start, written):
            return data[:start].ljust(start, b"\0") + written + data[start + len(written) :]
        case Resize(_, size):
            return data[:size].ljust(size, b"\0")
        case Allocate(_, size):
            return data.ljust(size, b"\0")
        case Punch(_, start, size):
            hole = bytes(max(0, min(size, len(data) - start)))
            return data[:start] + hole + data[start + len(hole) :]


def _unsynced_as(file: _File, filler: Callable[[int], bytes]) -> bytes:
    """The file at its full size, with *filler* wherever something was written unsynced."""
    data = file.current
    for change in file.pending:
        if isinstance(change, Write):
            # A later truncation may have cut the range off.
            size = max(0, min(len(change.data), len(data) - change.offset_bytes))
            data = _changed(data, Write(change.inode, change.offset_bytes, filler(size)))
    return data


def _torn(file: _File, random: Random) -> bytes:
    if not file.pending or not isinstance(last := file.pending[-1], Write):
        return file.current
    kept = len(last.data) // 2
    garbage = random.randbytes(len(last.data) - kept)
    return _changed(file.current, Write(last.inode, last.offset_bytes + kept, garbage))


def _some_changes(file: _File, random: Random) -> bytes:
    data = file.durable
    for change in file.pending:
        fate = random.choice(["lost", "kept", "torn"])
        if fate == "torn" and isinstance(change, Write):
            sectors = random.randint(0, len(change.data) // SECTOR)
            change = Write(change.inode, change.offset_bytes, change.data[: sectors * SECTOR])
        if fate != "lost" and not (isinstance(change, Write) and not change.data):
            data = _changed(data, change)
    return data


def _edit(names: dict[str, Inode], change: _NameChange) -> None:
    if change.moved is not None:
        old, new = change.moved
        for name in [name for name in names if name.startswith(f"{old}/")]:
            names[new + name.removeprefix(old)] = names.pop(name)
    for path, inode in change.edits.items():
        if inode is None:
            names.pop(path, None)
        else:
            names[path] = inode


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _parents(path: str) -> set[str]:
    return {str(parent) for parent in PurePosixPath(path).parents}
