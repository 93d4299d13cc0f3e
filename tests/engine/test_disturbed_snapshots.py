"""Snapshots that are interrupted, overtaken, lied to, or read from a disk that changes."""

from contextlib import suppress
from pathlib import Path

import pytest

from ebsim.chunkstore.chunk_index import find_node_rows, find_numbers
from ebsim.chunkstore.rows import encode_node_row, number_key
from ebsim.content.digest import block_digest
from ebsim.content.fingerprint import fingerprint
from ebsim.engine.compact_store import compact_store
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.list_snapshots import list_snapshots, show_snapshot
from ebsim.engine.list_volumes import list_volumes
from ebsim.engine.recovery import drop_interrupted_upload
from ebsim.engine.region import Region
from ebsim.engine.restore_snapshot import verify_snapshot
from ebsim.engine.tags import tag_snapshot
from ebsim.errors import ChunkCorrupt, Conflict, SourceUnusable
from ebsim.metadata.transactions import Reader, Table, Transaction
from tests.engine.interruptions import Interference, Interrupted, interruption
from tests.engine.stores import (
    BLOCK,
    SMALL,
    block_bytes,
    change_disk,
    open_store,
    restored,
    take,
    write_disk,
)

LEAVES = 10
BLOCKS = 128 * LEAVES


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Ten full leaves."""
    blocks = {index: block_bytes(index) for index in range(BLOCKS)}
    return write_disk(tmp_path / "disk.img", BLOCKS * BLOCK, blocks)


@pytest.fixture
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs of a leaf or so, so that leaves are committed on the way."""
    monkeypatch.setattr("ebsim.chunkstore.pack_writer.PACK_RECORDS_MAX", 130)


def interrupt(region: Region, disk: Path, leaf_count: int) -> None:
    with pytest.raises(Interrupted):
        create_snapshot(region, str(disk), SMALL, interruption(leaf_count))
    assert list_snapshots(region).snapshots == []


@pytest.mark.usefixtures("_small_packs")
def test_what_an_interrupted_snapshot_had_finished_is_not_stored_again(
    region: Region, disk: Path, tmp_path: Path
) -> None:
    interrupt(region, disk, 8)
    done = show_snapshot(region, take(region, disk))
    whole = open_store(tmp_path / "other")
    all_bytes = show_snapshot(whole, take(whole, disk)).stored_bytes
    whole.close()
    # At the very least the first three leaves were durable.
    assert done.stored_bytes < 0.7 * all_bytes
    assert (done.block_count, done.changed_block_count) == (BLOCKS, BLOCKS)
    assert restored(region, done.snapshot_id, tmp_path) == disk.read_bytes()


@pytest.mark.usefixtures("_small_packs")
def test_a_disk_that_changed_after_the_interruption_is_snapshotted_as_it_is(
    region: Region, disk: Path, tmp_path: Path
) -> None:
    interrupt(region, disk, 8)
    change_disk(disk, {3: block_bytes(9000), 130: bytes(BLOCK)})
    done = take(region, disk)
    assert restored(region, done, tmp_path) == disk.read_bytes()
    assert show_snapshot(region, done).block_count == BLOCKS - 1


@pytest.mark.usefixtures("_small_packs")
def test_a_snapshot_that_is_overtaken_does_not_lose_the_leaves_it_goes_on_from(
    region: Region, disk: Path, tmp_path: Path
) -> None:
    """Two snapshots of one volume after an interruption: the second ends first."""
    interrupt(region, disk, 8)
    overtaking: list[str] = []
    other = open_store(region.home)

    def overtake() -> None:
        overtaking.append(take(other, disk))
        delete_snapshots(other, overtaking)

    done = create_snapshot(region, str(disk), SMALL, Interference(0, overtake))
    other.close()
    assert overtaking
    assert restored(region, done.snapshot_id, tmp_path) == disk.read_bytes()


def test_chunks_deleted_while_a_snapshot_relies_on_them_are_stored_again(
    region: Region, disk: Path, tmp_path: Path
) -> None:
    first = take(region, disk)
    twin = write_disk(tmp_path / "twin.img", BLOCKS * BLOCK, {})
    twin.write_bytes(disk.read_bytes())
    other = open_store(region.home)
    deleting = Interference(LEAVES, lambda: delete_snapshots(other, [first]) and None)
    done = create_snapshot(region, str(twin), SMALL, deleting)
    other.close()
    assert restored(region, done.snapshot_id, tmp_path) == twin.read_bytes()


def test_a_parent_deleted_meanwhile_is_still_read(
    region: Region, disk: Path, tmp_path: Path
) -> None:
    first = take(region, disk)
    change_disk(disk, {7: block_bytes(7777)})
    other = open_store(region.home)
    deleting = Interference(1, lambda: delete_snapshots(other, [first]) and None)
    done = create_snapshot(region, str(disk), SMALL, deleting)
    other.close()
    assert done.changed_block_count == 1
    assert restored(region, done.snapshot_id, tmp_path) == disk.read_bytes()


def test_a_disk_that_changes_while_it_is_read_is_reported(region: Region, disk: Path) -> None:
    writing = Interference(1, lambda: change_disk(disk, {0: block_bytes(5)}))
    done = create_snapshot(region, str(disk), SMALL, writing)
    assert "changed" in done.state_message or "written" in done.state_message
    assert show_snapshot(region, done.snapshot_id).state_message == done.state_message
    assert show_snapshot(region, take(region, disk)).state_message == ""


def test_a_disk_that_shrinks_while_it_is_read_makes_no_snapshot(
    region: Region, disk: Path
) -> None:
    def shrink() -> None:
        with disk.open("r+b") as file:
            file.truncate(BLOCK)

    with pytest.raises(SourceUnusable):
        create_snapshot(region, str(disk), SMALL, Interference(1, shrink))
    assert list_snapshots(region).snapshots == []


def leaf_numbers(region: Region) -> list[int]:
    """The chunk numbers of the nodes that have fingerprints."""

    def look(reader: Reader) -> list[int]:
        numbers = [int.from_bytes(key, "big") for key, _ in reader.scan(Table.NODES, limit=1000)]
        rows = find_node_rows(reader, numbers)
        return [n for n, row in zip(numbers, rows, strict=True) if row and row.fingerprints]

    return region.metadata.read(look)


def make_fingerprints_lie(region: Region, disk: Path) -> None:
    """Give every block of *disk*'s one snapshot the fingerprint of what is there now."""
    data = disk.read_bytes()
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    old = {}
    for index, block in enumerate(blocks):
        old[block_digest(block_bytes(index))] = fingerprint(block, region.seed)

    numbers = leaf_numbers(region)

    def forge(txn: Transaction) -> None:
        by_number = {
            number: old[digest] for digest, number in find_numbers(txn, old.keys()).items()
        }
        for number in numbers:
            (row,) = find_node_rows(txn, [number])
            assert row is not None
            marks = b"".join(by_number[child] for child in row.children)
            forged = type(row)(row.kind, row.bitmap, row.children, marks)
            txn.put_many(Table.NODES, [(number_key(number), encode_node_row(forged))])

    region.metadata.run(forge)


def test_a_fingerprint_that_lies_is_caught_and_every_block_compared(
    region: Region, disk: Path, tmp_path: Path
) -> None:
    """Every block changes under its old fingerprint: one in 256 of 1280 is sampled."""
    take(region, disk)
    change_disk(disk, {index: block_bytes(index + 5000) for index in range(BLOCKS)})
    make_fingerprints_lie(region, disk)
    done = show_snapshot(region, take(region, disk))
    assert "had changed under the fingerprint" in done.state_message
    assert restored(region, done.snapshot_id, tmp_path) == disk.read_bytes()


def test_rehash_believes_no_fingerprint(region: Region, disk: Path, tmp_path: Path) -> None:
    take(region, disk)
    change_disk(disk, {4: block_bytes(5000)})
    make_fingerprints_lie(region, disk)
    options = type(SMALL)(block_size=BLOCK, thread_count=1, rehash=True)
    done = create_snapshot(region, str(disk), options)
    assert (done.changed_block_count, done.state_message) == (1, "")
    assert restored(region, done.snapshot_id, tmp_path) == disk.read_bytes()


def damage(region: Region, block: bytes) -> int:
    """Spoil the record of *block* in its pack; return its chunk number."""
    (found,) = region.chunks.find([block_digest(block)])
    assert found is not None
    path = region.path / found.pack_name
    with path.open("r+b") as file:
        file.seek(found.location.offset + 64 + found.location.payload_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    return found.number


@pytest.mark.parametrize("is_other_volume", [False, True])
def test_a_chunk_known_to_be_damaged_is_healed_by_a_snapshot_that_has_it(
    region: Region, disk: Path, tmp_path: Path, is_other_volume: bool
) -> None:
    first = take(region, disk)
    number = damage(region, block_bytes(77))
    with pytest.raises(ChunkCorrupt):
        restored(region, first, tmp_path)
    assert verify_snapshot(region, first).damaged_count == 1
    row = (number_key(number), b"a flipped bit")
    region.metadata.run(lambda txn: txn.put_many(Table.DAMAGED, [row]))
    if is_other_volume:
        disk = write_disk(tmp_path / "other.img", 9 * BLOCK, {4: block_bytes(77)})
    take(region, disk)
    assert verify_snapshot(region, first).damaged_count == 0
    assert restored(region, first, tmp_path)[77 * BLOCK :][:BLOCK] == block_bytes(77)


@pytest.mark.usefixtures("_small_packs")
def test_a_snapshot_interrupted_twice_goes_on_from_the_second_time(
    region: Region, disk: Path, tmp_path: Path
) -> None:
    interrupt(region, disk, 4)
    interrupt(region, disk, 9)
    done = show_snapshot(region, take(region, disk))
    assert done.stored_bytes < 0.7 * done.referenced_bytes
    assert restored(region, done.snapshot_id, tmp_path) == disk.read_bytes()


@pytest.mark.usefixtures("_small_packs")
def test_an_upload_that_a_snapshot_goes_on_from_is_not_let_go_by_others(
    region: Region, disk: Path, tmp_path: Path
) -> None:
    interrupt(region, disk, 8)
    other = open_store(region.home)
    volume_id = list_volumes(region)[0].volume_id

    def let_go() -> None:
        drop_interrupted_upload(other, volume_id)
        compact_store(other)

    done = create_snapshot(region, str(disk), SMALL, Interference(0, let_go))
    other.close()
    assert restored(region, done.snapshot_id, tmp_path) == disk.read_bytes()


def test_tags_set_while_a_snapshot_is_taken_are_refused_or_kept(
    region: Region, disk: Path
) -> None:
    other = open_store(region.home)
    kept: dict[str, str] = {}

    def tag_it() -> None:
        (pending,) = list_snapshots(other).snapshots
        with suppress(Conflict):
            kept.update(tag_snapshot(other, pending.snapshot_id, {"colour": "green"}).tags)

    done = create_snapshot(region, str(disk), SMALL, Interference(1, tag_it))
    other.close()
    assert show_snapshot(region, done.snapshot_id).tags == kept
