"""Taking snapshots of small disks: what is stored, what is counted, what is refused."""

import io
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebsim.catalog.snapshot import Snapshot
from ebsim.clock import ManualClock
from ebsim.engine.create_snapshot import create_snapshot, create_snapshot_of_stream
from ebsim.engine.list_snapshots import show_snapshot
from ebsim.engine.list_volumes import list_volumes
from ebsim.engine.region import Region
from ebsim.engine.restore_snapshot import restore_snapshot
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.errors import InvalidRequest, SourceUnusable, VolumeNotFound
from ebsim.sources.standard_input import StandardInput
from tests.crash.recorded_store import quick_directory
from tests.engine.stores import (
    BLOCK,
    KIB,
    MIB,
    SMALL,
    block_bytes,
    change_disk,
    open_store,
    restored,
    take,
    write_disk,
)

GIB = 1 << 30
PLAIN = SnapshotOptions(thread_count=1)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """300 blocks of 4 KiB, three of them data, in two leaves."""
    blocks = {0: block_bytes(1), 5: block_bytes(2), 200: block_bytes(3)}
    return write_disk(tmp_path / "disk.img", 300 * BLOCK, blocks)


def snapshot(region: Region, disk: Path, options: SnapshotOptions = SMALL) -> Snapshot:
    return create_snapshot(region, str(disk), options)


def test_the_first_snapshot_holds_every_block_that_is_not_zeros(
    region: Region, disk: Path, clock: ManualClock
) -> None:
    found = snapshot(region, disk, replace(SMALL, description="d", tags={"k": "v"}))
    assert (found.block_count, found.changed_block_count) == (3, 3)
    assert (found.size_bytes, found.block_size) == (300 * BLOCK, BLOCK)
    assert (found.parent_id, found.description, found.tags) == (None, "d", {"k": "v"})
    assert (found.start_time_ns, found.completion_time_ns) == (clock.now_ns(), clock.now_ns())
    assert show_snapshot(region, found.snapshot_id) == found


def test_an_unchanged_disk_stores_nothing(region: Region, disk: Path) -> None:
    first, second = snapshot(region, disk), snapshot(region, disk)
    assert (second.stored_bytes, second.changed_block_count) == (0, 0)
    assert (second.root, second.parent_id) == (first.root, first.snapshot_id)
    assert second.referenced_bytes == first.referenced_bytes


def test_a_changed_block_stores_itself_and_its_path(
    region: Region, disk: Path, tmp_path: Path
) -> None:
    first = snapshot(region, disk)
    change_disk(disk, {5: block_bytes(99)})
    second = snapshot(region, disk)
    assert (second.changed_block_count, second.block_count) == (1, 3)
    # A record of half a block, and two nodes that are far smaller.
    assert BLOCK // 2 < second.stored_bytes < BLOCK
    assert restored(region, second.snapshot_id, tmp_path) == disk.read_bytes()
    assert first.root != second.root


def test_a_block_that_becomes_zeros_is_absent(region: Region, disk: Path, tmp_path: Path) -> None:
    snapshot(region, disk)
    change_disk(disk, {5: bytes(BLOCK), 0: bytes(BLOCK)})
    second = snapshot(region, disk)
    assert (second.block_count, second.changed_block_count) == (1, 2)
    assert restored(region, second.snapshot_id, tmp_path) == disk.read_bytes()


def test_a_punched_block_is_absent_without_being_read(region: Region, disk: Path) -> None:
    snapshot(region, disk)
    write_disk(disk, 300 * BLOCK, {0: block_bytes(1)})
    second = snapshot(region, disk)
    assert (second.block_count, second.changed_block_count) == (1, 2)


def test_a_disk_of_zeros_has_no_block(region: Region, tmp_path: Path) -> None:
    disk = tmp_path / "zeros.img"
    disk.write_bytes(bytes(5 * BLOCK))
    found = snapshot(region, disk)
    assert found.block_count == 0
    assert restored(region, found.snapshot_id, tmp_path) == bytes(5 * BLOCK)
    change_disk(disk, {1: block_bytes(1)})
    snapshot(region, disk)
    change_disk(disk, {1: bytes(BLOCK)})
    assert snapshot(region, disk).root == found.root


@pytest.mark.parametrize(
    "size_bytes", [1, 511, BLOCK - 1, BLOCK + 1, 128 * BLOCK, 300 * BLOCK - 7]
)
def test_an_odd_size_is_kept_to_the_byte(region: Region, tmp_path: Path, size_bytes: int) -> None:
    disk = tmp_path / "odd.img"
    disk.write_bytes(Random(size_bytes).randbytes(size_bytes))
    found = snapshot(region, disk)
    assert (found.size_bytes, found.volume_size_gib) == (size_bytes, 1)
    assert restored(region, found.snapshot_id, tmp_path) == disk.read_bytes()


def test_the_volume_size_is_rounded_up_to_a_gib(region: Region, tmp_path: Path) -> None:
    for size_bytes, gib in ((GIB, 1), (GIB + 1, 2), (3 * GIB - 1, 3)):
        disk = write_disk(tmp_path / f"{size_bytes}.img", size_bytes, {0: b"x" * 512})
        assert snapshot(region, disk, PLAIN).volume_size_gib == gib


@pytest.mark.parametrize("size_blocks", [1, 6, 127, 128, 129, 301, 128 * 128 + 1])
def test_a_disk_that_shrank_or_grew_is_restored_at_its_new_length(
    region: Region, disk: Path, tmp_path: Path, size_blocks: int
) -> None:
    snapshot(region, disk)
    with disk.open("r+b") as file:
        file.truncate(size_blocks * BLOCK + 3)
    found = snapshot(region, disk)
    assert restored(region, found.snapshot_id, tmp_path) == disk.read_bytes()


def test_equal_blocks_are_stored_once_within_a_disk_and_across_disks(
    region: Region, tmp_path: Path
) -> None:
    same = block_bytes(7)
    one = write_disk(tmp_path / "one.img", 40 * BLOCK, dict.fromkeys(range(40), same))
    first = snapshot(region, one)
    assert first.block_count == 40
    assert first.stored_bytes < 2 * BLOCK
    assert first.referenced_bytes > 20 * BLOCK
    other = write_disk(tmp_path / "other.img", 50 * BLOCK, {45: same})
    # The node differs, the block is there.
    assert snapshot(region, other).stored_bytes < BLOCK // 4


def test_blocks_of_512_kib_are_the_default(region: Region, tmp_path: Path) -> None:
    disk = tmp_path / "plain.img"
    disk.write_bytes(Random(1).randbytes(3 * MIB + 100))
    found = snapshot(region, disk, PLAIN)
    assert (found.block_size, found.block_count) == (512 * KIB, 7)
    assert restored(region, found.snapshot_id, tmp_path) == disk.read_bytes()


def test_a_volume_keeps_the_block_size_of_its_first_snapshot(region: Region, disk: Path) -> None:
    snapshot(region, disk)
    assert snapshot(region, disk, PLAIN).block_size == BLOCK
    with pytest.raises(InvalidRequest, match=r"has blocks of 4\.00 KiB, not 8\.00 KiB"):
        snapshot(region, disk, SnapshotOptions(block_size=8 * KIB))


@pytest.mark.parametrize("block_size", [0, -4096, 2048, 5000, 8 * MIB])
def test_a_block_size_that_is_none_is_refused(region: Region, disk: Path, block_size: int) -> None:
    with pytest.raises(InvalidRequest, match="power of two from 4 KiB to 4 MiB"):
        snapshot(region, disk, SnapshotOptions(block_size=block_size))
    assert list_volumes(region) == []


@pytest.mark.parametrize(
    "options",
    [
        SnapshotOptions(description="d" * 256),
        SnapshotOptions(tags={"k" * 128: ""}),
        SnapshotOptions(tags={"": ""}),
        SnapshotOptions(tags={"k": "v" * 256}),
        SnapshotOptions(tags={"AWS:k": "v"}),
        SnapshotOptions(tags={str(number): "" for number in range(51)}),
    ],
)
def test_what_amazon_refuses_is_refused_before_anything_is_read(
    region: Region, options: SnapshotOptions
) -> None:
    with pytest.raises(InvalidRequest, match=r"Nothing was changed|expected at most"):
        create_snapshot(region, "/nowhere", options)


def test_a_snapshot_by_volume_id_reads_the_volume_s_file(region: Region, disk: Path) -> None:
    first = snapshot(region, disk)
    second = create_snapshot(region, first.volume_id, SMALL)
    assert (second.parent_id, second.root) == (first.snapshot_id, first.root)
    with pytest.raises(VolumeNotFound):
        create_snapshot(region, "vol-00000000000000000", SMALL)


def test_a_symbolic_link_and_its_file_are_one_volume(region: Region, disk: Path) -> None:
    link = disk.with_name("link.img")
    link.symlink_to(disk)
    assert snapshot(region, link).volume_id == snapshot(region, disk).volume_id


def test_a_file_of_a_store_is_no_source(region: Region) -> None:
    with pytest.raises(SourceUnusable, match="lies in the ebsim home"):
        snapshot(region, region.path / "metadata" / "data.mdb")


def test_a_stream_is_snapshotted_as_its_volume_s_next(
    region: Region, disk: Path, tmp_path: Path
) -> None:
    data = disk.read_bytes() + b"tail"
    first = create_snapshot_of_stream(region, StandardInput(io.BytesIO(data)), None, SMALL)
    assert (first.size_bytes, first.block_count) == (len(data), 4)
    assert restored(region, first.snapshot_id, tmp_path) == data
    second = create_snapshot_of_stream(
        region, StandardInput(io.BytesIO(data[:BLOCK])), first.volume_id, SMALL
    )
    assert (second.parent_id, second.size_bytes) == (first.snapshot_id, BLOCK)
    assert restored(region, second.snapshot_id, tmp_path) == data[:BLOCK]
    with pytest.raises(InvalidRequest, match="read from standard input"):
        create_snapshot(region, first.volume_id, SMALL)


def test_an_empty_stream_makes_no_snapshot_and_no_leftovers(region: Region) -> None:
    with pytest.raises(SourceUnusable, match="standard input is empty"):
        create_snapshot_of_stream(region, StandardInput(io.BytesIO(b"")), None, SMALL)


disks = st.dictionaries(st.integers(0, 140), st.integers(0, 5), max_size=12)


@settings(max_examples=25)
@given(histories=st.lists(st.tuples(disks, st.integers(1, 150 * BLOCK)), min_size=1, max_size=5))
def test_every_snapshot_of_a_history_restores_what_the_disk_was(
    histories: list[tuple[dict[int, int], int]],
) -> None:
    with quick_directory() as folder:
        region = open_store(folder / "home")
        disk = folder / "disk.img"
        disk.touch()
        held = {}
        for changes, size_bytes in histories:
            with disk.open("r+b") as file:
                file.truncate(size_bytes)
            change_disk(
                disk, {i: block_bytes(s) if s else bytes(BLOCK) for i, s in changes.items()}
            )
            held[take(region, disk)] = disk.read_bytes()
        assert {name: restored(region, name, folder) for name in held} == held
        region.close()


def test_a_restore_tells_how_much_of_the_disk_is_data_to_its_odd_end(
    region: Region, tmp_path: Path
) -> None:
    size = 10 * BLOCK - 100
    disk = write_disk(tmp_path / "odd.img", size, {3: block_bytes(3), 9: b"x" * BLOCK})
    snapshot_id = take(region, disk)

    done = restore_snapshot(region, snapshot_id, str(tmp_path / "restored.img"))

    assert (done.size_bytes, done.data_bytes) == (size, 2 * BLOCK - 100)
