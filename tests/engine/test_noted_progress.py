"""How far a snapshot is, as those see it who list snapshots while it is taken."""

from contextlib import closing
from pathlib import Path

import pytest

from ebsim.blockmap.geometry import FAN_OUT
from ebsim.catalog.snapshot import Snapshot, SnapshotState, snapshot_to_json
from ebsim.catalog.snapshot_filter import Filter, progress_of
from ebsim.engine import noted_progress
from ebsim.engine.copy_snapshot import copy_snapshot
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.list_snapshots import list_snapshots
from ebsim.engine.region import Region, open_region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.errors import StorageFull
from ebsim.metadata.transactions import Transaction
from tests.engine.interruptions import Interrupted
from tests.engine.stores import ACCOUNT, block_bytes, write_disk

BLOCK = 4096
LEAF = FAN_OUT * BLOCK
OPTIONS = SnapshotOptions(block_size=BLOCK, thread_count=1, is_announced=True)


class Watching:
    """Notes what is listed at every step, and ends the snapshot after *step_count* of them."""

    def __init__(self, region: Region, step_count: int | None = None) -> None:
        self.seen: list[str] = []
        self._region = region
        self._step_count = step_count

    def begin(self, what: str, total_bytes: int | None) -> None:
        del what
        assert total_bytes

    def advance(self, size_bytes: int) -> None:
        assert size_bytes >= 0
        self.seen += [progress_of(one) for one in pending(self._region)]
        if len(self.seen) == self._step_count:
            raise Interrupted

    def end(self) -> None:
        assert self.seen


def pending(region: Region) -> list[Snapshot]:
    states = [Filter("status", ["pending"])]
    return list(list_snapshots(region, filters=states).snapshots)


@pytest.fixture(autouse=True)
def noted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noted_progress, "_NOTE_INTERVAL_SECONDS", 0.0)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    blocks = {leaf * FAN_OUT: block_bytes(leaf + 1) for leaf in range(8)}
    return write_disk(tmp_path / "disk.img", 8 * LEAF, blocks)


def test_it_rises_from_nothing_and_is_all_when_it_is_completed(region: Region, disk: Path) -> None:
    watching = Watching(region)
    made = create_snapshot(region, str(disk), OPTIONS, watching)
    percents = [int(one.removesuffix("%")) for one in watching.seen]
    assert percents == sorted(percents)
    assert percents[0] == 0
    assert 50 < percents[-1] < 100
    assert progress_of(made) == "100%"
    assert "progress_percent" not in snapshot_to_json(made)


def test_one_that_fails_keeps_what_it_had(region: Region, disk: Path) -> None:
    with pytest.raises(Interrupted):
        create_snapshot(region, str(disk), OPTIONS, Watching(region, step_count=5))
    (failed,) = list_snapshots(region).snapshots
    assert failed.state is SnapshotState.ERROR
    assert 0 < failed.progress_percent < 100
    again = list_snapshots(region, filters=[Filter("progress", [progress_of(failed)])]).snapshots
    assert list(again) == [failed]


def test_a_copy_tells_how_far_it_is(region: Region, disk: Path) -> None:
    made = create_snapshot(region, str(disk), OPTIONS)
    with closing(open_region(region.home, "other", ACCOUNT, clock=region.clock)) as other:
        watching = Watching(other)
        copy_snapshot(other, region, made.snapshot_id, progress=watching)
    assert len(set(watching.seen)) > 2


def test_a_full_disk_costs_the_note_and_not_the_snapshot(
    region: Region, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[int] = []

    def fail(self: noted_progress.NotedProgress, txn: Transaction, percent: int) -> None:
        del self, txn
        notes.append(percent)
        raise StorageFull("no room")

    monkeypatch.setattr(noted_progress.NotedProgress, "_note", fail)
    watching = Watching(region)
    made = create_snapshot(region, str(disk), OPTIONS, watching)
    assert (made.state, set(watching.seen)) == (SnapshotState.COMPLETED, {"0%"})
    assert len(notes) > 1
