"""A store on a file system that has no room left: a real one, of 48 MiB, in memory."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.diff_snapshots import diff_snapshots
from ebsim.engine.list_snapshots import list_snapshots
from ebsim.engine.region import Region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.tags import tag_snapshot
from ebsim.errors import StorageFull
from tests.engine.store_audit import complaints_about
from tests.engine.stores import MIB, open_store, restored, take
from tests.tools import lacking, require_tool, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("loop_devices")]

BIG = SnapshotOptions(thread_count=1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of its own."""
    mount = require_tool("mount", package="mount")
    if os.geteuid() != 0:
        lacking("needs root to mount a file system")
    path = tmp_path / "small"
    path.mkdir()
    run(mount, "-t", "tmpfs", "-o", "size=48m", "tmpfs", path)
    try:
        yield path
    finally:
        run(require_tool("umount", package="mount"), path)


@pytest.fixture
def region(small_disk: Path) -> Iterator[Region]:
    region = open_store(small_disk / "home")
    yield region
    region.close()


def image(path: Path, size_bytes: int, seed: int) -> Path:
    path.write_bytes(Random(seed).randbytes(size_bytes))
    return path


def fill(folder: Path) -> Path:
    """Take every byte that the file system has left."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    return path


def test_a_snapshot_that_does_not_fit_fails_and_leaves_nothing(
    region: Region, tmp_path: Path
) -> None:
    kept = take(region, image(tmp_path / "a.img", 4 * MIB, 1), BIG)
    before = os.statvfs(region.home).f_bfree
    with pytest.raises(StorageFull) as caught:
        take(region, image(tmp_path / "b.img", 64 * MIB, 2), BIG)
    assert len(str(caught.value).splitlines()) == 1
    assert complaints_about(region) == []
    assert [snapshot.snapshot_id for snapshot in list_snapshots(region).snapshots] == [kept]
    free = os.statvfs(region.home)
    assert (before - free.f_bfree) * free.f_bsize < MIB, "the room is given back"
    assert restored(region, kept, tmp_path) == (tmp_path / "a.img").read_bytes()


def test_a_snapshot_without_a_byte_to_spare_fails_in_one_line(
    region: Region, tmp_path: Path
) -> None:
    take(region, image(tmp_path / "a.img", 4 * MIB, 1), BIG)
    fill(region.home.parent)
    with pytest.raises(StorageFull) as caught:
        take(region, image(tmp_path / "b.img", 4 * MIB, 2), BIG)
    assert len(str(caught.value).splitlines()) == 1


def test_deleting_works_on_a_full_disk_and_frees(region: Region, tmp_path: Path) -> None:
    first = take(region, image(tmp_path / "a.img", 8 * MIB, 1), BIG)
    second = take(region, image(tmp_path / "b.img", 8 * MIB, 2), BIG)
    ballast = fill(region.home.parent)
    told: list[str] = []
    done = delete_snapshots(region, [first], lambda snapshot: told.append(snapshot.snapshot_id))
    free = os.statvfs(region.home)
    assert told == [first]
    assert done.freed_bytes > 8 * MIB
    assert free.f_bfree * free.f_bsize > 7 * MIB
    ballast.unlink()
    assert complaints_about(region) == []
    assert restored(region, second, tmp_path) == (tmp_path / "b.img").read_bytes()


def test_a_full_store_is_restored_and_compared(region: Region, tmp_path: Path) -> None:
    first = take(region, image(tmp_path / "a.img", 4 * MIB, 1), BIG)
    second = take(region, image(tmp_path / "a.img", 4 * MIB, 2), BIG)
    fill(region.home.parent)
    assert restored(region, second, tmp_path) == (tmp_path / "a.img").read_bytes()
    assert len(list(diff_snapshots(region, first, second))) == 8


def test_a_failed_tag_on_a_full_disk_is_finished_or_forgotten(
    region: Region, tmp_path: Path
) -> None:
    snapshot_id = take(region, image(tmp_path / "a.img", MIB, 1), BIG)
    ballast = fill(region.home.parent)
    with pytest.raises(StorageFull):
        tag_snapshot(region, snapshot_id, {"key": "value"})
    ballast.unlink()
    take(region, image(tmp_path / "b.img", MIB, 2), BIG)
    assert complaints_about(region) == []
