"""Copies between regions: byte for byte, and nothing travels that need not."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from ebsim.catalog.records import get_snapshot
from ebsim.catalog.snapshot import SnapshotState, decode_snapshot, encode_snapshot
from ebsim.chunkstore.pack_format import HEADER_SIZE
from ebsim.chunkstore.rows import number_key
from ebsim.content.digest import block_digest
from ebsim.engine.archive_snapshot import archive_snapshot
from ebsim.engine.check_store import check_store
from ebsim.engine.compact_store import compact_store
from ebsim.engine.copy_snapshot import Copied, CopyOptions, SnapshotCopy, copy_snapshot
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region, open_region
from ebsim.engine.share_snapshot import Grantees, share_snapshot
from ebsim.engine.store_stats import store_stats
from ebsim.engine.tags import tag_snapshot
from ebsim.errors import (
    ChunkCorrupt,
    Conflict,
    InvalidRequest,
    SnapshotArchived,
    SnapshotNotFound,
)
from ebsim.metadata.transactions import Table
from tests.engine.damaged_stores import flip_bit
from tests.engine.interruptions import Interference, Interrupted, interruption
from tests.engine.store_audit import complaints_about
from tests.engine.stores import (
    ACCOUNT,
    BLOCK,
    OTHER_ACCOUNT,
    SMALL,
    block_bytes,
    change_disk,
    restored,
    take,
    write_disk,
)

ONE_THREAD = CopyOptions(thread_count=1)
DISK_SIZE = 700 * BLOCK + 9
PLACES = (*range(10), 127, 128, 300, 301, 500, 699, 700)


@pytest.fixture
def other(region: Region) -> Iterator[Region]:
    """Another region of the home; audited when the test is over."""
    other = open_region(region.home, "other", ACCOUNT, clock=region.clock, random=Random(7))
    with closing(other):
        yield other
        assert complaints_about(other) == []


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return write_disk(tmp_path / "disk.img", DISK_SIZE, {i: block_bytes(i) for i in PLACES})


def archive_all(region: Region, names: list[str]) -> None:
    for name in names:
        archive_snapshot(region, name)


def copied(region: Region, source: Region, name: str) -> Copied:
    return copy_snapshot(region, source, name, ONE_THREAD)


def test_a_copy_restores_to_the_bytes_of_its_source(region, other, disk, tmp_path):
    taken = take(region, disk)

    done = copied(other, region, taken)

    assert restored(other, done.snapshot.snapshot_id, tmp_path) == disk.read_bytes()
    assert (done.sent_count, done.is_incremental) == (len(PLACES), False)
    assert check_store(other, read_data=True).findings == []


def test_a_copy_has_the_root_of_its_source_and_is_the_copiers_own(region, other, disk):
    original = create_snapshot(region, str(disk), replace(SMALL, tags={"a": "b"}))
    elsewhere = replace(other, account_id=OTHER_ACCOUNT)
    options = CopyOptions(description="kept", tags={"c": "d"}, completion_duration_minutes=30)

    copy = copy_snapshot(elsewhere, region, original.snapshot_id, options).snapshot

    assert copy.root == original.root
    assert copy.state is SnapshotState.COMPLETED
    assert (copy.owner_id, copy.volume_id, copy.parent_id) == (OTHER_ACCOUNT, "vol-ffffffff", None)
    assert (copy.description, dict(copy.tags)) == ("kept", {"c": "d"})
    assert copy.completion_duration_minutes == 30
    assert copy.copied_from == f"test/{original.snapshot_id}"
    assert (copy.size_bytes, copy.block_size) == (original.size_bytes, original.block_size)
    assert copy.block_count == copy.changed_block_count == original.block_count


def test_of_a_later_snapshot_only_the_changed_blocks_travel(region, other, disk, tmp_path):
    copied(other, region, take(region, disk))
    change_disk(disk, {3: block_bytes(900), 500: block_bytes(901)})

    done = copied(other, region, take(region, disk))

    assert (done.sent_count, done.is_incremental) == (2, True)
    assert restored(other, done.snapshot.snapshot_id, tmp_path) == disk.read_bytes()


def test_blocks_that_an_unrelated_disk_brought_do_not_travel(region, other, disk, tmp_path):
    twin = write_disk(tmp_path / "twin.img", 20 * BLOCK, {5: block_bytes(300), 9: block_bytes(0)})
    take(other, twin)

    assert copied(other, region, take(region, disk)).sent_count == len(PLACES) - 2


def test_within_one_region_nothing_is_copied(region, disk, tmp_path):
    taken = take(region, disk)
    before = store_stats(region)

    done = copied(region, region, taken)

    after = store_stats(region)
    assert (done.sent_count, done.snapshot.stored_bytes) == (0, 0)
    assert (after.chunk_count, after.live_bytes) == (before.chunk_count, before.live_bytes)
    delete_snapshots(region, [taken])
    assert restored(region, done.snapshot.snapshot_id, tmp_path) == disk.read_bytes()


def test_records_travel_as_they_lie(region, other, disk):
    strong = take(region, disk, replace(SMALL, level=19))
    number = store_stats(region).live_bytes

    copied(other, region, strong)

    assert store_stats(other).live_bytes == number


def test_the_source_may_be_deleted_while_it_is_copied(region, other, disk, tmp_path):
    taken = take(region, disk)
    deleting = Interference(1, lambda: delete_snapshots(region, [taken]))

    done = copy_snapshot(other, region, taken, ONE_THREAD, deleting)

    assert restored(other, done.snapshot.snapshot_id, tmp_path) == disk.read_bytes()
    assert store_stats(region).chunk_count == 0


def test_what_is_freed_meanwhile_in_the_destination_is_sent_after_all(
    region, other, disk, tmp_path
):
    twin = write_disk(
        tmp_path / "twin.img", DISK_SIZE, {i: block_bytes(i) for i in (0, 1, 127, 301, 700)}
    )
    theirs = take(other, twin)
    deleting = Interference(3, lambda: delete_snapshots(other, [theirs]))

    done = copy_snapshot(other, region, take(region, disk), ONE_THREAD, deleting)

    assert restored(other, done.snapshot.snapshot_id, tmp_path) == disk.read_bytes()
    assert check_store(other, read_data=True).findings == []


def test_a_subtree_held_by_the_copy_survives_the_snapshot_that_brought_it(
    region, other, disk, tmp_path
):
    first = copied(other, region, take(region, disk)).snapshot.snapshot_id
    change_disk(disk, {3: block_bytes(900)})
    deleting = Interference(1, lambda: delete_snapshots(other, [first]))

    done = copy_snapshot(other, region, take(region, disk), ONE_THREAD, deleting)

    assert restored(other, done.snapshot.snapshot_id, tmp_path) == disk.read_bytes()


def test_a_copy_that_broke_off_leaves_no_snapshot_and_is_gone_on_from(
    region, other, disk, tmp_path, monkeypatch
):
    # Each leaf is committed at once.
    monkeypatch.setattr("ebsim.chunkstore.chunk_writer._NODES_WAITING_MAX", 1)
    taken = take(region, disk)
    with pytest.raises(Interrupted):
        copy_snapshot(other, region, taken, ONE_THREAD, interruption(4))
    assert store_stats(other).snapshot_count == 0
    assert store_stats(other).interrupted_upload_count == 1

    done = copied(other, region, taken)

    assert 0 < done.sent_count < len(PLACES)
    assert store_stats(other).interrupted_upload_count == 0
    assert restored(other, done.snapshot.snapshot_id, tmp_path) == disk.read_bytes()


def test_an_announced_copy_that_is_killed_stays_listed_and_is_gone_on_from(
    region, other, disk, monkeypatch
):
    monkeypatch.setattr("ebsim.chunkstore.chunk_writer._NODES_WAITING_MAX", 1)
    taken = take(region, disk)
    announced = replace(ONE_THREAD, is_announced=True)

    def die() -> None:
        copying._session.abandon()  # noqa: SLF001 (what the end of a process does)
        recover(other)
        raise Interrupted

    copying = SnapshotCopy(other, region, taken, announced)
    begun = copying.begin()
    with pytest.raises(Interrupted):
        copying.run(Interference(4, die))
    left = other.metadata.read(lambda reader: get_snapshot(reader, ACCOUNT, begun.snapshot_id))
    assert (left.state, left.state_message) == (
        SnapshotState.ERROR,
        "The snapshot was interrupted.",
    )

    assert 0 < copied(other, region, taken).sent_count < len(PLACES)
    delete_snapshots(other, [begun.snapshot_id])


def test_another_copy_leaves_an_interrupted_one_alone(region, other, disk, tmp_path, monkeypatch):
    # Each leaf is committed at once.
    monkeypatch.setattr("ebsim.chunkstore.chunk_writer._NODES_WAITING_MAX", 1)
    taken = take(region, disk)
    with pytest.raises(Interrupted):
        copy_snapshot(other, region, taken, ONE_THREAD, interruption(4))
    twin = write_disk(tmp_path / "twin.img", 20 * BLOCK, {5: block_bytes(5000)})

    copied(other, region, take(region, twin))

    assert store_stats(other).interrupted_upload_count == 1
    compact_store(other)
    assert store_stats(other).interrupted_upload_count == 0


def test_a_copy_outlives_the_loss_of_the_metadata(region, disk, tmp_path):
    with closing(open_region(region.home, "lost", ACCOUNT)) as lost:
        done = copied(lost, region, take(region, disk))

    assert rebuild_store(region.home, "lost").snapshot_count == 1

    with closing(open_region(region.home, "lost", ACCOUNT, create=False)) as again:
        shown = again.metadata.read(
            lambda reader: get_snapshot(reader, ACCOUNT, done.snapshot.snapshot_id)
        )
        assert shown == done.snapshot
        assert restored(again, done.snapshot.snapshot_id, tmp_path) == disk.read_bytes()
        assert complaints_about(again) == []


def test_what_is_tagged_while_it_is_copied_stays_tagged(region, other, disk):
    taken = take(region, disk)

    def tag() -> None:
        (row,) = other.metadata.read(lambda reader: reader.scan(Table.SNAPSHOTS, limit=9))
        tag_snapshot(other, row[0].decode(), {"later": "yes"})

    done = copy_snapshot(other, region, taken, ONE_THREAD, Interference(2, tag))

    assert dict(done.snapshot.tags) == {"later": "yes"}


def test_a_volumes_next_snapshot_here_has_a_later_generation_than_the_copy(
    region, other, disk, clock
):
    clock.advance(10**6)
    copy = copied(other, region, take(region, disk)).snapshot
    clock.advance(-(10**6))

    later = create_snapshot(other, str(disk), SMALL)

    assert later.generation > copy.generation


def test_a_damaged_source_block_fails_the_copy_and_leaves_nothing(region, other, disk):
    taken = take(region, disk)
    with ExitStack() as mended:
        mended.callback(damage_block(region, block_bytes(300)))
        with pytest.raises(ChunkCorrupt):
            copied(other, region, taken)
        assert store_stats(other).snapshot_count == 0


def test_a_block_known_to_be_damaged_at_the_destination_is_sent_again(
    region, other, disk, tmp_path
):
    taken = take(region, disk)
    first = copied(other, region, taken).snapshot
    damage_block(other, block_bytes(300))
    note_damage(other, block_bytes(300))

    done = copied(other, region, taken)

    assert done.sent_count == 1
    assert restored(other, first.snapshot_id, tmp_path) == disk.read_bytes()


def test_an_account_copies_what_was_shared_with_it_under_tags_of_its_own(region, other, disk):
    taken = take(region, disk, replace(SMALL, tags={"a": "b"}))
    share_snapshot(region, taken, Grantees.of([OTHER_ACCOUNT]))
    theirs = [replace(one, account_id=OTHER_ACCOUNT) for one in (other, region)]

    done = copied(*theirs, taken)

    assert (done.snapshot.owner_id, dict(done.snapshot.tags)) == (OTHER_ACCOUNT, {})
    with pytest.raises(SnapshotNotFound):
        copied(region, other, done.snapshot.snapshot_id)


@pytest.mark.parametrize("minutes", [0, 14, 16, 2895, -15])
def test_a_duration_that_amazon_refuses_is_refused(minutes, region, other, disk):
    taken = take(region, disk)
    with pytest.raises(InvalidRequest, match=f"'{minutes}' is not a valid value"):
        copy_snapshot(other, region, taken, CopyOptions(completion_duration_minutes=minutes))


def test_a_snapshot_of_another_account_is_not_found(region, other, disk):
    taken = take(region, disk)
    with pytest.raises(SnapshotNotFound):
        copied(other, replace(region, account_id=OTHER_ACCOUNT), taken)


def test_what_is_still_being_taken_is_not_copied(region, other, disk):
    taken = take(region, disk)
    row = region.metadata.read(lambda reader: reader.get_many(Table.SNAPSHOTS, [taken.encode()]))
    pending = replace(decode_snapshot(row[0]), state=SnapshotState.PENDING)

    def put(row: bytes) -> Callable[..., None]:
        return lambda txn: txn.put_many(Table.SNAPSHOTS, [(taken.encode(), row)])

    region.metadata.run(put(encode_snapshot(pending)))
    with pytest.raises(Conflict, match="pending"):
        copied(other, region, taken)
    region.metadata.run(put(row[0]))


def test_an_empty_disk_can_be_copied(region, other, tmp_path):
    empty = write_disk(tmp_path / "empty.img", 5 * BLOCK, {})
    done = copied(other, region, take(region, empty))
    assert restored(other, done.snapshot.snapshot_id, tmp_path) == empty.read_bytes()


def test_deleting_the_last_copy_leaves_nothing(region, other, disk):
    done = copied(other, region, take(region, disk))
    delete_snapshots(other, [done.snapshot.snapshot_id])
    assert store_stats(other).chunk_count == 0
    assert other.metadata.read(lambda reader: reader.scan(Table.VOLUMES, limit=9)) == []


def damage_block(region: Region, block: bytes) -> Callable[[], None]:
    """Flip a bit of the record of *block*; returns what flips it back."""
    (found,) = region.chunks.find([block_digest(block)])
    assert found is not None
    path = region.path / found.pack_name
    bit_index = 8 * (found.location.offset + HEADER_SIZE + 20)
    flip_bit(path, bit_index)
    return lambda: flip_bit(path, bit_index)


def note_damage(region: Region, block: bytes) -> None:
    """Let the metadata know that the record of *block* is damaged."""
    (found,) = region.chunks.find([block_digest(block)])
    assert found is not None
    row = (number_key(found.number), b"found by a scrub")
    region.metadata.run(lambda txn: txn.put_many(Table.DAMAGED, [row]))


@pytest.mark.parametrize("change", [delete_snapshots, archive_all])
def test_what_goes_away_before_it_is_held_is_told_as_that(change, region, other, disk):
    taken = take(region, disk)
    copying = SnapshotCopy(other, region, taken, ONE_THREAD)
    change(region, [taken])
    with pytest.raises((SnapshotNotFound, SnapshotArchived)):
        copying.begin()
    recover(region)
