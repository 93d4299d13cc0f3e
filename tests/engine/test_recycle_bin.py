"""The recycle bin: what comes into it, what is seen of it, out of it whole, and its end."""

from dataclasses import replace
from pathlib import Path

import pytest

from ebsim.catalog.audience import Audience
from ebsim.catalog.retention_rule import (
    ResourceType,
)
from ebsim.clock import ManualClock
from ebsim.engine.archive_snapshot import archive_snapshot
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots, plan_deletion_of
from ebsim.engine.list_snapshots import list_snapshots, show_snapshot
from ebsim.engine.list_volumes import list_volumes, show_volume
from ebsim.engine.lock_snapshot import LockMode, LockRequest, lock_snapshot
from ebsim.engine.open_volume import open_volume
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.recycle_bin import (
    restore_snapshot_from_bin,
    restore_volume_from_bin,
    snapshots_in_bin,
    sweep_recycle_bin,
    volumes_in_bin,
)
from ebsim.engine.region import Region
from ebsim.engine.remove_volume import remove_volume
from ebsim.engine.retention_rules import (
    RuleChange,
    RuleRequest,
    create_rule,
    delete_rule,
    show_rule,
    update_rule,
)
from ebsim.engine.share_snapshot import Grantees, share_snapshot
from ebsim.engine.tags import tag_snapshot
from ebsim.engine.unarchive_snapshot import unarchive_snapshot
from ebsim.errors import (
    SnapshotNotFound,
    VolumeNotFound,
)
from ebsim.volumes.block_device import BlockDevice
from tests.engine.stores import (
    ACCOUNT,
    BLOCK,
    OTHER_ACCOUNT,
    block_bytes,
    change_disk,
    open_store,
    restored,
    take,
    write_disk,
)

DAY = 86_400
ALL_SNAPSHOTS = RuleRequest(ResourceType.SNAPSHOT, 3)
ALL_VOLUMES = RuleRequest(ResourceType.VOLUME, 3)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return write_disk(tmp_path / "disk.img", 40 * BLOCK, {0: block_bytes(1), 2: block_bytes(2)})


def read_all(device: BlockDevice) -> bytes:
    buffer = bytearray(device.size_bytes)
    device.read_at(0, memoryview(buffer))
    return bytes(buffer)


def ids_in_bin(region: Region) -> list[str]:
    return [snapshot.snapshot_id for snapshot in snapshots_in_bin(region)]


def test_a_deleted_snapshot_comes_back_from_the_bin_as_it_was(
    region: Region, clock: ManualClock, disk: Path, tmp_path: Path
) -> None:
    """Its neighbours are deleted for good meanwhile; permissions and tags come back too."""
    create_rule(region, replace(ALL_SNAPSHOTS, resource_tags=[("keep", "yes")]))
    ids = []
    for number in range(3):
        change_disk(disk, {number: block_bytes(number + 10)})
        ids.append(take(region, disk))
        if number == 1:
            content = disk.read_bytes()
    tag_snapshot(region, ids[1], {"keep": "yes"})
    before = share_snapshot(region, ids[1], Grantees.of([OTHER_ACCOUNT], everybody=True))
    delete_snapshots(region, ids)
    clock.advance(3 * DAY - 1)
    assert sweep_recycle_bin(region).chunk_count == 0
    assert ids_in_bin(region) == [ids[1]]
    assert restore_snapshot_from_bin(region, ids[1]) == before
    assert show_snapshot(region, ids[1]) == before
    assert restored(region, ids[1], tmp_path) == content
    assert ids_in_bin(region) == []
    other = replace(region, account_id=OTHER_ACCOUNT)
    assert [one.snapshot_id for one in list_snapshots(
        other, audience=Audience.of(OTHER_ACCOUNT)).snapshots] == [ids[1]]  # fmt: skip
    clock.advance(9 * DAY)
    assert sweep_recycle_bin(region).chunk_count == 0
    assert restored(region, ids[1], tmp_path) == content


def test_a_snapshot_in_the_bin_is_not_found_by_anybody(region: Region, disk: Path) -> None:
    create_rule(region, ALL_SNAPSHOTS)
    snapshot_id = take(region, disk)
    share_snapshot(region, snapshot_id, Grantees.of([OTHER_ACCOUNT], everybody=True))
    delete_snapshots(region, [snapshot_id])
    for account in (ACCOUNT, OTHER_ACCOUNT):
        there = replace(region, account_id=account)
        assert not list_snapshots(there, audience=Audience.of(account)).snapshots
        for act in (
            lambda: show_snapshot(there, snapshot_id),  # noqa: B023 (called at once)
            lambda: create_volume(there, VolumeOptions(snapshot=snapshot_id)),  # noqa: B023 (called at once)
            lambda: delete_snapshots(there, [snapshot_id]),  # noqa: B023 (called at once)
            lambda: lock_snapshot(there, snapshot_id, LockRequest(LockMode.GOVERNANCE, 1)),  # noqa: B023 (called at once)
            lambda: tag_snapshot(there, snapshot_id, {"a": "b"}),  # noqa: B023 (called at once)
        ):
            with pytest.raises(SnapshotNotFound):
                act()
    assert ids_in_bin(region) == [snapshot_id]
    assert ids_in_bin(replace(region, account_id=OTHER_ACCOUNT)) == []
    with pytest.raises(SnapshotNotFound):
        restore_snapshot_from_bin(replace(region, account_id=OTHER_ACCOUNT), snapshot_id)


def test_an_archived_snapshot_comes_back_from_the_bin_archived_and_whole(
    region: Region, clock: ManualClock, disk: Path, tmp_path: Path
) -> None:
    create_rule(region, ALL_SNAPSHOTS)
    ids = [take(region, disk) for _ in range(2)]
    for snapshot_id in ids:
        archive_snapshot(region, snapshot_id)
    delete_snapshots(region, ids)
    clock.advance(DAY)
    restore_snapshot_from_bin(region, ids[0])
    clock.advance(2 * DAY)
    sweep_recycle_bin(region)
    assert show_snapshot(region, ids[0]).is_archived
    unarchive_snapshot(region, ids[0])
    assert restored(region, ids[0], tmp_path) == disk.read_bytes()


def test_at_the_end_of_its_time_a_snapshot_is_gone_and_gives_its_room_back(
    region: Region, clock: ManualClock, disk: Path
) -> None:
    create_rule(region, ALL_SNAPSHOTS)
    snapshot_id = take(region, disk)
    assert plan_deletion_of(region, [snapshot_id]).freed_bytes == 0
    assert delete_snapshots(region, [snapshot_id]).freed_bytes == 0
    clock.advance(3 * DAY)
    assert ids_in_bin(region) == []
    with pytest.raises(SnapshotNotFound):
        restore_snapshot_from_bin(region, snapshot_id)
    assert sweep_recycle_bin(region).freed_bytes > 2 * BLOCK // 2
    assert not list(region.backend.names("packs"))
    assert not list(region.backend.names("snapshots"))


def test_the_next_snapshot_builds_on_one_in_the_bin_and_outlives_it(
    region: Region, clock: ManualClock, disk: Path, tmp_path: Path
) -> None:
    create_rule(region, ALL_SNAPSHOTS)
    first = take(region, disk)
    delete_snapshots(region, [first])
    change_disk(disk, {5: block_bytes(5)})
    second = take(region, disk)
    assert show_snapshot(region, second).changed_block_count == 1
    clock.advance(3 * DAY)
    sweep_recycle_bin(region)
    assert restored(region, second, tmp_path) == disk.read_bytes()


def test_a_failed_sweep_of_one_is_made_up_for_by_the_next(
    region: Region, clock: ManualClock, disk: Path
) -> None:
    """More than one look-up's worth, some restored between."""
    create_rule(region, ALL_SNAPSHOTS)
    ids = [take(region, disk) for _ in range(6)]
    delete_snapshots(region, ids[:3])
    clock.advance(DAY)
    delete_snapshots(region, ids[3:])
    restore_snapshot_from_bin(region, ids[1])
    clock.advance(2 * DAY)
    sweep_recycle_bin(region)
    assert sorted(ids_in_bin(region)) == sorted(ids[3:])
    assert [one.snapshot_id for one in list_snapshots(region).snapshots] == [ids[1]]


def test_a_deleted_volume_comes_back_from_the_bin_with_what_it_had_not_loaded(
    region: Region, clock: ManualClock, disk: Path
) -> None:
    create_rule(region, ALL_VOLUMES)
    snapshot_id = take(region, disk)
    volume = create_volume(region, VolumeOptions(snapshot=snapshot_id, tags={"a": "b"}))
    with open_volume(region, volume.volume_id, "test", hydrates=False) as opened:
        opened.device.write_at(7 * BLOCK, memoryview(b"written"))
    before = show_volume(region, volume.volume_id)
    kept = remove_volume(region, volume.volume_id)
    delete_snapshots(region, [snapshot_id])
    assert kept.bin_stay is not None
    assert list_volumes(region) == [one for one in list_volumes(region) if not one.is_local]
    with pytest.raises(VolumeNotFound):
        remove_volume(region, volume.volume_id)
    clock.advance(3 * DAY - 1)
    sweep_recycle_bin(region)
    assert [one.volume_id for one in volumes_in_bin(region)] == [volume.volume_id]
    assert restore_volume_from_bin(region, volume.volume_id) == before
    with open_volume(region, volume.volume_id, "test", hydrates=False) as opened:
        expected = bytearray(disk.read_bytes())
        expected[7 * BLOCK : 7 * BLOCK + 7] = b"written"
        assert read_all(opened.device) == expected
    remove_volume(region, volume.volume_id)
    clock.advance(3 * DAY)
    sweep_recycle_bin(region)
    with pytest.raises(VolumeNotFound):
        restore_volume_from_bin(region, volume.volume_id)
    assert not list((region.path / "volumes").iterdir())


def test_rules_and_what_is_in_the_bin_come_back_with_a_rebuild(tmp_path: Path, disk: Path) -> None:
    clock = ManualClock()
    region = open_store(tmp_path / "home", clock=clock)
    rule = create_rule(region, replace(ALL_SNAPSHOTS, unlock_delay_days=7, description="é"))
    snapshot_id = take(region, disk)
    before = show_snapshot(region, snapshot_id)
    delete_snapshots(region, [snapshot_id])
    region.close()
    assert rebuild_store(tmp_path / "home", "test").complaints == []
    region = open_store(tmp_path / "home", clock=clock)
    assert show_rule(region, rule.rule_id) == rule
    assert restore_snapshot_from_bin(region, snapshot_id) == before
    assert restored(region, snapshot_id, tmp_path) == disk.read_bytes()
    region.close()


def test_the_longest_of_the_matching_retentions_counts(
    region: Region, clock: ManualClock, disk: Path
) -> None:
    for days, tags in ((2, ()), (5, [("env", "live")]), (9, [("env", "other")])):
        create_rule(region, RuleRequest(ResourceType.SNAPSHOT, days, resource_tags=tags))
    create_rule(region, RuleRequest(ResourceType.VOLUME, 7))
    create_rule(replace(region, account_id=OTHER_ACCOUNT), RuleRequest(ResourceType.SNAPSHOT, 99))
    plain, live = take(region, disk), take(region, disk)
    tag_snapshot(region, live, {"env": "live"})
    delete_snapshots(region, [plain, live])
    for advance, left in ((2 * DAY - 1, [plain, live]), (1, [live]), (3 * DAY, [])):
        clock.advance(advance)
        assert sorted(ids_in_bin(region)) == sorted(left)
    sweep_recycle_bin(region)


def test_a_changed_or_removed_rule_is_about_what_is_deleted_later(
    region: Region, clock: ManualClock, disk: Path
) -> None:
    rule = create_rule(region, ALL_SNAPSHOTS)
    ids = [take(region, disk) for _ in range(3)]
    delete_snapshots(region, ids[:1])
    update_rule(region, rule.rule_id, RuleChange(retention_days=1))
    delete_snapshots(region, ids[1:2])
    delete_rule(region, rule.rule_id)
    delete_snapshots(region, ids[2:])
    assert ids_in_bin(region) == ids[:2]
    clock.advance(DAY)
    assert ids_in_bin(region) == ids[:1]
    clock.advance(2 * DAY)
    assert ids_in_bin(region) == []
    sweep_recycle_bin(region)
