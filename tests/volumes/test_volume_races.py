"""What only goes wrong when two things happen at once, or one fails in the middle of another."""

import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest

from ebsim.durable_files import Files
from ebsim.errors import Conflict, MetadataCorrupt, StorageUnavailable
from ebsim.system_calls import Buffer, SystemCalls
from ebsim.volumes.cut import CutReader
from ebsim.volumes.volume_folder import NOT_KNOWN, VolumeFolder
from tests.volumes.failing_calls import FailingCalls
from tests.volumes.volume_stores import (
    BLOCK,
    ORIGIN,
    BytesOrigin,
    SmallVolume,
    contents,
    disk_of,
    hydrate,
    snapshot,
)

SIZE = 20 * BLOCK


class InterferingCalls(SystemCalls):
    """Calls *act* once, before the first rename, removal or lock of a file of this *name*.

    Or after the first write or sync.  *synced* are the names of what was synced.
    """

    def __init__(self) -> None:
        self.synced: list[str] = []
        self._act: Callable[[], None] | None = None
        self._name = ""

    def before(self, name: str, act: Callable[[], None]) -> None:
        self._name, self._act = name, act

    @property
    def has_acted(self) -> bool:
        return self._act is None

    def rename(self, path: Path, target: Path) -> None:
        self._interfere(target)
        super().rename(path, target)

    def unlink(self, path: Path) -> None:
        self._interfere(path)
        super().unlink(path)

    def flock(self, descriptor: int, operation: int) -> None:
        self._interfere(Path(f"/proc/self/fd/{descriptor}").readlink())
        super().flock(descriptor, operation)

    def pwritev(self, descriptor: int, parts: Sequence[Buffer], offset_bytes: int) -> int:
        written = super().pwritev(descriptor, parts, offset_bytes)
        self._interfere(Path(f"/proc/self/fd/{descriptor}").readlink())
        return written

    def fdatasync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        self.synced.append(path.name)
        super().fdatasync(descriptor)
        self._interfere(path)

    def _interfere(self, path: Path) -> None:
        if self._act is not None and path.name == self._name:
            act, self._act = self._act, None
            act()


def made(tmp_path: Path, calls: SystemCalls | None = None) -> SmallVolume:
    origin = BytesOrigin(disk_of(3, SIZE))
    volume = SmallVolume(tmp_path / "volume", origin, files=Files(calls or SystemCalls()))
    volume.create(SIZE)
    return volume


def test_a_snapshot_may_end_while_the_last_block_arrives(tmp_path: Path) -> None:
    """Each notes its part of the state, and neither undoes the other's."""
    calls = InterferingCalls()
    volume = made(tmp_path, calls)
    volume.device.write_at(5, b"written here, nowhere else")
    hydrate(volume.device, range(20))
    disk = contents(volume.device)
    volume.cut("snap-1", ORIGIN)
    alone = threading.Thread(target=volume.device.stand_alone)

    def begin_to_stand_alone() -> None:
        alone.start()
        # It ends now, or when what goes on here has ended: both have to be right.
        alone.join(0.2)

    calls.before("state.json", begin_to_stand_alone)
    volume.settle("snap-1", is_completed=True)
    alone.join()
    state = volume.folder.load()
    assert (state.origin, state.dirty_since) == (None, "snap-1")
    volume.kill()
    assert contents(volume.device) == disk
    volume.close()


def test_after_a_failed_flush_nothing_that_was_not_flushed_is_believed(tmp_path: Path) -> None:
    """The kernel forgets what it could not write, and says so once."""
    calls = FailingCalls()
    volume = made(tmp_path, calls)
    volume.device.write_at(0, b"a" * BLOCK)
    volume.device.flush()
    volume.device.write_at(BLOCK, b"b" * BLOCK)
    hydrate(volume.device, [7])
    calls.fail("fdatasync", "data")
    with pytest.raises(StorageUnavailable):
        volume.device.flush()
    calls.heal()
    with pytest.raises(StorageUnavailable):
        volume.device.flush()
    volume.kill()
    state = volume.folder.load()
    assert (volume.device.present_count(), state.dirty_since) == (1, NOT_KNOWN)
    assert volume.device.dirty_count() == 20
    assert contents(volume.device) == b"a" * BLOCK + volume.origin.disk[BLOCK:]
    volume.device.flush()
    volume.close()


@pytest.mark.parametrize("moment", ["in the middle of the write", "in the middle of a flush"])
def test_a_flush_is_not_spared_by_one_that_missed_a_write(tmp_path: Path, moment: str) -> None:
    """The write returns when the first flush had begun already, or ended."""
    calls = InterferingCalls()
    volume = made(tmp_path, calls)
    device = volume.device
    device.flush()
    if moment == "in the middle of the write":
        calls.before("data.0", device.flush)
        device.write_at(0, b"a" * BLOCK)
    else:
        device.write_at(BLOCK, b"a" * BLOCK)
        calls.before("data.0", lambda: device.write_at(0, b"a" * BLOCK))
        device.flush()
    assert calls.has_acted
    calls.synced.clear()
    device.flush()
    assert calls.synced == ["data.0", "present"]
    device.flush()
    assert calls.synced == ["data.0", "present"]
    volume.close()


def test_flushes_asked_for_during_another_share_the_next(tmp_path: Path) -> None:
    """None is content with the one under way: what that missed, they have to make durable."""
    calls = InterferingCalls()
    volume = made(tmp_path, calls)
    device = volume.device
    device.write_at(0, b"a" * BLOCK)
    flushes = [threading.Thread(target=device.flush) for _ in range(4)]

    def write_and_flush() -> None:
        device.write_at(BLOCK, b"b" * BLOCK)
        for flush in flushes:
            flush.start()

    calls.synced.clear()
    calls.before("data.0", write_and_flush)
    device.flush()
    for flush in flushes:
        flush.join()
    assert calls.synced == ["data.0", "present"] * 2
    volume.close()


def test_a_volume_that_could_not_be_made_longer_is_not_flushed_any_more(tmp_path: Path) -> None:
    calls = FailingCalls()
    volume = made(tmp_path, calls)
    volume.device.write_at(0, b"a" * BLOCK)
    calls.fail("fdatasync", "data")
    with pytest.raises(StorageUnavailable):
        volume.device.grow(SIZE + BLOCK)
    calls.heal()
    with pytest.raises(StorageUnavailable):
        volume.device.flush()
    volume.kill()
    assert volume.device.dirty_count() == 20
    volume.close()


def test_a_volume_that_failed_to_flush_is_not_closed_cleanly(tmp_path: Path) -> None:
    calls = FailingCalls()
    volume = made(tmp_path, calls)
    volume.device.write_at(0, b"a" * BLOCK)
    calls.fail("fdatasync", "present")
    with pytest.raises(StorageUnavailable):
        volume.close()
    calls.heal()
    volume.open()
    assert volume.device.dirty_count() == 20
    volume.close()


def test_a_cut_that_was_settled_before_its_reader_had_it_is_not_read(tmp_path: Path) -> None:
    """The volume is killed and opened again just then; nothing is preserved any more."""
    volume = made(tmp_path)
    volume.device.write_at(0, b"before the cut")
    volume.cut("snap-1", ORIGIN)
    calls = InterferingCalls()
    calls.before("cut-snap-1", volume.kill)
    with pytest.raises(Conflict):
        CutReader(VolumeFolder(Files(calls), volume.folder.path), "snap-1")
    assert snapshot(volume, "snap-2", {ORIGIN: volume.origin.disk}) == contents(volume.device)
    volume.close()


def test_a_cut_is_not_read_while_it_is_settled(tmp_path: Path) -> None:
    calls = InterferingCalls()
    volume = made(tmp_path, calls)
    volume.device.write_at(0, b"before the cut")
    volume.cut("snap-1", ORIGIN)

    def read() -> None:
        with pytest.raises(Conflict):
            CutReader(VolumeFolder(Files(), volume.folder.path), "snap-1")

    calls.before("preserved-snap-1.0", read)
    volume.kill()
    assert calls.has_acted
    volume.close()


def test_a_cut_that_is_read_is_left_alone_when_whoever_asked_for_it_is_gone(
    tmp_path: Path,
) -> None:
    volume = made(tmp_path)
    volume.device.write_at(0, b"before the cut")
    disk = contents(volume.device)
    volume.cut("snap-1", ORIGIN)
    with closing(CutReader(volume.folder, "snap-1")) as reader:
        volume.device.leave_cut("snap-1")
        volume.device.write_at(0, b"after it")
        block = bytearray(BLOCK)
        reader.read(memoryview(block), 0)
        assert block == disk[:BLOCK]
        with pytest.raises(Conflict, match="snap-1 is being taken"):
            volume.device.prepare_cut("snap-2", ORIGIN)
    # Its reader went away without a word.
    assert snapshot(volume, "snap-2", {ORIGIN: volume.origin.disk}) == contents(volume.device)
    volume.close()


def test_what_another_process_cut_is_settled_once_nobody_reads_it(tmp_path: Path) -> None:
    volume = made(tmp_path)
    volume.device.write_at(3 * BLOCK, b"before the cut")
    volume.cut("snap-1", ORIGIN)
    with closing(CutReader(volume.folder, "snap-1")):
        volume.kill()
        with pytest.raises(Conflict):
            volume.device.grow(SIZE + BLOCK)
    volume.device.grow(SIZE + BLOCK)
    assert volume.device.dirty_count() == 1
    assert not list(volume.folder.path.glob("*snap-1*"))
    volume.close()


def test_a_cut_that_could_not_be_settled_is_settled_later(tmp_path: Path) -> None:
    calls = FailingCalls()
    volume = made(tmp_path, calls)
    volume.device.write_at(0, b"x")
    volume.cut("snap-1", ORIGIN)
    volume.completed.add("snap-1")
    calls.fail("rename", "")
    with suppress(StorageUnavailable):
        volume.device.leave_cut("snap-1")
    calls.heal()
    assert volume.device.prepare_cut("snap-2", "snap-1")
    assert volume.device.dirty_count() == 0
    volume.close()


def test_a_volume_whose_present_bits_are_gone_is_not_taken_for_an_empty_one(
    tmp_path: Path,
) -> None:
    volume = made(tmp_path)
    volume.device.write_at(0, b"x" * BLOCK)
    volume.close()
    volume.folder.present.unlink()
    with pytest.raises(MetadataCorrupt, match="present"):
        volume.open()
