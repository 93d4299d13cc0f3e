"""``check_store`` on stores with nothing wrong, and with each thing wrong that it knows."""

from array import array
from pathlib import Path

import pytest

from ebsim.chunkstore.pack_format import HEADER_SIZE, Kind
from ebsim.chunkstore.pack_scan import read_pack
from ebsim.chunkstore.rows import decode_node_row, encode_node_row
from ebsim.engine.check_report import BlockRange, FindingKind
from ebsim.engine.check_store import check_store
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.errors import ChunkCorrupt, ChunkMissing
from ebsim.metadata.transactions import Table, Transaction
from tests.engine.damaged_stores import (
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


def expect_whole(store: Store) -> None:
    """Every snapshot restores byte for byte, and a check finds nothing."""
    with store.open() as region:
        report = check_store(region, read_data=True)
        assert not report.findings
        for snapshot_id, data in store.taken.items():
            assert store.restored(region, snapshot_id) == data


def test_a_sound_store_has_no_findings_and_everything_was_counted(store: Store) -> None:
    three_snapshots(store)
    with store.open() as region:
        report = check_store(region, read_data=True)
    assert not report.findings
    assert report.checked.snapshot_count == 3
    assert report.checked.pack_count == len(store.packs())
    assert report.checked.chunk_count == 302 + report.checked.node_count
    assert report.checked.node_count == 3 + 1 + 2 + 2
    assert report.checked.read_bytes > 300 * 2048


def test_a_store_after_deletions_has_no_findings(store: Store) -> None:
    snapshots = three_snapshots(store)
    with store.open() as region:
        delete_snapshots(region, [snapshots[1].snapshot_id])
    del store.taken[snapshots[1].snapshot_id]
    expect_whole(store)


def test_a_region_without_snapshots_has_no_findings(store: Store) -> None:
    with store.open() as region:
        assert not check_store(region, read_data=True).findings


def test_a_lost_pack_is_named_with_its_snapshots_and_blocks(store: Store) -> None:
    snapshots = three_snapshots(store)
    first = next(p for p in store.packs() if p.stat().st_size > 100_000)
    first.unlink()
    with store.open() as region:
        report = check_store(region)
        (finding,) = [f for f in report.findings if f.kind is FindingKind.PACK]
        assert finding.where == f"packs/{first.name}"
        affected = {one.snapshot_id: one for one in report.lost}
        assert set(affected) == {snapshot.snapshot_id for snapshot in snapshots}
        assert affected[snapshots[0].snapshot_id].ranges[0].start == 0
        with pytest.raises((ChunkCorrupt, ChunkMissing)):
            store.restored(region, snapshots[0].snapshot_id)


def test_a_damaged_block_is_named_with_its_snapshots_and_blocks(store: Store) -> None:
    snapshots = three_snapshots(store)
    # The second snapshot's pack begins with the one block that it changed.
    small = [p for p in store.packs() if p.stat().st_size < 100_000]
    found = {}
    for pack in small:
        flip_bit(pack, 100 * 8)
        with store.open() as region:
            report = check_store(region, read_data=True)
        flip_bit(pack, 100 * 8)
        (finding,) = report.findings
        assert finding.kind is FindingKind.CHUNK
        (start, stop) = finding.affects[0].ranges[0]
        found[start] = {one.snapshot_id for one in finding.affects}
        assert stop == start + 1
    first, second, third = (snapshot.snapshot_id for snapshot in snapshots)
    assert found == {5: {second, third}, 290: {third}}
    assert first not in found[5]


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        (Table.CHUNKS, FindingKind.INDEX),
        (Table.NODES, FindingKind.NODE),
        (Table.COUNTS, FindingKind.COUNT),
        (Table.PACKS, FindingKind.INDEX),
        (Table.SNAPSHOTS, FindingKind.SNAPSHOT),
        (Table.SNAPSHOTS_BY_TIME, FindingKind.SNAPSHOT),
        (Table.SNAPSHOTS_BY_VOLUME, FindingKind.SNAPSHOT),
        (Table.SNAPSHOTS_BY_TERM, FindingKind.SNAPSHOT),
        (Table.VOLUMES, FindingKind.SNAPSHOT),
        (Table.VOLUMES_BY_SOURCE, FindingKind.SNAPSHOT),
        (Table.HOLDS, FindingKind.SNAPSHOT),
    ],
)
def test_a_lost_table_is_found_and_brought_back(
    store: Store, table: Table, kind: FindingKind
) -> None:
    three_snapshots(store)
    store.drop_rows(table)
    with store.open() as region:
        report = check_store(region)
        assert kind in {finding.kind for finding in report.findings}
        mended = check_store(region, repair=True)
        assert not mended.has_damage_left, [f for f in mended.findings if not f.is_mended]
    expect_whole(store)


@pytest.mark.parametrize("change", [-1, 1, 1000])
def test_a_drifted_count_is_found_and_corrected(store: Store, change: int) -> None:
    three_snapshots(store)

    def drift(txn: Transaction) -> None:
        ((key, value),) = txn.scan(Table.COUNTS, limit=1)
        page = array("I", value)
        page[17] += change
        txn.put_many(Table.COUNTS, [(key, page.tobytes())])

    store.change(drift)
    with store.open() as region:
        (finding,) = check_store(region, repair=True).findings
    assert (finding.kind, finding.where, finding.is_mended) == (
        FindingKind.COUNT,
        "chunk 17",
        True,
    )
    expect_whole(store)


def test_a_wrong_edge_is_found_and_written_again(store: Store) -> None:
    three_snapshots(store)

    def swap(txn: Transaction) -> None:
        ((key, value),) = txn.scan(Table.NODES, limit=1)
        row = decode_node_row(value)
        row.children[0], row.children[1] = row.children[1], row.children[0]
        txn.put_many(Table.NODES, [(key, encode_node_row(row))])

    store.change(swap)
    with store.open() as region:
        report = check_store(region, repair=True)
    assert [finding.kind for finding in report.findings] == [FindingKind.NODE]
    assert not report.has_damage_left
    expect_whole(store)


def test_a_deleted_manifest_is_written_again(store: Store) -> None:
    three_snapshots(store)
    lost = store.manifests()[1]
    before = lost.read_bytes()
    lost.unlink()
    with store.open() as region:
        (finding,) = check_store(region, repair=True).findings
    assert finding.kind is FindingKind.MANIFEST
    assert finding.is_mended
    assert lost.read_bytes() == before


def test_a_pack_that_belongs_to_nothing_is_found_and_removed(store: Store) -> None:
    three_snapshots(store)
    orphan = store.path / "packs" / "0123456789abcdef-000001.pack"
    orphan.write_bytes(store.packs()[0].read_bytes())
    with store.open() as region:
        (finding,) = check_store(region, repair=True).findings
    assert finding.kind is FindingKind.ORPHAN
    assert not orphan.exists()
    expect_whole(store)


def test_a_file_that_ebsim_did_not_write_is_noted_and_left_alone(store: Store) -> None:
    three_snapshots(store)
    strange = store.path / "packs" / "readme.txt"
    strange.write_text("mine")
    with store.open() as region:
        report = check_store(region, repair=True)
    assert not report.findings
    assert any("readme.txt" in note for note in report.notes)
    assert strange.exists()


def test_a_damaged_footer_costs_nothing_and_the_pack_is_set_aside(store: Store) -> None:
    three_snapshots(store)
    pack = store.packs()[0]
    flip_bit(pack, (pack.stat().st_size - 60) * 8)
    with store.open() as region:
        report = check_store(region, repair=True)
    assert [finding.kind for finding in report.findings] == [FindingKind.PACK]
    assert not report.has_damage_left
    assert (store.path / "quarantine" / pack.name).exists()
    expect_whole(store)


def test_a_damaged_block_is_healed_from_the_disk_it_was_read_from(store: Store) -> None:
    store.take(random_blocks(1, 40))
    flip_bit(store.packs()[0], 1000 * 8)
    with store.open() as region:
        report = check_store(region, read_data=True, repair=True)
    assert report.findings
    assert not report.has_damage_left
    expect_whole(store)


def test_a_damaged_block_is_healed_by_another_region(store: Store) -> None:
    data = random_blocks(1, 40)
    store.take(data)
    store.take(data, name="eu-west-1")
    store.disk.unlink()
    flip_bit(store.packs()[0], 1000 * 8)
    with store.open() as region:
        report = check_store(region, read_data=True, repair=True)
    assert report.findings
    assert not report.has_damage_left
    expect_whole(store)


def test_what_cannot_be_healed_is_healed_by_a_later_snapshot(store: Store) -> None:
    data = random_blocks(1, 40)
    (snapshot,) = [store.take(data)]
    flip_bit(store.packs()[0], 1000 * 8)
    store.disk.unlink()
    with store.open() as region:
        report = check_store(region, read_data=True, repair=True)
        assert report.has_damage_left
        (lost,) = report.lost
        assert lost.snapshot_id == snapshot.snapshot_id
        assert isinstance(lost.ranges[0], BlockRange)
        assert check_store(region).has_damage_left, "what is known as damaged is said again"
    store.take(data)
    expect_whole(store)


def test_a_known_damage_that_was_none_is_forgotten(store: Store) -> None:
    store.take(random_blocks(1, 40))
    store.change(lambda txn: txn.put_many(Table.DAMAGED, [((3).to_bytes(8, "big"), b"a lie")]))
    with store.open() as region:
        assert not check_store(region).findings
        check_store(region, repair=True)
        assert region.metadata.read(lambda reader: reader.scan(Table.DAMAGED, limit=1)) == []


def test_a_check_of_changed_blocks_finds_nothing_while_snapshots_come_and_go(
    store: Store,
) -> None:
    data = random_blocks(1, 200)
    for round_index in range(6):
        data = with_block(data, round_index * 30, 50 + round_index)
        snapshot = store.take(data)
        if round_index % 2:
            with store.open() as region:
                delete_snapshots(region, [snapshot.snapshot_id])
            del store.taken[snapshot.snapshot_id]
    expect_whole(store)


@pytest.mark.parametrize("kind", [Kind.LEAF, Kind.INNER])
def test_damaged_nodes_are_made_again_from_their_rows(store: Store, kind: Kind) -> None:
    """Leaves of one generation, leaves of several, and inner nodes; the disk is gone."""
    three_snapshots(store)
    store.disk.unlink()
    count = 0
    for pack in store.packs():
        with store.open() as region:
            records = read_pack(region.backend, f"packs/{pack.name}").records
        for record in records:
            if record.kind == kind:
                flip_bit(pack, (record.offset + HEADER_SIZE + 30) * 8)
                count += 1
    with store.open() as region:
        report = check_store(region, repair=True)
        assert len(report.findings) == count
        assert not report.has_damage_left
    expect_whole(store)
