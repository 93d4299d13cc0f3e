"""Fast restore: its states and credits, and volumes that are all here from the first read."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.catalog.client_tokens import TokenUse
from ebsim.catalog.fast_restore import FastRestore, FastRestoreState
from ebsim.catalog.volume import Volume
from ebsim.clock import ManualClock
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.fast_restore import (
    advance_fast_restores,
    disable_fast_restore,
    enable_fast_restore,
    list_fast_restores,
)
from ebsim.engine.fast_restore_pool import add_to_pool
from ebsim.engine.list_snapshots import show_snapshot
from ebsim.engine.list_volumes import list_volumes
from ebsim.engine.open_volume import open_volume
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.region import Region
from ebsim.engine.remove_volume import remove_volume
from ebsim.engine.share_snapshot import Grantees, reset_sharing, share_snapshot
from ebsim.errors import Conflict, SnapshotNotFound
from ebsim.ids import AccountId, SnapshotId
from ebsim.units import GIB
from tests.engine.stores import (
    ACCOUNT,
    BLOCK,
    OTHER_ACCOUNT,
    block_bytes,
    open_store,
    take,
    write_disk,
)

ZONE = "testa"
CREDIT_SECONDS = 360
"""A snapshot of 1 GiB, or less, gets ten credits an hour."""


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return write_disk(tmp_path / "disk.img", 200 * BLOCK, {i: block_bytes(i) for i in (0, 7, 150)})


def state(region: Region) -> FastRestoreState:
    (found,) = list_fast_restores(region)
    return found.state


def enabled(region: Region, snapshot_id: str) -> None:
    enable_fast_restore(region, snapshot_id, ZONE)
    advance_fast_restores(region)
    assert state(region) is FastRestoreState.ENABLED


def local(region: Region) -> list[Volume]:
    return [volume for volume in list_volumes(region) if volume.is_local]


def read(region: Region, volume: Volume, size_bytes: int) -> bytes:
    buffer = bytearray(size_bytes)
    with open_volume(region, volume.volume_id, "test", hydrates=False) as opened:
        opened.device.read_at(0, memoryview(buffer))
    return bytes(buffer)


def test_a_volume_of_a_credit_is_all_here_though_nothing_is_left_in_the_store(
    region: Region, clock: ManualClock, disk: Path
) -> None:
    snapshot_id = take(region, disk)
    enabled(region, snapshot_id)
    assert local(region) == []
    clock.advance(CREDIT_SECONDS)
    volume = create_volume(region, VolumeOptions(snapshot=snapshot_id, tags={"a": "b"}))
    assert (volume.fast_restored, volume.origin, volume.tags) == (True, None, {"a": "b"})
    assert local(region) == [volume]
    delete_snapshots(region, [snapshot_id])
    assert not list(region.backend.names("packs"))
    content = disk.read_bytes()
    assert read(region, volume, len(content)) == content
    advance_fast_restores(region)
    assert list_fast_restores(region) == []
    remove_volume(region, volume.volume_id)


def test_a_rate_to_load_at_takes_the_place_of_fast_restore(
    region: Region, clock: ManualClock, disk: Path
) -> None:
    snapshot_id = take(region, disk)
    enabled(region, snapshot_id)
    clock.advance(CREDIT_SECONDS)
    made = create_volume(region, VolumeOptions(snapshot=snapshot_id, initialization_rate=100))
    assert not made.fast_restored
    assert create_volume(region, VolumeOptions(snapshot=snapshot_id)).fast_restored


def test_each_volume_costs_a_credit_and_without_one_a_volume_is_lazy(
    region: Region, clock: ManualClock, disk: Path
) -> None:
    snapshot_id = take(region, disk)
    enabled(region, snapshot_id)
    options = VolumeOptions(snapshot=snapshot_id)
    assert not create_volume(region, options).fast_restored
    clock.advance(2 * CREDIT_SECONDS)
    made = [create_volume(region, options) for _ in range(3)]
    assert [volume.fast_restored for volume in made] == [True, True, False]
    assert made[2].origin is not None
    for volume in made:
        assert read(region, volume, 200 * BLOCK) == disk.read_bytes()
    (record,) = list_fast_restores(region)
    assert record.pool == ()
    advance_fast_restores(region)
    (record,) = list_fast_restores(region)
    assert len(record.pool) == 1


def test_a_volume_that_was_begun_is_loaded_before_it_is_handed_out(
    region: Region, clock: ManualClock, disk: Path
) -> None:
    """As when the process that filled the pool was killed on the way."""
    snapshot_id = take(region, disk)
    enabled(region, snapshot_id)
    clock.advance(2 * CREDIT_SECONDS)
    create_volume(region, VolumeOptions(snapshot=snapshot_id))
    (record,) = list_fast_restores(region)
    begun = add_to_pool(region, record, show_snapshot(region, snapshot_id))
    volume = create_volume(region, VolumeOptions(snapshot=snapshot_id))
    assert (volume.volume_id, volume.fast_restored, volume.origin) == (begun, True, None)


def test_a_volume_that_somebody_else_loads_is_left_to_them(
    region: Region, clock: ManualClock, disk: Path
) -> None:
    snapshot_id = take(region, disk)
    enabled(region, snapshot_id)
    clock.advance(2 * CREDIT_SECONDS)
    create_volume(region, VolumeOptions(snapshot=snapshot_id))
    (record,) = list_fast_restores(region)
    begun = add_to_pool(region, record, show_snapshot(region, snapshot_id))
    with open_volume(region, begun, "test", hydrates=False):
        volume = create_volume(region, VolumeOptions(snapshot=snapshot_id))
        disable_fast_restore(region, snapshot_id, ZONE)
        advance_fast_restores(region)
        assert state(region) is FastRestoreState.DISABLING
    assert volume.fast_restored
    assert volume.volume_id != begun
    advance_fast_restores(region)
    assert state(region) is FastRestoreState.DISABLED


def test_another_zone_and_another_account_have_no_part_in_it(
    region: Region, clock: ManualClock, disk: Path
) -> None:
    snapshot_id = take(region, disk)
    share_snapshot(region, snapshot_id, Grantees.of([OTHER_ACCOUNT]))
    enabled(region, snapshot_id)
    clock.advance(CREDIT_SECONDS)
    options = VolumeOptions(snapshot=snapshot_id)
    elsewhere = replace(options, settings=replace(options.settings, zone="testb"))
    assert not create_volume(region, elsewhere).fast_restored
    other = replace(region, account_id=OTHER_ACCOUNT)
    assert list_fast_restores(other) == []
    assert not create_volume(other, options).fast_restored


def test_a_larger_volume_is_grown_and_a_client_token_spends_one_credit(
    region: Region, clock: ManualClock, disk: Path
) -> None:
    snapshot_id = take(region, disk)
    enabled(region, snapshot_id)
    clock.advance(2 * CREDIT_SECONDS)
    use = TokenUse(ACCOUNT, "CreateVolume", "token", {})
    options = VolumeOptions(snapshot=snapshot_id, size_gib=3, token_use=use)
    volume = create_volume(region, options)
    assert (volume.fast_restored, volume.size_bytes) == (True, 3 * GIB)
    assert create_volume(region, options) == volume
    (record,) = list_fast_restores(region)
    assert record.credits_at(clock.now_ns()) == pytest.approx(1)
    with open_volume(region, volume.volume_id, "test", hydrates=False) as opened:
        assert opened.device.size_bytes == 3 * GIB


def test_it_goes_through_amazon_s_states_each_with_its_time(
    region: Region, clock: ManualClock, disk: Path
) -> None:
    snapshot_id = take(region, disk)
    begun = enable_fast_restore(region, snapshot_id, ZONE)
    assert (begun.state, begun.reason) == (FastRestoreState.ENABLING, "Client.UserInitiated")
    assert enable_fast_restore(region, snapshot_id, ZONE) == begun
    clock.advance(1)
    advance_fast_restores(region)
    (record,) = list_fast_restores(region)
    assert list(record.times_ns) == ["enabling", "optimizing", "enabled"]
    assert record.credits_at(clock.now_ns()) == 0
    disable_fast_restore(region, snapshot_id, ZONE)
    assert state(region) is FastRestoreState.DISABLING
    with pytest.raises(Conflict, match="not enabled"):
        disable_fast_restore(region, snapshot_id, ZONE)
    advance_fast_restores(region)
    (record,) = list_fast_restores(region)
    assert (record.state, record.pool) == (FastRestoreState.DISABLED, ())
    assert not list((region.path / "volumes").iterdir())
    enable_fast_restore(region, snapshot_id, ZONE)
    assert state(region) is FastRestoreState.ENABLING


def test_it_ends_when_the_snapshot_is_not_the_account_s_to_use_any_more(
    region: Region, disk: Path
) -> None:
    snapshot_id = take(region, disk)
    other = replace(region, account_id=OTHER_ACCOUNT)
    with pytest.raises(SnapshotNotFound):
        enable_fast_restore(other, snapshot_id, ZONE)
    share_snapshot(region, snapshot_id, Grantees.of([OTHER_ACCOUNT]))
    enabled(other, snapshot_id)
    reset_sharing(region, snapshot_id)
    advance_fast_restores(region)
    assert list_fast_restores(other) == []
    assert not list((region.path / "volumes").iterdir())


def test_it_comes_back_with_a_rebuild(tmp_path: Path, disk: Path) -> None:
    clock = ManualClock()
    region = open_store(tmp_path / "home", clock=clock)
    snapshot_id = take(region, disk)
    enabled(region, snapshot_id)
    region.close()
    rebuild_store(tmp_path / "home", "test")
    region = open_store(tmp_path / "home", clock=clock)
    clock.advance(CREDIT_SECONDS)
    assert state(region) is FastRestoreState.ENABLED
    volume = create_volume(region, VolumeOptions(snapshot=snapshot_id))
    assert volume.fast_restored
    assert read(region, volume, 200 * BLOCK) == disk.read_bytes()
    region.close()


@given(
    size_gib=st.integers(1, 16_384),
    steps=st.lists(st.tuples(st.integers(0, 10**13), st.booleans()), max_size=20),
)
def test_credits_come_as_amazon_says_and_are_never_more_than_the_bucket_holds(
    size_gib: int, steps: list[tuple[int, bool]]
) -> None:
    """The model counts in credits of an hour's nanoseconds, without a fraction."""
    record = FastRestore(
        AccountId(ACCOUNT), SnapshotId("snap-1"), ZONE, size_gib,
        FastRestoreState.OPTIMIZING, "", {},
    )  # fmt: skip
    assert record.credits_at(10**18) == 0
    now_ns, expected = 0, 0.0
    record = record.moved(FastRestoreState.ENABLED, now_ns, "")
    for wait_ns, spends in steps:
        now_ns += wait_ns
        gained = min(10.0, 1024 / size_gib) * wait_ns / 3.6e12
        bucket = max(1, min(10, 1024 // size_gib))
        expected = min(float(bucket), expected + gained)
        assert record.credits_at(now_ns) == pytest.approx(expected)
        if spends and record.credits_at(now_ns) >= 1:
            record = record.spent(now_ns)
            expected -= 1
