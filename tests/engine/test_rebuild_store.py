"""``rebuild_store``: everything back from packs and manifests, whatever became of the rest."""

import shutil
from pathlib import Path

import pytest

from ebsim.catalog.records import scan_volumes
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.snapshot_index import of_owner, read_streams
from ebsim.catalog.volume import Volume
from ebsim.engine.check_store import check_store
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.recovery import recover
from ebsim.errors import ChunkCorrupt, ChunkMissing, Conflict, MetadataCorrupt, NotFound
from ebsim.metadata.transactions import Table
from tests.engine.damaged_stores import (
    ACCOUNT,
    REGION_NAME,
    Store,
    flip_bit,
    make_store,
    random_blocks,
    three_snapshots,
    with_block,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path)


def catalog(store: Store) -> tuple[list[Snapshot], list[Volume]]:
    with store.open() as region:
        snapshots = region.metadata.read(
            lambda reader: read_streams(reader, [of_owner(ACCOUNT)], b"", 1000)
        )
        volumes = region.metadata.read(lambda reader: scan_volumes(reader, ACCOUNT))
    return [snapshot for _, snapshot in snapshots if snapshot is not None], volumes


def expect_whole(store: Store) -> None:
    """Every snapshot restores byte for byte, and a check finds nothing."""
    with store.open() as region:
        assert not check_store(region, read_data=True).findings
        for snapshot_id, data in store.taken.items():
            assert store.restored(region, snapshot_id) == data


def test_a_lost_metadata_directory_comes_back_with_every_snapshot_tag_and_time(
    store: Store,
) -> None:
    three_snapshots(store)
    before = catalog(store)
    shutil.rmtree(store.path / "metadata")
    report = rebuild_store(store.home, REGION_NAME)
    assert report.snapshot_count == 3
    assert not report.lost
    assert not report.complaints
    assert catalog(store) == before
    expect_whole(store)


def test_a_rebuild_of_a_sound_store_changes_nothing_and_keeps_the_old_metadata(
    store: Store,
) -> None:
    three_snapshots(store)
    before = catalog(store)
    for count in (1, 2):
        report = rebuild_store(store.home, REGION_NAME)
        assert report.set_aside == store.path / f"metadata.old-{count}"
        assert (report.set_aside / "data.mdb").exists()
    assert catalog(store) == before
    expect_whole(store)


def test_what_was_deleted_stays_deleted(store: Store) -> None:
    snapshots = three_snapshots(store)
    with store.open() as region:
        delete_snapshots(region, [snapshots[0].snapshot_id])
    del store.taken[snapshots[0].snapshot_id]
    report = rebuild_store(store.home, REGION_NAME)
    assert report.snapshot_count == 2
    expect_whole(store)


def test_snapshots_go_on_after_a_rebuild_and_share_what_is_there(store: Store) -> None:
    snapshots = three_snapshots(store)
    rebuild_store(store.home, REGION_NAME)
    data = with_block(store.taken[snapshots[2].snapshot_id], 100, 9)
    taken = store.take(data)
    assert taken.parent_id == snapshots[2].snapshot_id
    assert taken.changed_block_count == 1
    assert taken.generation > snapshots[2].generation
    expect_whole(store)


def test_a_snapshot_of_an_unchanged_disk_regains_the_fingerprints(store: Store) -> None:
    snapshots = three_snapshots(store)
    rebuild_store(store.home, REGION_NAME)
    again = store.take(store.taken[snapshots[2].snapshot_id])
    assert again.root == snapshots[2].root
    expect_whole(store)


def test_opening_a_region_whose_metadata_is_gone_is_refused_and_creates_nothing(
    store: Store,
) -> None:
    three_snapshots(store)
    shutil.rmtree(store.path / "metadata")
    with pytest.raises(MetadataCorrupt, match="store rebuild"), store.open():
        pass
    assert not (store.path / "metadata").exists()


def test_opening_a_region_whose_metadata_is_empty_is_refused(store: Store) -> None:
    three_snapshots(store)
    shutil.rmtree(store.path / "metadata")
    with make_store(store.home.parent / "other").open() as other:
        empty = other.path / "metadata"
        other.metadata.run(
            lambda txn: [
                txn.delete_many(table, [key for key, _ in txn.scan(table, limit=100)])
                for table in Table
            ]
        )
    shutil.copytree(empty, store.path / "metadata")
    with pytest.raises(MetadataCorrupt, match="store rebuild"), store.open():
        pass


def test_a_live_session_refuses_the_rebuild_and_a_rebuild_the_session(store: Store) -> None:
    three_snapshots(store)
    with store.open() as region:
        with region.session(), pytest.raises(Conflict, match="at work"):
            rebuild_store(store.home, REGION_NAME)
        with (
            region.sessions.shut_out(),
            pytest.raises(Conflict, match="being rebuilt"),
            region.session(),
        ):
            pass
    expect_whole(store)


def test_a_region_opened_before_a_rebuild_writes_no_more(store: Store) -> None:
    three_snapshots(store)
    with store.open() as region:
        rebuild_store(store.home, REGION_NAME)
        with pytest.raises(Conflict, match="rebuilt"), region.session():
            pass


def test_a_rebuild_that_was_cut_off_is_begun_again(store: Store) -> None:
    three_snapshots(store)
    before = catalog(store)
    left = store.path / "metadata.new"
    left.mkdir()
    (left / "data.mdb").write_bytes(b"half a rebuild")
    (store.path / "metadata").rename(store.path / "metadata.old-1")
    report = rebuild_store(store.home, REGION_NAME)
    assert report.set_aside is None
    assert catalog(store) == before
    expect_whole(store)


def test_a_region_that_does_not_exist_is_refused(store: Store) -> None:
    three_snapshots(store)
    with pytest.raises(NotFound, match="mars"):
        rebuild_store(store.home, "mars")


def test_damaged_footers_do_not_matter(store: Store) -> None:
    three_snapshots(store)
    for pack in store.packs():
        flip_bit(pack, (pack.stat().st_size - 60) * 8)
    report = rebuild_store(store.home, REGION_NAME)
    assert len(report.complaints) == len(store.packs())
    assert not report.lost
    with store.open() as region:
        assert not check_store(region, read_data=True, repair=True).has_damage_left
    expect_whole(store)


def test_a_lost_pack_costs_its_blocks_and_no_others(store: Store) -> None:
    snapshots = three_snapshots(store)
    changed = [p for p in store.packs() if p.stat().st_size < 100_000]
    third = snapshots[2].snapshot_id
    first = snapshots[0].snapshot_id
    for pack in changed:
        pack.unlink()
    report = rebuild_store(store.home, REGION_NAME)
    assert third in {one.snapshot_id for one in report.lost}
    assert first not in {one.snapshot_id for one in report.lost}
    with store.open() as region:
        assert store.restored(region, first) == store.taken[first]


def test_a_lost_pack_of_blocks_is_healed_by_a_later_snapshot(store: Store) -> None:
    data = random_blocks(1, 300)
    store.take(data)
    pack = store.packs()[0]
    flip_bit(pack, 20)  # In the first record's header: with the footer hit too it is lost.
    flip_bit(pack, (pack.stat().st_size - 60) * 8)
    report = rebuild_store(store.home, REGION_NAME)
    (lost,) = report.lost
    assert [tuple(one) for one in lost.ranges] == [(0, 1)]
    with store.open() as region, pytest.raises((ChunkMissing, ChunkCorrupt)):
        store.restored(region, lost.snapshot_id)
    store.take(data)
    with store.open() as region:
        assert store.restored(region, lost.snapshot_id) == data
        assert not check_store(region, repair=True).has_damage_left
    expect_whole(store)


def test_one_flipped_bit_in_a_manifest_is_undone(store: Store) -> None:
    three_snapshots(store)
    before = catalog(store)
    flip_bit(store.manifests()[0], 1234)
    report = rebuild_store(store.home, REGION_NAME)
    assert report.snapshot_count == 3
    assert catalog(store) == before
    expect_whole(store)


def test_while_a_manifest_is_unreadable_nothing_is_freed(store: Store) -> None:
    three_snapshots(store)
    whole = store.manifests()[0].read_bytes()
    store.manifests()[0].write_bytes(whole[: len(whole) // 2])
    report = rebuild_store(store.home, REGION_NAME)
    assert report.snapshot_count == 2
    assert report.freed_count == 0
    with store.open() as region:
        assert check_store(region, repair=True).has_damage_left
    store.manifests()[0].write_bytes(whole)
    with store.open() as region:
        assert not check_store(region, repair=True).has_damage_left
    expect_whole(store)


def test_who_has_the_old_metadata_open_clears_nothing_up_by_it(store: Store) -> None:
    """By the old metadata, what was taken since the rebuild is nobody's."""
    three_snapshots(store)
    with store.open() as old:
        rebuild_store(store.home, REGION_NAME)
        store.take(random_blocks(77, 3))
        packs = store.packs()
        with store.open() as new:
            new.open_session().abandon()
        with pytest.raises(Conflict, match="rebuilt"):
            recover(old)
        assert store.packs() == packs
    with store.open() as region:
        assert len(recover(region)) == 1
    expect_whole(store)
