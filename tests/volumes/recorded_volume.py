"""What a crash may leave of a volume's folder.

``tests/crash`` computes it from a journal of file calls.  Two things are different here:

1. Mapped bits change without any call.  Their files are looked at before every recorded
   call; what changed is an unsynced write, which a crash may lose, tear or keep.
2. ``data`` and ``present`` are written in place.  Of a write that was going on when the
   power failed each sector holds the old bytes or the new; nothing else is damaged, as
   on every disk that file systems and databases trust.  Files that are written anew
   before they get their name are shown no such mercy.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from ebsim.system_calls import SystemCalls
from tests.crash.journal import Inode, Journal, Recording, Step, Write
from tests.crash.simulated_disk import CrashState, SimulatedDisk

MAPPED = ("dirty", "dirty.next", "present.live", "cut-")
IN_PLACE = ("data.", "present", "preserved-")
MERCILESS = frozenset({"zeros", "garbage", "torn"})


class VolumeRecording(Recording):
    """System calls that keep a journal of a volume's folder, its mapped bits included."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._mapped: dict[int, Inode] = {}
        self._seen: dict[Inode, bytes] = {}

    def note_mapped(self) -> None:
        """Write down what changed in mapped files since the last call."""
        with self._lock:
            for descriptor, inode in self._mapped.items():
                data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
                if data != self._seen[inode].ljust(len(data), b"\0"):
                    self.journal.steps.append(Write(inode, 0, data))
                self._seen[inode] = data

    def open(self, path: Path, flags: int) -> int:
        with self._lock:
            self.note_mapped()
            descriptor = super().open(path, flags)
            inode = self._open.get(descriptor)
            if inode is not None and path.name.startswith(MAPPED):
                if inode not in self._seen:
                    self._seen[inode] = path.read_bytes()
                self._mapped[descriptor] = inode
            return descriptor

    def close(self, descriptor: int) -> None:
        with self._lock:
            self.note_mapped()
            self._mapped.pop(descriptor, None)
            super().close(descriptor)

    def zero_range(self, descriptor: int, offset_bytes: int, size_bytes: int) -> None:
        with self._lock:
            self.note_mapped()
            SystemCalls.zero_range(self, descriptor, offset_bytes, size_bytes)
            data = bytes(size_bytes)
            self._change(descriptor, lambda inode: Write(inode, offset_bytes, data))

    def _change(self, descriptor: int, step_for: Any) -> None:
        # Bits that are set and then counted on are set before the call that does so.
        self._put_before(lambda: super(VolumeRecording, self)._change(descriptor, step_for))

    def _name_step(self, kind: Any, *paths: Path) -> bool:
        found: list[bool] = []
        self._put_before(
            lambda: found.append(super(VolumeRecording, self)._name_step(kind, *paths))
        )
        return found[0]

    def _put_before(self, add_step: Any) -> None:
        """Add a step, but note first what changed in mapped files."""
        self.note_mapped()
        add_step()


def volume_crash_states(journal: Journal, *, reorderings: int) -> Iterator[CrashState]:
    """Every distinct state that a crash may leave, by rising moment; see the module."""
    disk = SimulatedDisk(journal)
    seen: set[int] = set()
    for moment in range(len(journal.steps) + 1):
        if moment:
            disk.apply(journal.steps[moment - 1])
        coming = journal.steps[moment] if moment < len(journal.steps) else None
        for state in states_now(disk, moment, coming, Random(moment), reorderings):
            is_killed = state.kind.startswith("killed")
            found = hash((is_killed, state.marks, frozenset(state.files.items())))
            if found not in seen:
                seen.add(found)
                yield state


def states_now(
    disk: SimulatedDisk, moment: int, coming: Step | None, random: Random, reorderings: int
) -> list[CrashState]:
    """The states of one moment, merciful to what is written in place."""
    states = list(disk.states(moment, coming, random, reorderings))
    kept = next(state.files for state in states if state.kind == "reordered 0")
    return [
        CrashState(
            state.step_count,
            state.kind,
            state.marks,
            _with_in_place(state.files, kept, state.kind),
            state.directories,
        )
        for state in states
    ]


def _with_in_place(
    files: Mapping[str, bytes], kept: Mapping[str, bytes], kind: str
) -> dict[str, bytes]:
    if kind not in MERCILESS:
        return dict(files)
    return {
        name: kept.get(name, data) if _is_in_place(name) else data for name, data in files.items()
    }


def _is_in_place(name: str) -> bool:
    file_name = Path(name).name
    return file_name.startswith(IN_PLACE) and not file_name.startswith(MAPPED)


def differing_bytes(found: bytes, allowed: Collection[bytes]) -> list[int]:
    """The blocks of *found* with a byte that none of *allowed* has there."""
    wrong = []
    for at in range(0, len(found), 4096):
        block = found[at : at + 4096]
        candidates = {version[at : at + 4096].ljust(len(block), b"\0") for version in allowed}
        if block in candidates:
            continue
        columns = zip(block, zip(*candidates, strict=True), strict=True)
        if any(byte not in column for byte, column in columns):
            wrong.append(at // 4096)
    return wrong
