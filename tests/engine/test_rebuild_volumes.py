"""``rebuild_store`` brings volumes back, and frees nothing that one of them needs."""

import shutil
from pathlib import Path

import pytest

from ebsim.catalog.volume import Volume
from ebsim.clock import ManualClock
from ebsim.engine.check_store import check_store
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.instances import attach_to_instance, create_instance, list_instances
from ebsim.engine.list_volumes import list_volumes
from ebsim.engine.open_volume import open_volume, volume_folder
from ebsim.engine.rebuild_store import RebuildReport, rebuild_store
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.remove_volume import remove_volume
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.ids import VolumeId
from tests.engine.store_audit import complaints_about
from tests.engine.stores import BLOCK, block_bytes, open_store, restored, take, write_disk

SIZE = 300 * BLOCK
OPTIONS = SnapshotOptions(thread_count=1)


class Store:
    """A store, opened anew after each rebuild."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.region = open_store(folder / "home", clock=ManualClock())
        blocks = {i: block_bytes(i) for i in (0, 1, 130, 299)}
        self.image = write_disk(folder / "image", SIZE, blocks)
        self.disk = self.image.read_bytes()

    def made(self) -> VolumeId:
        """A volume that needs the store, though its snapshot is gone."""
        snapshot_id = take(self.region, self.image)
        volume_id = create_volume(self.region, VolumeOptions(snapshot_id)).volume_id
        delete_snapshots(self.region, [snapshot_id])
        return volume_id

    def lose_metadata(self) -> RebuildReport:
        self.region.close()
        path = self.region.path
        shutil.rmtree(path / "metadata")
        report = rebuild_store(self.region.home, "test")
        self.region = open_store(self.region.home, clock=ManualClock())
        return report

    def read(self, volume_id: VolumeId) -> bytes:
        with open_volume(self.region, volume_id, "test", hydrates=False) as opened:
            found = bytearray(opened.device.size_bytes)
            opened.device.read_at(0, memoryview(found))
        return bytes(found)

    def expect_sound(self) -> None:
        self.region.open_session().abandon()  # so that there is something to recover from
        recover(self.region)
        assert complaints_about(self.region) == []
        assert check_store(self.region, read_data=True).findings == []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def local(region: Region) -> list[Volume]:
    return [volume for volume in list_volumes(region) if volume.is_local]


def test_a_volume_comes_back_with_the_blocks_that_no_snapshot_has_any_more(store: Store) -> None:
    volume_id = store.made()
    before = local(store.region)
    report = store.lose_metadata()
    assert (report.snapshot_count, report.volume_count, report.freed_count) == (0, 1, 0)
    assert report.complaints == []
    assert local(store.region) == before
    assert store.read(volume_id) == store.disk
    store.expect_sound()
    remove_volume(store.region, volume_id)
    store.expect_sound()
    assert list((store.region.path / "packs").iterdir()) == []


def test_what_a_volume_became_since_its_snapshot_comes_back(store: Store) -> None:
    volume_id = store.made()
    with open_volume(store.region, volume_id, "test", hydrates=False) as opened:
        opened.device.write_at(5, b"written")
        opened.device.grow(SIZE + BLOCK)
    expected = store.disk[:5] + b"written" + store.disk[12:] + bytes(BLOCK)
    (taken,) = create_snapshot_set(store.region, [volume_id], OPTIONS).snapshots
    report = store.lose_metadata()
    assert (report.snapshot_count, report.complaints) == (1, [])
    assert store.read(volume_id) == expected
    (after,) = create_snapshot_set(store.region, [volume_id], OPTIONS).snapshots
    assert (after.parent_id, after.changed_block_count) == (taken.snapshot_id, 0)
    assert restored(store.region, taken.snapshot_id, store.folder) == expected
    store.expect_sound()


def test_a_volume_that_stands_alone_holds_nothing(store: Store) -> None:
    volume_id = store.made()
    with open_volume(store.region, volume_id, "test", hydrates=True) as opened:
        assert opened.hydrator is not None
        assert opened.hydrator.wait(60)
    report = store.lose_metadata()
    assert (report.volume_count, report.chunk_count) == (1, 0)
    assert store.read(volume_id) == store.disk
    store.expect_sound()


def test_a_volume_that_was_removed_stays_so(store: Store) -> None:
    volume_id = store.made()
    (taken,) = create_snapshot_set(store.region, [volume_id], OPTIONS).snapshots
    remove_volume(store.region, volume_id)
    report = store.lose_metadata()
    assert (report.snapshot_count, report.volume_count) == (1, 0)
    assert local(store.region) == []
    assert restored(store.region, taken.snapshot_id, store.folder) == store.disk
    store.expect_sound()


def test_an_instance_comes_back_with_what_is_attached_to_it(store: Store) -> None:
    volume_id = store.made()
    instance = create_instance(store.region, "web")
    attach_to_instance(store.region, volume_id, instance.instance_id, "/dev/sdf")
    before = (list_instances(store.region), local(store.region))
    report = store.lose_metadata()
    assert report.complaints == []
    assert (list_instances(store.region), local(store.region)) == before
    store.expect_sound()


def test_a_volume_without_its_record_comes_back_from_a_manifest(store: Store) -> None:
    volume_id = store.made()
    create_snapshot_set(store.region, [volume_id], OPTIONS)
    (volume_folder(store.region, volume_id).path / "volume.json").write_bytes(b"{")
    report = store.lose_metadata()
    (complaint,) = report.complaints
    assert volume_id in complaint
    assert store.read(volume_id) == store.disk
    store.expect_sound()


def test_while_nothing_is_known_of_a_volume_nothing_is_freed(store: Store) -> None:
    volume_id = store.made()
    record = volume_folder(store.region, volume_id).path / "volume.json"
    kept = record.read_bytes()
    record.write_bytes(kept[:-9])
    report = store.lose_metadata()
    assert (report.volume_count, report.freed_count) == (0, 0)
    (complaint,) = report.complaints
    assert volume_id in complaint
    recover(store.region)
    record.write_bytes(kept)
    report = store.lose_metadata()
    assert report.complaints == []
    assert store.read(volume_id) == store.disk
    store.expect_sound()
