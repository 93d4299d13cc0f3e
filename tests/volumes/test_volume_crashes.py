"""A volume is stopped at every step that it takes on the disk, and opened again.

For each crash state (``recorded_volume.py``): every byte is one of those that it was since
the last flush, or since the last write that returned if only the process was killed; the
snapshot taken next, of the blocks that count as dirty if that is believed, equals what the
volume reads as, and so does one that compares everything; and the volume goes on, and is
the same when all of it is here.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from ebsim.durable_files import Files
from ebsim.volumes.cut import CutReader
from tests.conftest import PROFILE
from tests.crash.recorded_store import quick_directory
from tests.crash.simulated_disk import CrashState, materialise
from tests.volumes.recorded_volume import VolumeRecording, differing_bytes, volume_crash_states
from tests.volumes.volume_stores import (
    BLOCK,
    ORIGIN,
    BytesOrigin,
    SmallVolume,
    base_of,
    contents,
    cut,
    disk_of,
    hydrate,
    read_cut,
    snapshot,
)

REORDERINGS = 40 if PROFILE == "deep" else 3
SIZE = 11 * BLOCK + 700


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is known of the volume at a mark: places in the list of its versions."""

    flushed: int
    returned: int
    newest: int
    taken: dict[str, bytes]
    completed: frozenset[str]


class Script:
    """A volume whose steps are recorded, and what it has to hold after each."""

    def __init__(self, folder: Path, origin: BytesOrigin | None) -> None:
        (folder / "volume").mkdir()
        made = SmallVolume(folder / "volume", origin)
        made.create(SIZE)
        made.abandon()
        self.recording = VolumeRecording(folder)
        self.volume = SmallVolume(folder / "volume", origin, files=Files(self.recording))
        first = origin.disk.ljust(SIZE, b"\0") if origin else bytes(SIZE)
        self.versions = [first]
        self.taken = {ORIGIN: first} if origin else {"none": first}
        self.expectations: list[Expectation] = []
        self._flushed = self._returned = 0
        self._random = Random("script")
        self.mark()
        self.volume.open()

    def mark(self) -> None:
        """From here on the disk has to hold what is expected now."""
        self.recording.note_mapped()
        self.recording.mark(str(len(self.expectations)))
        newest = len(self.versions) - 1
        completed = frozenset(self.volume.completed)
        self.expectations.append(
            Expectation(self._flushed, self._returned, newest, dict(self.taken), completed)
        )

    def change(self, start: int, stop: int, verb: str = "write") -> None:
        device = self.volume.device
        data = self._random.randbytes(stop - start) if verb == "write" else bytes(stop - start)
        old = self.versions[-1]
        self.versions.append(old[:start] + data + old[stop:])
        self.mark()
        if verb == "write":
            device.write_at(start, data)
        elif verb == "trim":
            device.trim(start, stop - start)
        else:
            device.zero_at(start, stop - start, allocate=True)
        self._returned = len(self.versions) - 1
        self.mark()

    def flush(self) -> None:
        self.volume.device.flush()
        self._note_flushed()

    def reopen(self) -> None:
        self.volume.close()
        self._note_flushed()
        self.volume.open()

    def kill(self) -> None:
        self.volume.kill()
        self.mark()

    def grow(self, size_bytes: int) -> None:
        self.versions.append(self.versions[-1].ljust(size_bytes, b"\0"))
        self.mark()
        self.volume.device.grow(size_bytes)
        self._returned = len(self.versions) - 1
        self.mark()

    def cut(self, snapshot_id: str) -> tuple[CutReader, bytes]:
        """Cut the volume; what reads the cut, and what its snapshot builds on."""
        since = self.volume.device.state.dirty_since
        dirty_only = self.volume.cut(snapshot_id, since if since in self.taken else None)
        base = base_of(self.volume, self.taken if dirty_only else {})
        return CutReader(self.volume.folder, snapshot_id), base

    def complete(self, snapshot_id: str, reader: CutReader, base: bytes, expected: bytes) -> None:
        self.taken[snapshot_id] = read_cut(reader, base)
        assert self.taken[snapshot_id] == expected
        reader.close()
        self.volume.completed.add(snapshot_id)
        self.mark()
        self.volume.settle(snapshot_id, is_completed=True)
        self.mark()

    def fail(self, snapshot_id: str, reader: CutReader) -> None:
        reader.close()
        self.volume.settle(snapshot_id, is_completed=False)
        self.mark()

    def _note_flushed(self) -> None:
        self._flushed = self._returned
        self.mark()


def writes_and_flushes(script: Script) -> None:
    script.change(100, 300)
    script.change(BLOCK, 3 * BLOCK)
    script.flush()
    script.change(2 * BLOCK - 10, 2 * BLOCK + 10)
    script.change(3 * BLOCK, 5 * BLOCK, "trim")
    script.change(6 * BLOCK + 1, 7 * BLOCK - 1, "zero")
    script.change(0, 4 * BLOCK)
    script.flush()
    script.change(10 * BLOCK + 5, SIZE)
    script.reopen()
    script.change(9 * BLOCK, 10 * BLOCK)
    script.kill()
    script.change(9 * BLOCK + 5, 10 * BLOCK)
    script.flush()


def idle_flushes(script: Script) -> None:
    """A flush with nothing to do but what another process, or a change of each kind, left."""
    script.change(BLOCK, 2 * BLOCK)
    script.flush()
    script.flush()
    script.change(2 * BLOCK, 3 * BLOCK)
    script.kill()
    script.flush()
    for verb in ("trim", "zero", "write"):
        script.change(BLOCK + 100, 2 * BLOCK - 100, verb)
        script.flush()
    hydrate(script.volume.device, range(5, 7))
    script.flush()


def snapshots(script: Script) -> None:
    script.change(0, 2 * BLOCK)
    reader, base = script.cut("snap-1")
    expected = script.versions[-1]
    script.change(BLOCK, 3 * BLOCK)
    script.complete("snap-1", reader, base, expected)
    script.change(5, 50)
    script.flush()
    reader, _ = script.cut("snap-2")
    script.change(7 * BLOCK, 8 * BLOCK)
    script.fail("snap-2", reader)
    script.change(8 * BLOCK, 9 * BLOCK, "trim")
    reader, base = script.cut("snap-3")
    expected = script.versions[-1]
    script.complete("snap-3", reader, base, expected)
    script.change(6 * BLOCK, 6 * BLOCK + 5)
    script.reopen()
    reader, base = script.cut("snap-4")
    script.complete("snap-4", reader, base, script.versions[-1])
    script.reopen()


def failed_and_closed(script: Script) -> None:
    """The names that a cut swapped count from the moment at which the volume is closed."""
    script.change(0, BLOCK)
    reader, _ = script.cut("snap-1")
    script.change(4 * BLOCK, 5 * BLOCK)
    script.fail("snap-1", reader)
    script.reopen()
    script.change(7 * BLOCK, 8 * BLOCK)
    script.reopen()


def killed_while_cut(script: Script) -> None:
    script.change(0, 2 * BLOCK)
    reader, base = script.cut("snap-1")
    expected = script.versions[-1]
    script.change(BLOCK, 3 * BLOCK)
    script.kill()
    script.change(0, BLOCK)
    script.complete("snap-1", reader, base, expected)
    reader, _ = script.cut("snap-2")
    reader.close()
    script.kill()
    script.change(5 * BLOCK, 6 * BLOCK)
    script.flush()


def loading(script: Script) -> None:
    hydrate(script.volume.device, range(5))
    script.change(3 * BLOCK + 7, 4 * BLOCK)
    script.flush()
    hydrate(script.volume.device, range(4, 12))
    script.mark()
    script.volume.device.stand_alone()
    script.mark()
    script.change(2 * BLOCK, 6 * BLOCK, "trim")
    script.reopen()


def growing(script: Script) -> None:
    script.change(10 * BLOCK, 11 * BLOCK + 2)
    script.grow(SIZE + 3000)
    script.change(11 * BLOCK + 600, SIZE + 2000)
    script.flush()
    script.grow(15 * BLOCK)
    script.change(13 * BLOCK, 14 * BLOCK)
    script.reopen()


SCRIPTS = (
    writes_and_flushes,
    idle_flushes,
    snapshots,
    failed_and_closed,
    killed_while_cut,
    loading,
    growing,
)


@pytest.mark.slow
@pytest.mark.parametrize("is_lazy", [True, False], ids=["lazy", "empty"])
@pytest.mark.parametrize("steps", SCRIPTS, ids=lambda steps: steps.__name__)
def test_a_crash_at_any_step_leaves_what_was_flushed(
    steps: Callable[[Script], None], figure: Callable[[str], None], *, is_lazy: bool
) -> None:
    if steps is loading and not is_lazy:
        pytest.skip("an empty volume has nothing to load")
    with quick_directory() as folder:
        (folder / "recorded").mkdir()
        origin = BytesOrigin(disk_of(1, SIZE)) if is_lazy else None
        script = Script(folder / "recorded", origin)
        steps(script)
        script.volume.abandon()
        count = 0
        for state in volume_crash_states(script.recording.journal, reorderings=REORDERINGS):
            if not state.marks:
                continue  # nothing has been done yet
            expected = script.expectations[int(state.marks[-1])]
            boots = ["boot 1", "boot 2"] if state.kind.startswith("killed") else ["boot 2"]
            for boot in boots:
                examine(state, script, expected, folder / "crashed", boot=boot)
                count += 1
    figure(f"{count} crash states")
    assert count > 100, "the volume was not recorded"


def examine(
    state: CrashState, script: Script, expected: Expectation, folder: Path, *, boot: str
) -> None:
    """Open *state* in *boot*, and find in it what the docstring of this module says."""
    folder.mkdir()
    materialise(state, folder)
    volume = SmallVolume(folder / "volume", script.volume.origin)
    volume.boot = boot
    volume.completed = set(expected.completed)
    taken = dict(expected.taken)
    device = volume.open()
    try:
        first = expected.returned if boot == "boot 1" else expected.flushed
        allowed = script.versions[first : expected.newest + 1]
        found = contents(device)
        assert len(found) in {len(version) for version in allowed}, state
        assert differing_bytes(found, allowed) == [], state
        assert snapshot(volume, "snap-next", taken) == found, state
        device.write_at(4 * BLOCK + 9, b"it goes on" * 500)
        after = contents(device)
        assert snapshot(volume, "snap-dirty", taken) == after, state
        cut(device, "snap-all", None)
        reader = CutReader(volume.folder, "snap-all")
        assert read_cut(reader, base_of(volume, {})) == after, state
        reader.close()
        volume.settle("snap-all", is_completed=False)
        hydrate(device, range(device.state.block_count))
        assert contents(device) == after, state
        assert snapshot(volume, "snap-last", taken) == after, state
    finally:
        volume.close()
        shutil.rmtree(folder)
