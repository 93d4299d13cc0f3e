"""Compacting a real region: what is left is whole, what is told is true."""

from random import Random

import pytest

from ebsim.engine.compact_store import compact_store, occupied_bytes
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.region import Region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.store_stats import store_stats
from ebsim.metadata.transactions import Table
from ebsim.progress import Unwatched
from tests.engine.store_audit import complaints_about
from tests.engine.stores import (
    BLOCK,
    MIB,
    block_bytes,
    change_disk,
    restored,
    take,
    write_disk,
)


@pytest.fixture
def disk(tmp_path):
    """A disk of 4 MiB, half of it written."""
    blocks = {index: block_bytes(index) for index in range(0, 1024, 2)}
    return write_disk(tmp_path / "disk.img", 4 * MIB, blocks)


def history(region: Region, disk, count: int) -> dict[str, bytes]:
    """Snapshots of *disk* as it changes, and the bytes that each must give back."""
    taken = {}
    for step in range(count):
        change_disk(disk, {(step * 37 + n) % 1024: block_bytes(9000 + step) for n in range(40)})
        taken[take(region, disk)] = disk.read_bytes()
    return taken


def rows(region: Region):
    return {t: region.metadata.read(lambda r, t=t: r.scan(t, limit=1 << 20)) for t in Table}


@pytest.mark.slow
def test_after_deletions_and_compaction_every_snapshot_left_is_whole(region, disk, tmp_path):
    taken = history(region, disk, 12)
    for snapshot_id in list(taken)[:9:2]:
        delete_snapshots(region, [snapshot_id])
        del taken[snapshot_id]
    report = compact_store(region)
    assert report.moved_count > 0
    assert report.damage == ()
    assert store_stats(region).pack_count <= 2
    assert complaints_about(region) == []
    assert {name: restored(region, name, tmp_path) for name in taken} == taken
    assert complaints_about(region) == []


@pytest.mark.slow
def test_a_report_tells_what_the_device_got_back(region, disk):
    taken = history(region, disk, 8)
    delete_snapshots(region, list(taken)[:6])
    before = occupied_bytes(region)
    report = compact_store(region)
    assert report.occupied_bytes_before == before
    assert report.occupied_bytes_after == occupied_bytes(region) < before
    assert report.freed_bytes == before - occupied_bytes(region)


@pytest.mark.slow
def test_a_dry_run_changes_nothing_and_foretells_the_run(region, disk):
    taken = history(region, disk, 8)
    delete_snapshots(region, list(taken)[:6])
    before = rows(region), sorted(region.backend.names("packs"))
    foretold = compact_store(region, dry_run=True)
    assert (rows(region), sorted(region.backend.names("packs"))) == before
    report = compact_store(region)
    assert foretold.is_dry_run
    assert not report.is_dry_run
    assert foretold.rewritten_pack_count == report.rewritten_pack_count > 0
    assert foretold.moved_count == report.moved_count
    assert foretold.moved_bytes == report.moved_bytes
    pack_count = foretold.rewritten_pack_count
    assert abs(foretold.freed_bytes - report.freed_bytes) <= 8192 * (pack_count + 1)


@pytest.mark.slow
def test_compacting_twice_does_nothing_the_second_time(region, disk):
    history(region, disk, 8)
    assert compact_store(region).rewritten_pack_count == 8
    before = rows(region), sorted(region.backend.names("packs"))
    assert compact_store(region).rewritten_pack_count == 0
    assert (rows(region), sorted(region.backend.names("packs"))) == before


def test_an_empty_region_has_nothing_to_compact(region):
    report = compact_store(region)
    assert (report.rewritten_pack_count, report.freed_bytes) == (0, 0)


class Interrupted(Exception):
    """Raised by somebody who watches, to break a snapshot off."""


class Watcher(Unwatched):
    """Calls *act* once *size_bytes* of a snapshot have been read."""

    def __init__(self, size_bytes: int, act) -> None:
        self._left = size_bytes
        self._act = act

    def advance(self, size_bytes: int) -> None:
        self._left -= size_bytes
        if self._left <= 0:
            act, self._act = self._act, lambda: None
            act()


def interrupt() -> None:
    raise Interrupted


LARGE = SnapshotOptions(thread_count=1, block_size=64 * 1024)


def break_off(region: Region, tmp_path):
    """A disk of 120 MiB, of whose snapshot more than one pack was stored and no more."""
    path = tmp_path / "large.img"
    path.write_bytes(Random(1).randbytes(120 * MIB))
    with pytest.raises(Interrupted):
        create_snapshot(region, str(path), LARGE, Watcher(110 * MIB, interrupt))
    return path


@pytest.mark.slow
def test_an_interrupted_upload_is_let_go_and_its_space_given_back(region, tmp_path):
    break_off(region, tmp_path)
    assert store_stats(region).interrupted_upload_count == 1
    before = occupied_bytes(region)
    assert before > 60 * MIB
    foretold = compact_store(region, dry_run=True)
    report = compact_store(region)
    assert foretold.interrupted_upload_count == report.interrupted_upload_count == 1
    assert occupied_bytes(region) == 0
    # Blocks whose leaf was not committed are in no account, and go with their pack.
    assert 40 * MIB < foretold.freed_bytes <= before
    assert store_stats(region).interrupted_upload_count == 0
    assert complaints_about(region) == []


@pytest.mark.slow
def test_an_upload_that_a_snapshot_goes_on_from_is_kept(region, tmp_path):
    path = break_off(region, tmp_path)
    reports = []
    watcher = Watcher(20 * MIB, lambda: reports.append(compact_store(region)))
    snapshot = create_snapshot(region, str(path), LARGE, watcher)
    assert [report.interrupted_upload_count for report in reports] == [0]
    assert restored(region, snapshot.snapshot_id, tmp_path) == path.read_bytes()
    assert complaints_about(region) == []


def test_stats_are_what_was_stored(region, tmp_path):
    blocks = {index: block_bytes(index % 8) for index in range(64)}
    path = write_disk(tmp_path / "few.img", MIB, blocks)
    for _ in range(3):
        take(region, path)
    stats = store_stats(region)
    assert (stats.snapshot_count, stats.volume_count, stats.pack_count) == (3, 1, 1)
    assert stats.block_count == 8
    assert stats.logical_bytes == 3 * 64 * BLOCK
    assert stats.live_bytes <= stats.pack_bytes <= stats.occupied_bytes
    assert stats.occupied_bytes == occupied_bytes(region)
    assert stats.saving_ratio == pytest.approx(stats.compression_ratio * stats.deduplication_ratio)
    assert 1.5 < stats.compression_ratio < 2
    assert stats.deduplication_ratio > 10
    assert stats.metadata_live_bytes <= stats.metadata_file_bytes


def test_stats_of_an_empty_region_divide_by_nothing(region):
    stats = store_stats(region)
    assert (stats.chunk_count, stats.occupied_bytes, stats.logical_bytes) == (0, 0, 0)
    assert stats.compression_ratio is stats.deduplication_ratio is stats.saving_ratio is None
    assert stats.metadata_bytes_per_chunk is None
