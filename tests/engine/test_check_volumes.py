"""``store check`` knows what volumes need, and a repair never takes it away from them."""

import shutil
from pathlib import Path

from ebsim.engine.check_report import FindingKind
from ebsim.engine.check_store import check_store
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.holds import volume_holder
from ebsim.engine.open_volume import open_volume, volume_folder
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.region import Region
from ebsim.ids import VolumeId
from ebsim.metadata.transactions import Table
from tests.engine.stores import BLOCK, block_bytes, open_store, take, write_disk

SIZE = 200 * BLOCK


def made(region: Region, folder: Path) -> VolumeId:
    """A volume of blocks that no snapshot has any more."""
    image = write_disk(folder / "image", SIZE, {i: block_bytes(i) for i in (0, 1, 150)})
    snapshot_id = take(region, image)
    volume_id = create_volume(region, VolumeOptions(snapshot_id)).volume_id
    delete_snapshots(region, [snapshot_id])
    return volume_id


def findings(region: Region, volume_id: VolumeId) -> list[str]:
    found = [one for one in check_store(region).findings if one.kind is FindingKind.VOLUME]
    assert all(one.where == volume_id for one in found)
    return [one.what for one in found]


def expect_whole(region: Region, folder: Path, volume_id: VolumeId) -> None:
    with open_volume(region, volume_id, "test", hydrates=False) as opened:
        disk = bytearray(SIZE)
        opened.device.read_at(0, memoryview(disk))
    assert disk == (folder / "image").read_bytes()


def test_a_lost_hold_is_found_and_taken_again(region: Region, tmp_path: Path) -> None:
    volume_id = made(region, tmp_path)
    assert findings(region, volume_id) == []
    key = volume_holder(volume_id).key()
    region.metadata.run(lambda txn: txn.delete_many(Table.HOLDS, [key]))
    assert findings(region, volume_id) == ["it does not hold what it was made from"]
    check_store(region, repair=True)
    assert check_store(region).findings == []
    expect_whole(region, tmp_path, volume_id)


def test_a_volume_that_lost_its_row_keeps_its_blocks_until_a_rebuild(tmp_path: Path) -> None:
    region = open_store(tmp_path / "home")
    volume_id = made(region, tmp_path)
    region.metadata.run(lambda txn: txn.delete_many(Table.VOLUMES, [volume_id.encode()]))
    check_store(region, repair=True)
    (what,) = findings(region, volume_id)
    assert "no row" in what
    region.close()
    rebuild_store(region.home, "test")
    region = open_store(region.home)
    assert findings(region, volume_id) == []
    expect_whole(region, tmp_path, volume_id)
    region.close()


def test_a_folder_that_is_gone_is_found(tmp_path: Path) -> None:
    region = open_store(tmp_path / "home")
    volume_id = made(region, tmp_path)
    shutil.rmtree(volume_folder(region, volume_id).path)
    assert findings(region, volume_id) == ["its folder is not there"]
    region.close()
