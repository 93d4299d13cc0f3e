"""Making and removing volumes: what they need is held, what they do not need is let go."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ebsim.catalog.records import find_volume, scan_volumes
from ebsim.chunkstore.rows import decode_holder
from ebsim.clock import ManualClock
from ebsim.durable_files import Files
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.kept_records import read_record
from ebsim.engine.list_snapshots import list_snapshots
from ebsim.engine.list_volumes import list_volumes, show_volume
from ebsim.engine.open_volume import open_volume, volume_folder
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.remove_volume import remove_volume
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.engine.store_stats import store_stats
from ebsim.engine.tags import tag_snapshot
from ebsim.engine.volume_stands_alone import volume_stands_alone
from ebsim.errors import (
    Conflict,
    InvalidRequest,
    SnapshotNotFound,
    StorageUnavailable,
    VolumeInUse,
    VolumeNotFound,
)
from ebsim.ids import VolumeId
from ebsim.metadata.transactions import Table
from ebsim.system_calls import SystemCalls
from ebsim.units import GIB, TIB
from ebsim.volumes.control import ControlClient, NotServed
from ebsim.volumes.volume_folder import NEVER_COMPARED
from tests.engine.interruptions import Interference
from tests.engine.store_audit import complaints_about
from tests.engine.stores import BLOCK, block_bytes, open_store, restored, take, write_disk
from tests.volumes.failing_calls import FailingCalls

SIZE = 300 * BLOCK + 700
BLOCKS = {0: block_bytes(1), 130: block_bytes(2), 300: block_bytes(3)}


@pytest.fixture
def snapshot_id(region: Region, tmp_path: Path) -> str:
    return take(region, write_disk(tmp_path / "disk.img", SIZE, BLOCKS))


def made_from(region: Region, snapshot_id: str, size_gib: int | None = None) -> str:
    options = VolumeOptions(snapshot=snapshot_id, size_gib=size_gib)
    return create_volume(region, options).volume_id


def read_all(region: Region, volume_id: str) -> bytes:
    with open_volume(region, VolumeId(volume_id), "test", hydrates=False) as opened:
        found = bytearray(opened.device.size_bytes)
        opened.device.read_at(0, memoryview(found))
    return bytes(found)


def holders(region: Region) -> list[str]:
    rows = region.metadata.read(lambda reader: reader.scan(Table.HOLDS, limit=100))
    return sorted(decode_holder(key).owner for key, _ in rows)


def folder_names(region: Region) -> list[str]:
    return sorted(path.name for path in (region.path / "volumes").iterdir())


def test_a_volume_has_the_exact_length_and_bytes_of_its_snapshot(
    region: Region, snapshot_id: str, tmp_path: Path
) -> None:
    volume_id = made_from(region, snapshot_id)
    assert show_volume(region, volume_id).size_bytes == SIZE
    assert read_all(region, volume_id) == (tmp_path / "disk.img").read_bytes()


def test_the_snapshot_may_be_deleted_at_once(
    region: Region, snapshot_id: str, tmp_path: Path
) -> None:
    volume_id = made_from(region, snapshot_id)
    delete_snapshots(region, [snapshot_id])
    assert holders(region) == [volume_id]
    assert read_all(region, volume_id) == (tmp_path / "disk.img").read_bytes()


def test_a_larger_volume_ends_in_zeros(region: Region, snapshot_id: str, tmp_path: Path) -> None:
    volume_id = made_from(region, snapshot_id, size_gib=1)
    with open_volume(region, VolumeId(volume_id), "test", hydrates=False) as opened:
        assert opened.device.size_bytes == GIB
        found = bytearray(SIZE + 9000)
        opened.device.read_at(0, memoryview(found))
        end = bytearray(5000)
        opened.device.read_at(GIB - 5000, memoryview(end))
    assert found == (tmp_path / "disk.img").read_bytes() + bytes(9000)
    assert end == bytes(5000)


@pytest.mark.parametrize("size_gib", [1, 4096])
def test_making_an_empty_volume_takes_no_room_of_its_size(region: Region, size_gib: int) -> None:
    volume = create_volume(region, VolumeOptions(size_gib=size_gib, block_size=BLOCK))
    folder = volume_folder(region, volume.volume_id)
    assert sum(path.stat().st_blocks * 512 for path in folder.path.iterdir()) < 64 << 10
    assert folder.load().dirty_since == NEVER_COMPARED


def test_a_volume_of_64_tib_can_be_made(region: Region) -> None:
    volume = create_volume(region, VolumeOptions(size_gib=64 * TIB // GIB))
    assert volume.size_bytes == 64 * TIB


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (VolumeOptions(), "needs a size"),
        (VolumeOptions(size_gib=0), "from 1 to 65536 GiB"),
        (VolumeOptions(size_gib=65537), "from 1 to 65536 GiB"),
        (VolumeOptions(size_gib=1, block_size=5000), "power of two"),
        (VolumeOptions(size_gib=1, tags={"aws:x": "y"}), "reserved"),
        (VolumeOptions(size_gib=1, first=[(0, GIB + 1)]), "not within"),
        (VolumeOptions(size_gib=1, first=[(7, 7)]), "not within"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    region: Region, options: VolumeOptions, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        create_volume(region, options)
    assert list_volumes(region) == []
    assert not (region.path / "volumes").exists()


def test_a_size_less_than_the_snapshot_s_is_refused(region: Region, tmp_path: Path) -> None:
    large = write_disk(tmp_path / "large.img", 2 * GIB + 1, {0: block_bytes(1)})
    snapshot_id = take(region, large)
    with pytest.raises(InvalidRequest, match="2 GiB is less than the 3 GiB"):
        made_from(region, snapshot_id, size_gib=2)
    assert made_from(region, snapshot_id, size_gib=3)


def test_a_block_size_beside_a_snapshot_is_refused(region: Region, snapshot_id: str) -> None:
    with pytest.raises(InvalidRequest, match="Leave --block-size out"):
        create_volume(region, VolumeOptions(snapshot=snapshot_id, block_size=BLOCK))


def test_a_snapshot_that_is_not_there_is_said_to_be_missing(region: Region) -> None:
    with pytest.raises(SnapshotNotFound):
        made_from(region, "snap-00000000000000000")


def test_ranges_to_load_first_are_kept_as_blocks(region: Region, snapshot_id: str) -> None:
    options = VolumeOptions(snapshot=snapshot_id, first=[(1, BLOCK + 1), (9 * BLOCK, SIZE)])
    volume = create_volume(region, options)
    kept = json.loads(volume_folder(region, volume.volume_id).hydrate_first.read_text())
    assert kept == {"first": [[0, 2], [9, 301]]}


def test_an_order_of_loading_is_taken_over_from_a_volume_of_the_same_snapshot(
    region: Region, snapshot_id: str
) -> None:
    like = made_from(region, snapshot_id)
    with open_volume(region, VolumeId(like), "test", hydrates=False) as opened:
        for index in (300, 0, 130):
            opened.device.read_at(index * BLOCK, memoryview(bytearray(700)))
    volume = create_volume(region, VolumeOptions(snapshot=snapshot_id, like=like))
    folder = volume_folder(region, volume.volume_id)
    assert list(folder.read_block_indexes(folder.hydrate_order)) == [300, 0, 130]


def test_an_order_of_loading_of_another_snapshot_is_refused(
    region: Region, snapshot_id: str
) -> None:
    other = create_volume(region, VolumeOptions(size_gib=1)).volume_id
    with pytest.raises(InvalidRequest, match="not made from the same snapshot"):
        create_volume(region, VolumeOptions(snapshot=snapshot_id, like=other))


def test_a_volume_is_found_by_the_beginning_of_its_id(region: Region) -> None:
    volume = create_volume(region, VolumeOptions(size_gib=1))
    assert show_volume(region, volume.volume_id[:8]) == volume


def test_a_volume_that_stands_alone_lets_go_of_its_origin(
    region: Region, snapshot_id: str
) -> None:
    volume_id = VolumeId(made_from(region, snapshot_id))
    delete_snapshots(region, [snapshot_id])
    with open_volume(region, volume_id, "test", hydrates=True) as opened:
        assert opened.hydrator is not None
        assert opened.hydrator.wait(60)
    assert holders(region) == []
    assert store_stats(region).chunk_count == 0
    assert show_volume(region, volume_id).origin is None
    volume_stands_alone(region, volume_id)


def test_removing_a_volume_frees_what_it_alone_needed(region: Region, snapshot_id: str) -> None:
    volume_id = made_from(region, snapshot_id)
    delete_snapshots(region, [snapshot_id])
    assert store_stats(region).chunk_count > 0
    remove_volume(region, volume_id)
    assert store_stats(region).chunk_count == 0
    assert folder_names(region) == []
    with pytest.raises(VolumeNotFound):
        show_volume(region, volume_id)
    with pytest.raises(VolumeNotFound):
        remove_volume(region, volume_id)


def test_a_source_is_not_removed(region: Region, snapshot_id: str, tmp_path: Path) -> None:
    del snapshot_id
    (source,) = list_volumes(region)
    with pytest.raises(InvalidRequest, match="is a source"):
        remove_volume(region, source.volume_id)
    assert (tmp_path / "disk.img").exists()


def test_a_volume_that_a_process_has_open_is_not_removed(region: Region, snapshot_id: str) -> None:
    volume_id = VolumeId(made_from(region, snapshot_id))
    with (
        open_volume(region, volume_id, "attach", hydrates=False),
        pytest.raises(VolumeInUse, match="attach"),
    ):
        remove_volume(region, volume_id)
    assert folder_names(region) == [volume_id]


def test_a_volume_is_not_removed_while_its_cut_is_read(region: Region, snapshot_id: str) -> None:
    volume_id = made_from(region, snapshot_id)
    folder = volume_folder(region, VolumeId(volume_id))
    cut = folder.cut("snap-00000000000000001")
    descriptor = region.files.create(cut)
    region.files.lock(descriptor, shared=True)
    with pytest.raises(VolumeInUse, match="snap-00000000000000001 is being taken"):
        remove_volume(region, volume_id)
    region.files.close(descriptor)
    remove_volume(region, volume_id)


def test_snapshots_outlive_their_volume_and_its_row_goes_with_the_last(
    region: Region, snapshot_id: str, tmp_path: Path
) -> None:
    volume_id = made_from(region, snapshot_id)
    data = (tmp_path / "disk.img").read_bytes()
    options = SnapshotOptions(thread_count=1)
    taken = [
        create_snapshot_set(region, [volume_id], options).snapshots[0].snapshot_id
        for _ in range(2)
    ]
    remove_volume(region, volume_id)
    assert [volume.is_local for volume in list_volumes(region)] == [False]
    # Tagging writes the manifest again, which names the volume.
    tag_snapshot(region, taken[0], {"kept": "yes"})
    assert restored(region, taken[0], tmp_path) == data
    assert len(list_snapshots(region).snapshots) == 3

    def row(region: Region) -> bool:
        return (
            region.metadata.read(lambda reader: find_volume(reader, VolumeId(volume_id)))
            is not None
        )

    delete_snapshots(region, taken[:1])
    assert row(region)
    delete_snapshots(region, taken[1:])
    assert not row(region)


def test_recovery_leaves_what_somebody_is_making_alone(region: Region, snapshot_id: str) -> None:
    made_from(region, snapshot_id)
    making = region.path / "volumes" / ".new-vol-00000000000000001"
    making.mkdir()
    descriptor = region.files.create(making / "lock")
    region.files.lock(descriptor)
    region.open_session().abandon()
    recover(region)
    assert making.exists()
    region.files.close(descriptor)
    region.open_session().abandon()
    recover(region)
    assert not making.exists()


def test_recovery_writes_a_kept_record_that_lags_behind(region: Region, snapshot_id: str) -> None:
    volume_id = VolumeId(made_from(region, snapshot_id))
    folder = volume_folder(region, volume_id)
    (folder.path / "volume.json").write_bytes(b"{}")
    region.open_session().abandon()
    recover(region)
    assert read_record(region.files, folder.path) == show_volume(region, volume_id)


def test_another_account_s_volumes_are_not_seen(region: Region, clock: ManualClock) -> None:
    volume_id = create_volume(region, VolumeOptions(size_gib=1)).volume_id
    other = open_store(region.home, account_id="999999999999", clock=clock)
    try:
        assert list_volumes(other) == []
        with pytest.raises(VolumeNotFound):
            remove_volume(other, volume_id)
    finally:
        other.close()
    assert len(region.metadata.read(scan_volumes)) == 1


def test_a_pending_snapshot_makes_no_volume(region: Region, tmp_path: Path) -> None:
    def make_volume() -> None:
        (pending,) = list_snapshots(region).snapshots
        with pytest.raises(Conflict, match="is pending, not completed"):
            made_from(region, pending.snapshot_id)

    image = write_disk(tmp_path / "disk.img", SIZE, BLOCKS)
    create_snapshot(region, str(image), progress=Interference(1, make_volume))
    assert [volume.is_local for volume in list_volumes(region)] == [False]


def test_nobody_answers_for_a_volume_that_was_closed_on_a_failing_disk(tmp_path: Path) -> None:
    """Whoever spoke to it would have its bits of before, whatever others have done since."""
    calls = FailingCalls()
    with closing(open_store(tmp_path / "home", files=Files(calls))) as region:
        volume_id = create_volume(region, VolumeOptions(size_gib=1)).volume_id
        folder = volume_folder(region, volume_id)
        with (
            pytest.raises(StorageUnavailable, match=r"control\.sock"),
            open_volume(region, volume_id, "test", hydrates=False),
        ):
            calls.fail("unlink", "control.sock")
        with pytest.raises(NotServed):
            ControlClient(folder)
        calls.heal()
        # And nothing keeps it from being opened again.
        with (
            open_volume(region, volume_id, "test", hydrates=False),
            closing(ControlClient(folder)) as client,
        ):
            assert client.ask("status")
        recover(region)
        assert complaints_about(region) == []


class InterferedRenames(SystemCalls):
    """Calls that do *act* once, before a folder gets another name."""

    def __init__(self, act: Callable[[Path], None]) -> None:
        self._act: Callable[[Path], None] | None = act

    def rename(self, path: Path, target: Path) -> None:
        act, self._act = self._act, None if path.name.startswith(".new-") else self._act
        if act is not None and self._act is None:
            act(target)
        super().rename(path, target)


def test_a_volume_is_not_removed_while_it_is_made(tmp_path: Path) -> None:
    """Its row is there before its folder has its name: the folder would stay without one."""

    def remove(folder: Path) -> None:
        with pytest.raises(VolumeInUse, match="being made or removed"):
            remove_volume(region, folder.name)

    files = Files(InterferedRenames(remove))
    with closing(open_store(tmp_path / "home", files=files)) as region:
        volume_id = create_volume(region, VolumeOptions(size_gib=1)).volume_id
        assert complaints_about(region) == []
        remove_volume(region, volume_id)
        assert folder_names(region) == []
