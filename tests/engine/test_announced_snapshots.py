"""Snapshots that somebody was told of while they were pending."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.list_snapshots import list_snapshots, show_snapshot
from ebsim.engine.region import Region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from tests.engine.stores import block_bytes, restored, write_disk

ANNOUNCED = SnapshotOptions(block_size=4096, thread_count=1, is_announced=True)


class Cut(Exception):
    """Stands for whatever ends a process in the middle."""


def break_off(begun: Sequence[Snapshot]) -> None:
    assert begun
    raise Cut


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return write_disk(tmp_path / "disk.img", 1 << 16, {0: block_bytes(1), 5: block_bytes(2)})


def test_it_is_told_of_while_it_is_pending(region: Region, disk: Path) -> None:
    seen: list[tuple[SnapshotState, SnapshotState]] = []

    def look(begun: Sequence[Snapshot]) -> None:
        (one,) = begun
        seen.append((one.state, show_snapshot(region, one.snapshot_id).state))

    made = create_snapshot(region, str(disk), ANNOUNCED, on_begun=look)

    assert seen == [(SnapshotState.PENDING, SnapshotState.PENDING)]
    assert (made.state, made.is_announced) == (SnapshotState.COMPLETED, False)


def test_one_that_breaks_off_stays_listed_as_failed(
    region: Region, disk: Path, tmp_path: Path
) -> None:
    with pytest.raises(Cut):
        create_snapshot(region, str(disk), ANNOUNCED, on_begun=break_off)

    (failed,) = list_snapshots(region).snapshots
    assert (failed.state, failed.root) == (SnapshotState.ERROR, None)
    assert failed.state_message == "The snapshot was interrupted."
    again = create_snapshot(region, str(disk), ANNOUNCED)
    assert restored(region, again.snapshot_id, tmp_path) == disk.read_bytes()
    delete_snapshots(region, [failed.snapshot_id])
    assert [one.snapshot_id for one in list_snapshots(region).snapshots] == [again.snapshot_id]


def test_one_that_nobody_was_told_of_is_gone(region: Region, disk: Path) -> None:
    quiet = SnapshotOptions(block_size=4096, thread_count=1)
    with pytest.raises(Cut):
        create_snapshot(region, str(disk), quiet, on_begun=break_off)

    assert list_snapshots(region).snapshots == []


def test_a_set_is_told_of_when_all_its_volumes_are_cut(region: Region) -> None:
    volumes = [create_volume(region, VolumeOptions(size_gib=1)).volume_id for _ in range(2)]
    told: list[Sequence[Snapshot]] = []

    made = create_snapshot_set(region, volumes, ANNOUNCED_SET, on_begun=told.append)

    (begun,) = told
    assert [one.snapshot_id for one in begun] == [one.snapshot_id for one in made.snapshots]


def test_a_set_that_breaks_off_stays_listed_as_failed(region: Region) -> None:
    volumes = [create_volume(region, VolumeOptions(size_gib=1)).volume_id for _ in range(2)]
    with pytest.raises(Cut):
        create_snapshot_set(region, volumes, ANNOUNCED_SET, on_begun=break_off)

    states = [one.state for one in list_snapshots(region).snapshots]
    assert states == [SnapshotState.ERROR, SnapshotState.ERROR]


ANNOUNCED_SET = SnapshotOptions(thread_count=1, is_announced=True)
