"""A cut that cannot be made, or is given up, leaves the volume and the next cut whole."""

import errno
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import pytest

from ebsim.durable_files import Files
from ebsim.errors import Conflict, MetadataCorrupt, StorageFull, StorageUnavailable
from ebsim.volumes.cut import CutReader
from tests.open_descriptors import open_descriptors
from tests.volumes.failing_calls import FailingCalls
from tests.volumes.volume_stores import (
    BLOCK,
    PATIENCE,
    BytesOrigin,
    SmallVolume,
    contents,
    disk_of,
    snapshot,
)

SIZE = 40 * BLOCK + 100


def volume_of(tmp_path: Path, calls: FailingCalls, name: str = "volume") -> SmallVolume:
    volume = SmallVolume(tmp_path / name, BytesOrigin(disk_of(1, SIZE)), files=Files(calls))
    volume.create(SIZE)
    return volume


def try_cut(volume: SmallVolume, snapshot_id: str, dirty_since: str, calls: FailingCalls) -> None:
    """Cut with a call that fails somewhere, and give it up as the engine does."""
    device = volume.device
    try:
        dirty_only = device.prepare_cut(snapshot_id, dirty_since)
        device.freeze(PATIENCE)
        try:
            device.make_cut(snapshot_id, dirty_only=dirty_only)
        finally:
            device.thaw()
    finally:
        calls.fail_call = None
        device.settle_cut(snapshot_id)


def test_a_cut_that_fails_at_any_call_loses_no_dirty_block(tmp_path: Path) -> None:
    for fail_call in count():
        calls = FailingCalls()
        volume = volume_of(tmp_path, calls, f"volume-{fail_call}")
        taken: dict[str, bytes] = {}
        snapshot(volume, "snap-first", taken)
        volume.device.write_at(5 * BLOCK, b"written before the failing cut")
        calls.call_count, calls.fail_call = 0, fail_call
        before = open_descriptors()
        with suppress(StorageUnavailable):
            try_cut(volume, "snap-failed", "snap-first", calls)
        assert open_descriptors() <= before
        volume.device.write_at(9 * BLOCK, b"written after it")
        disk = contents(volume.device)
        assert snapshot(volume, "snap-second", taken) == disk, f"call {fail_call} failed"
        volume.kill()
        volume.device.write_at(11 * BLOCK, b"written after that")
        assert snapshot(volume, "snap-third", taken) == contents(volume.device)
        volume.close()
        if not calls.refused_count:
            break
    assert fail_call > 8, "no call of the cut was reached"


def test_making_a_cut_opens_nothing_and_reserves_nothing(tmp_path: Path) -> None:
    calls = FailingCalls()
    volume = volume_of(tmp_path, calls)
    volume.device.prepare_cut("snap-1", None)
    calls.fail("open")
    calls.fail("allocate")
    volume.device.freeze(PATIENCE)
    volume.device.make_cut("snap-1", dirty_only=False)
    volume.device.thaw()
    calls.heal()
    volume.device.settle_cut("snap-1")
    assert calls.refused_count == 0
    volume.close()


def test_of_two_cuts_made_ready_at_once_the_later_one_is_made(tmp_path: Path) -> None:
    volume = volume_of(tmp_path, FailingCalls())
    device = volume.device
    device.write_at(0, b"first")
    device.prepare_cut("snap-1", None)
    device.prepare_cut("snap-2", None)
    device.freeze(PATIENCE)
    with pytest.raises(Conflict, match="before snap-1 was cut"):
        device.make_cut("snap-1", dirty_only=False)
    device.make_cut("snap-2", dirty_only=False)
    with pytest.raises(Conflict, match="before snap-1 was cut"):
        device.make_cut("snap-1", dirty_only=False)
    device.thaw()
    before = contents(device)
    device.write_at(0, b"changed")
    device.settle_cut("snap-1")
    with closing(CutReader(volume.folder, "snap-2")) as reader:
        block = bytearray(BLOCK)
        reader.read(memoryview(block), 0)
    assert block == before[:BLOCK]
    volume.settle("snap-2", is_completed=True)
    volume.close()


def test_a_volume_resized_before_it_is_cut_is_not_cut(tmp_path: Path) -> None:
    volume = volume_of(tmp_path, FailingCalls())
    volume.device.prepare_cut("snap-1", None)
    volume.device.grow(SIZE + 20 * BLOCK)
    volume.device.freeze(PATIENCE)
    with pytest.raises(Conflict, match="resized"):
        volume.device.make_cut("snap-1", dirty_only=False)
    volume.device.thaw()
    assert not list(volume.folder.path.glob("*snap-1*"))
    assert snapshot(volume, "snap-2", {}) == contents(volume.device)
    volume.close()


def test_a_cut_that_is_gone_is_told_so_and_leaves_nothing_open(tmp_path: Path) -> None:
    volume = volume_of(tmp_path, FailingCalls())
    before = open_descriptors()
    with pytest.raises(Conflict):
        CutReader(volume.folder, "snap-none")
    volume.cut("snap-1", None)
    volume.folder.preserved_bits("snap-1").unlink()
    after_cut = open_descriptors()
    with pytest.raises(Conflict):
        CutReader(volume.folder, "snap-1")
    assert open_descriptors() <= after_cut
    volume.settle("snap-1", is_completed=False)
    assert open_descriptors(tmp_path).total() <= before.total()
    volume.close()


def test_a_full_disk_at_any_call_leaves_a_volume_that_can_be_grown_later(tmp_path: Path) -> None:
    for fail_call in count():
        calls = FailingCalls(error_number=errno.ENOSPC)
        volume = volume_of(tmp_path, calls, f"volume-{fail_call}")
        volume.device.write_at(3 * BLOCK, b"x")
        volume.device.flush()
        disk = contents(volume.device)
        calls.call_count, calls.fail_call = 0, fail_call
        before = open_descriptors()
        is_grown = False
        with suppress(StorageFull):
            volume.device.grow(2 * SIZE)
            is_grown = True
        calls.fail_call = None
        if not is_grown:
            assert open_descriptors(tmp_path).total() <= before.total()
            assert volume.device.size_bytes == SIZE
            assert contents(volume.device) == disk
        dirty_count = 2
        try:
            volume.device.flush()
        except StorageFull:  # it was the sync: what the disk has of the bytes is not known
            volume.kill()
            dirty_count = 1 + volume.device.dirty_count()
            assert dirty_count == 1 + volume.device.state.block_count
        volume.device.grow(2 * SIZE)
        assert contents(volume.device) == disk + bytes(SIZE)
        volume.device.write_at(2 * SIZE - 1, b"y")
        assert volume.device.dirty_count() == dirty_count
        volume.close()
        if not calls.refused_count:
            break
    assert fail_call > 5, "no call of growing was reached"


def test_a_volume_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    for fail_call in count():
        calls = FailingCalls()
        volume = volume_of(tmp_path, calls, f"volume-{fail_call}")
        volume.device.write_at(3 * BLOCK, b"x")
        disk = contents(volume.device)
        volume.cut("snap-1", None)
        volume.abandon()
        calls.call_count, calls.fail_call = 0, fail_call
        before = open_descriptors()
        with suppress(StorageUnavailable):
            volume.open()
        calls.fail_call = None
        if calls.refused_count:
            assert open_descriptors(tmp_path).total() <= before.total(), f"call {fail_call} failed"
            volume.open()
        assert contents(volume.device) == disk
        assert snapshot(volume, "snap-2", {}) == disk
        volume.close()
        if not calls.refused_count:
            break
    assert fail_call > 10, "no call of opening was reached"


def test_a_volume_without_its_bytes_is_told_from_one_that_was_removed(tmp_path: Path) -> None:
    volume = volume_of(tmp_path, FailingCalls())
    volume.close()
    (volume.folder.path / "data.0").unlink()
    with pytest.raises(MetadataCorrupt, match="data"):
        volume.open()


def test_a_full_disk_does_not_fail_the_read_that_the_access_log_notes(tmp_path: Path) -> None:
    calls = FailingCalls()
    size = 1100 * BLOCK
    origin = BytesOrigin(disk_of(2, size, 0))
    volume = SmallVolume(tmp_path / "volume", origin, files=Files(calls))
    volume.create(size)
    calls.fail("pwritev", "access", errno.ENOSPC)
    assert contents(volume.device) == origin.disk
    assert calls.refused_count == 1
    volume.close()
    assert volume.folder.load().boot is None, "it was closed cleanly"
