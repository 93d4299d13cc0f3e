"""Deleting: exactly what nothing else needs is freed, and foretold."""

from pathlib import Path

import pytest

from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.delete_snapshot import delete_snapshots, plan_deletion_of
from ebsim.engine.list_snapshots import list_snapshots, measure_snapshot, show_snapshot
from ebsim.engine.region import Region
from ebsim.errors import Conflict, EbsimError, InvalidRequest, SnapshotNotFound
from tests.engine.interruptions import Interference
from tests.engine.store_audit import StoreAudit
from tests.engine.stores import (
    BLOCK,
    OTHER_ACCOUNT,
    SMALL,
    block_bytes,
    change_disk,
    open_store,
    restored,
    take,
    write_disk,
)

# A record: its header, and the half of the block that does not compress.
RECORD_SIZE_MIN = 64 + BLOCK // 2


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return write_disk(tmp_path / "disk.img", 300 * BLOCK, {i: block_bytes(i) for i in range(20)})


def block_count(region: Region) -> int:
    return sum(location.kind == 0 for location in StoreAudit(region).locations.values())


def test_only_blocks_that_no_other_snapshot_has_are_freed(
    region: Region, disk: Path, tmp_path: Path
) -> None:
    first = take(region, disk)
    change_disk(disk, {index: block_bytes(index + 100) for index in range(5)})
    second = take(region, disk)
    plan = plan_deletion_of(region, [first])
    assert plan.block_count == 5
    assert plan.freed_bytes > 5 * RECORD_SIZE_MIN
    assert measure_snapshot(region, show_snapshot(region, first)).unique_bytes == plan.freed_bytes
    done = delete_snapshots(region, [first])
    assert (done.freed_bytes, block_count(region)) == (plan.freed_bytes, 20)
    assert restored(region, second, tmp_path) == disk.read_bytes()


def test_what_two_snapshots_share_is_freed_when_both_go(region: Region, disk: Path) -> None:
    first, second = take(region, disk), take(region, disk)
    assert plan_deletion_of(region, [first]).freed_bytes == 0
    assert plan_deletion_of(region, [second]).freed_bytes == 0
    both = plan_deletion_of(region, [first, second])
    assert both.block_count == 20
    assert delete_snapshots(region, [first, second]).freed_bytes == both.freed_bytes
    assert (StoreAudit(region).locations, StoreAudit(region).packs) == ({}, {})


def test_a_block_shared_with_another_volume_stays(
    region: Region, disk: Path, tmp_path: Path
) -> None:
    other_disk = write_disk(tmp_path / "other.img", BLOCK, {0: block_bytes(3)})
    first, other = take(region, disk), take(region, other_disk)
    assert plan_deletion_of(region, [first]).block_count == 19
    delete_snapshots(region, [first])
    assert restored(region, other, tmp_path) == block_bytes(3)


def test_unique_and_shared_bytes_add_up_to_what_the_snapshot_refers_to(
    region: Region, disk: Path
) -> None:
    first = take(region, disk)
    change_disk(disk, {index: block_bytes(index + 100) for index in range(5)})
    take(region, disk)
    shown = show_snapshot(region, first)
    use = measure_snapshot(region, shown)
    plan = plan_deletion_of(region, [first])
    assert use.shared_bytes == shown.referenced_bytes - plan.block_reference_bytes
    assert plan.block_reference_bytes < use.unique_bytes, "the unique nodes are counted too"


def test_each_deletion_is_acknowledged_once_in_order(region: Region, disk: Path) -> None:
    names = [take(region, disk) for _ in range(3)]
    told: list[str] = []
    delete_snapshots(region, names, lambda snapshot: told.append(snapshot.snapshot_id))
    assert told == names


def test_one_unknown_name_and_nothing_is_deleted(region: Region, disk: Path) -> None:
    first = take(region, disk)
    bad: list[tuple[str, type[EbsimError]]] = [
        ("snap-00000000000000000", SnapshotNotFound),
        ("vol-1", InvalidRequest),
        ("snap-", InvalidRequest),
    ]
    for name, error in bad:
        with pytest.raises(error):
            delete_snapshots(region, [first, name])
    assert [snapshot.snapshot_id for snapshot in list_snapshots(region).snapshots] == [first]


def test_a_snapshot_named_twice_is_deleted_once(region: Region, disk: Path) -> None:
    first = take(region, disk)
    plan = plan_deletion_of(region, [first, first])
    assert delete_snapshots(region, [first, first]).freed_bytes == plan.freed_bytes


def test_a_snapshot_being_taken_is_not_deleted(region: Region, disk: Path) -> None:
    refused: list[str] = []
    other = open_store(region.home)

    def delete_it() -> None:
        (pending,) = list_snapshots(other).snapshots
        with pytest.raises(Conflict, match="still being taken"):
            delete_snapshots(other, [pending.snapshot_id])
        refused.append(pending.snapshot_id)

    done = create_snapshot(region, str(disk), SMALL, Interference(1, delete_it))
    other.close()
    assert refused == [done.snapshot_id]


def test_another_account_s_snapshot_is_as_if_it_were_not_there(
    region: Region, disk: Path, tmp_path: Path
) -> None:
    mine = take(region, disk)
    other = open_store(region.home, account_id=OTHER_ACCOUNT)
    assert list_snapshots(other).snapshots == []
    with pytest.raises(SnapshotNotFound):
        delete_snapshots(other, [mine])
    with pytest.raises(SnapshotNotFound):
        restored(other, mine, tmp_path)
    theirs = take(other, disk)
    assert show_snapshot(other, theirs).parent_id is None, "a lineage of its own"
    delete_snapshots(region, [mine])
    assert restored(other, theirs, tmp_path) == disk.read_bytes()
    other.close()


def test_a_long_run_of_dead_records_is_given_back_to_the_disk(region: Region, disk: Path) -> None:
    """A hole needs 64 KiB in one piece: 40 records of 2 KiB that nothing else has."""
    run = range(100, 140)
    change_disk(disk, {index: block_bytes(index) for index in run})
    first = take(region, disk)
    change_disk(disk, {index: bytes(BLOCK) for index in run})
    take(region, disk)
    done = delete_snapshots(region, [first])
    assert done.punched_bytes >= 64 << 10
