"""The archive tier: complete by itself, of no use until it is restored, never lost."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.stored_nodes import StoredNodes
from ebsim.catalog.event_log import newest_events
from ebsim.catalog.records import get_snapshot
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.storage_tier import StorageTier, TieringStatus
from ebsim.chunkstore.archive_reader import ArchiveReader
from ebsim.chunkstore.pack_scan import read_pack
from ebsim.engine.archive_snapshot import Archival, archive_snapshot
from ebsim.engine.check_store import check_store
from ebsim.engine.copy_snapshot import copy_snapshot
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots, plan_deletion_of
from ebsim.engine.diff_snapshots import diff_snapshots
from ebsim.engine.direct.block_access import BlockAccess
from ebsim.engine.direct.refusals import SnapshotUnusable
from ebsim.engine.open_snapshot import open_snapshot
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region, open_region
from ebsim.engine.restore_snapshot import restore_snapshot, verify_snapshot
from ebsim.engine.share_snapshot import Grantees, share_snapshot
from ebsim.engine.store_stats import store_stats
from ebsim.engine.tags import tag_snapshot
from ebsim.engine.unarchive_snapshot import Unarchival, unarchive_snapshot
from ebsim.errors import (
    ChunkCorrupt,
    Conflict,
    InvalidRequest,
    SnapshotArchived,
    SnapshotNotFound,
)
from ebsim.ids import SnapshotId
from tests.engine.damaged_stores import flip_bit
from tests.engine.interruptions import Interference, Interrupted, interruption
from tests.engine.store_audit import complaints_about
from tests.engine.stores import (
    ACCOUNT,
    BLOCK,
    KIB,
    OTHER_ACCOUNT,
    SMALL,
    block_bytes,
    change_disk,
    restored,
    take,
    write_disk,
)

DISK_SIZE = 300 * BLOCK + 9
PLACES = (*range(10), 127, 128, 299, 300)
DAY_SECONDS = 24 * 3600


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return write_disk(tmp_path / "disk.img", DISK_SIZE, {i: block_bytes(i) for i in PLACES})


@pytest.fixture
def taken(region: Region, disk: Path) -> str:
    return take(region, disk)


def shown(region: Region, snapshot_id: str) -> Snapshot:
    return region.metadata.read(lambda reader: get_snapshot(reader, ACCOUNT, snapshot_id))


def tier_events(region: Region) -> list[tuple[str, str]]:
    """What was told of tiers, and how it went."""
    events = region.metadata.read(lambda reader: list(newest_events(reader)))
    told = [event.detail for _, event in reversed(events)]
    return [
        (detail["event"], detail["result"])
        for detail in told
        if "rchive" in detail["event"] or "estore" in detail["event"]
    ]


def archive_packs(region: Region) -> list[Path]:
    return sorted((region.path / "archive").glob("*.pack"))


def test_archiving_gives_back_what_only_the_snapshot_held(region, disk, taken, tmp_path):
    before = disk.read_bytes()
    change_disk(disk, {3: block_bytes(800)})
    later = take(region, disk)

    archived = archive_snapshot(region, taken)

    assert archived.storage_tier is StorageTier.ARCHIVE
    assert archived.tiering is not None
    assert archived.tiering.status is TieringStatus.ARCHIVAL_COMPLETED
    blocks = store_stats(region).block_count
    delete_snapshots(region, [later])
    assert (blocks, store_stats(region).chunk_count) == (len(PLACES), 0)
    unarchive_snapshot(region, taken)
    assert restored(region, taken, tmp_path) == before


@pytest.mark.usefixtures("taken")
def test_an_archive_is_complete_by_itself(region, disk):
    """Also of a snapshot that shares nearly all with its parent, and each chunk once."""
    change_disk(disk, {3: block_bytes(800), 200: block_bytes(5)})
    later = archive_snapshot(region, take(region, disk))
    assert later.archive is not None

    reader = ArchiveReader(region.backend, later.archive.pack_names())

    block_map = BlockMap(bytes.fromhex(later.archive.root), StoredNodes(reader))
    content = bytearray(DISK_SIZE + BLOCK)
    for block in block_map.blocks():
        start = block.block_index * BLOCK
        content[start : start + BLOCK] = reader.read(block.digest)
    assert content[:DISK_SIZE] == disk.read_bytes()
    (pack,) = archive_packs(region)
    assert pack.stat().st_size == later.archive.size_bytes
    # The fifth block is at two places.
    digests = [block.digest for block in block_map.blocks()]
    assert (len(digests), len(set(digests))) == (len(PLACES) + 1, len(PLACES))
    stored = [
        record.digest for record in read_pack(region.backend, f"archive/{pack.name}").records
    ]
    assert len(stored) == len(set(stored)) == len(PLACES) + 4
    assert check_store(region, read_data=True).findings == []


USES: dict[str, Callable[[Region, str, Path], object]] = {
    "restore": lambda region, name, to: restore_snapshot(region, name, str(to / "restored")),
    "verify": lambda region, name, _: verify_snapshot(region, name),
    "diff": lambda region, name, _: list(diff_snapshots(region, name, name)),
    "open": lambda region, name, _: open_snapshot(region, name).__enter__(),
    "volume": lambda region, name, _: create_volume(region, VolumeOptions(snapshot=name)),
    "copy": lambda region, name, _: copy_snapshot(region, region, name),
    "share": lambda region, name, _: share_snapshot(region, name, Grantees.of([OTHER_ACCOUNT])),
    "archive again": lambda region, name, _: archive_snapshot(region, name),
}


@pytest.mark.parametrize("use", USES)
def test_an_archived_snapshot_cannot_be_used(use, region, taken, tmp_path):
    archive_snapshot(region, taken)
    with pytest.raises(SnapshotArchived, match="Restore it first"):
        USES[use](region, taken, tmp_path)


def test_the_direct_apis_refuse_an_archived_snapshot(region, tmp_path):
    disk = write_disk(tmp_path / "large.img", 1 << 20, {1: block_bytes(1)})
    taken = take(region, disk, replace(SMALL, block_size=512 * KIB))
    archive_snapshot(region, taken)
    with closing(BlockAccess(region)) as access, pytest.raises(SnapshotUnusable, match="Archived"):
        access.readable(region, SnapshotId(taken))


def test_an_archived_snapshot_is_tagged_shown_and_deleted(region, taken):
    archive_snapshot(region, taken)
    tag_snapshot(region, taken, {"kept": "yes"})
    assert dict(shown(region, taken).tags) == {"kept": "yes"}
    size = archive_packs(region)[0].stat().st_size
    assert plan_deletion_of(region, [taken]).freed_bytes == size

    freed = delete_snapshots(region, [taken])

    assert freed.freed_bytes >= size
    assert archive_packs(region) == []


def test_the_next_snapshot_of_the_volume_builds_on_one_that_is_not_archived(
    region, disk, taken, tmp_path
):
    change_disk(disk, {3: block_bytes(800)})
    newest = take(region, disk)
    archive_snapshot(region, newest)
    change_disk(disk, {4: block_bytes(801)})

    later = create_snapshot(region, str(disk), SMALL)

    assert (later.parent_id, later.changed_block_count) == (taken, 2)
    assert restored(region, later.snapshot_id, tmp_path) == disk.read_bytes()


def test_a_temporary_restore_ends_by_the_clock(region, disk, taken, tmp_path, clock):
    archive_snapshot(region, taken)
    back = unarchive_snapshot(region, taken, 2)
    assert back.storage_tier is StorageTier.STANDARD
    assert back.restore_expiry_time_ns == clock.now_ns() + 2 * DAY_SECONDS * 10**9
    assert restored(region, taken, tmp_path) == disk.read_bytes()
    clock.advance(2 * DAY_SECONDS - 1)
    recover(region)
    assert shown(region, taken).storage_tier is StorageTier.STANDARD
    clock.advance(1)
    with pytest.raises(SnapshotArchived):
        restored(region, taken, tmp_path)

    recover(region)

    assert tier_events(region) == [
        ("archiveSnapshot", "succeeded"),
        ("temporaryRestoreSnapshot", "succeeded"),
        ("restoreExpiry", "succeeded"),
    ]
    assert shown(region, taken).storage_tier is StorageTier.ARCHIVE
    assert store_stats(region).chunk_count == 0
    unarchive_snapshot(region, taken)
    assert restored(region, taken, tmp_path) == disk.read_bytes()
    assert archive_packs(region) == []


def test_a_temporary_restore_can_be_made_longer_or_permanent(region, disk, taken, tmp_path, clock):
    archive_snapshot(region, taken)
    unarchive_snapshot(region, taken, 1)
    longer = unarchive_snapshot(region, taken, 5)
    assert longer.restore_expiry_time_ns == clock.now_ns() + 5 * DAY_SECONDS * 10**9

    kept = unarchive_snapshot(region, taken)

    assert (kept.archive, kept.restore_expiry_time_ns) == (None, None)
    assert archive_packs(region) == []
    clock.advance(9 * DAY_SECONDS)
    recover(region)
    assert restored(region, taken, tmp_path) == disk.read_bytes()


@pytest.mark.parametrize("days", [0, -1, 36501])
def test_days_that_make_no_sense_are_refused(days, region, taken):
    archive_snapshot(region, taken)
    with pytest.raises(InvalidRequest, match=f"{days} days"):
        unarchive_snapshot(region, taken, days)


def test_what_is_not_archived_is_not_restored(region, taken):
    with pytest.raises(Conflict, match="not archived"):
        unarchive_snapshot(region, taken)


def test_what_is_restored_for_a_time_is_not_archived_again(region, taken):
    archive_snapshot(region, taken)
    unarchive_snapshot(region, taken, 1)
    with pytest.raises(Conflict, match="restored for a time"):
        archive_snapshot(region, taken)


def test_one_change_at_a_time(region, taken):
    archival = Archival(region, taken)
    with pytest.raises(Conflict, match="archival-in-progress"):
        archive_snapshot(region, taken)
    assert archival.run(Interference(0, lambda: None)).is_archived
    restoring = Unarchival(region, taken, 1)
    with pytest.raises(Conflict, match="temporary-restore-in-progress"):
        unarchive_snapshot(region, taken)
    assert not restoring.run(Interference(0, lambda: None)).is_archived


def test_another_account_can_neither_archive_nor_restore(region, taken):
    theirs = replace(region, account_id=OTHER_ACCOUNT)
    for verb in (archive_snapshot, unarchive_snapshot):
        with pytest.raises(SnapshotNotFound):
            verb(theirs, taken)


def test_an_archival_that_breaks_off_leaves_the_snapshot_as_it_was(region, disk, taken, tmp_path):
    with pytest.raises(Interrupted):
        archive_snapshot(region, taken, interruption(1))
    tiering = shown(region, taken).tiering
    assert tiering is not None
    assert tiering.status is TieringStatus.ARCHIVAL_FAILED
    assert restored(region, taken, tmp_path) == disk.read_bytes()
    assert archive_packs(region) == []
    assert tier_events(region) == [("archiveSnapshot", "failed")]
    assert archive_snapshot(region, taken).is_archived


def test_a_restore_that_breaks_off_leaves_the_snapshot_archived(region, disk, taken, tmp_path):
    archive_snapshot(region, taken)
    with pytest.raises(Interrupted):
        unarchive_snapshot(region, taken, None, interruption(2))
    left = shown(region, taken)
    assert left.is_archived
    assert left.tiering is not None
    assert left.tiering.status is TieringStatus.PERMANENT_RESTORE_FAILED
    assert store_stats(region).chunk_count == 0
    unarchive_snapshot(region, taken)
    assert restored(region, taken, tmp_path) == disk.read_bytes()


def test_what_is_deleted_while_it_is_archived_stays_deleted(region, taken):
    deleting = Interference(1, lambda: delete_snapshots(region, [taken]))
    with pytest.raises(SnapshotNotFound):
        archive_snapshot(region, taken, deleting)
    assert store_stats(region).snapshot_count == 0


def test_what_is_tagged_while_it_is_archived_stays_tagged(region, taken):
    tagging = Interference(1, lambda: tag_snapshot(region, taken, {"later": "yes"}))
    archive_snapshot(region, taken, tagging)
    assert dict(shown(region, taken).tags) == {"later": "yes"}


def test_the_archive_survives_the_loss_of_the_metadata(region, disk, tmp_path):
    with closing(open_region(region.home, "lost", ACCOUNT)) as lost:
        archived = archive_snapshot(lost, take(lost, disk))
        change_disk(disk, {3: block_bytes(800)})
        held = archive_snapshot(lost, take(lost, disk))
        held = unarchive_snapshot(lost, held.snapshot_id, 3)
        content = disk.read_bytes()

    report = rebuild_store(region.home, "lost")

    assert (report.snapshot_count, report.lost, report.complaints) == (2, [], [])
    with closing(open_region(region.home, "lost", ACCOUNT, create=False)) as again:
        assert shown(again, archived.snapshot_id) == archived
        assert shown(again, held.snapshot_id) == held
        assert restored(again, held.snapshot_id, tmp_path) == content
        unarchive_snapshot(again, archived.snapshot_id)
        assert check_store(again, read_data=True).findings == []
        assert complaints_about(again) == []


def test_a_flipped_bit_anywhere_in_an_archive_is_found(region, taken):
    """Some bits of each part: headers, payloads, footer, trailer."""
    archive_snapshot(region, taken)
    (pack,) = archive_packs(region)
    size = pack.stat().st_size
    for bit_index in range(5, 8 * size, 8 * size // 40):
        flip_bit(pack, bit_index)
        assert check_store(region, read_data=True).findings, f"bit {bit_index} of {8 * size}"
        flip_bit(pack, bit_index)
    assert check_store(region, read_data=True).findings == []


def test_a_damaged_block_of_an_archive_is_named_with_its_place(region, taken):
    archived = archive_snapshot(region, taken)
    assert archived.archive is not None
    reader = ArchiveReader(region.backend, archived.archive.pack_names())
    block = BlockMap(bytes.fromhex(archived.archive.root), StoredNodes(reader)).get(128)
    assert block is not None
    (found,) = reader.find([block.digest])
    assert found is not None
    (pack,) = archive_packs(region)
    bit_index = 8 * (found.location.offset + 70)
    flip_bit(pack, bit_index)

    report = check_store(region, read_data=True, repair=True)

    assert [str(one) for one in report.lost] == [f"{taken}, blocks 128"]
    assert report.has_damage_left, "an archive is not repaired"
    with pytest.raises(ChunkCorrupt):
        unarchive_snapshot(region, taken)
    assert shown(region, taken).is_archived
    flip_bit(pack, bit_index)
    unarchive_snapshot(region, taken)


def test_a_missing_archive_pack_costs_the_whole_snapshot(region, taken):
    archive_snapshot(region, taken)
    (pack,) = archive_packs(region)
    aside = pack.rename(region.path / "aside")
    report = check_store(region)
    assert [(one.snapshot_id, one.is_whole) for one in report.lost] == [(taken, True)]
    aside.rename(pack)


def test_packs_of_an_archive_that_nothing_names_are_put_aside(region, taken):
    archive_snapshot(region, taken)
    (pack,) = archive_packs(region)
    stray = pack.with_name(f"{'0' * 16}-000001.pack")
    stray.write_bytes(pack.read_bytes())
    report = check_store(region, repair=True)
    assert [finding.is_mended for finding in report.findings] == [True]
    assert (region.path / "quarantine" / stray.name).exists()
