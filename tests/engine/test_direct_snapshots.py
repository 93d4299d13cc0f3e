"""Writing snapshots block by block: begun, put to, completed, timed out, deleted."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from ebsim.catalog.client_tokens import ClientTokenReused
from ebsim.catalog.direct_snapshot import CompletionRequest
from ebsim.catalog.event_log import scan_events
from ebsim.catalog.snapshot import SnapshotState
from ebsim.clock import ManualClock
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.diff_snapshots import diff_snapshots
from ebsim.engine.direct.complete_direct_snapshot import complete_direct_snapshot
from ebsim.engine.direct.finish_direct_snapshot import (
    CHECKSUM_MISMATCH,
    COUNT_MISMATCH,
    TIMED_OUT,
    settle_direct_snapshots,
)
from ebsim.engine.direct.put_block import put_block
from ebsim.engine.direct.refusals import (
    BlockRefused,
    ParentPending,
    SnapshotAlreadyCompleted,
    VolumeSizeRefused,
)
from ebsim.engine.direct.start_direct_snapshot import DirectOptions, start_direct_snapshot
from ebsim.engine.region import Region
from ebsim.engine.remove_volume import remove_volume
from ebsim.engine.restore_snapshot import restore_snapshot
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.errors import SnapshotNotFound
from ebsim.ids import SnapshotId
from tests.engine.direct_snapshots import (
    DIRECT_BLOCK,
    Plane,
    access_to,
    direct_block,
)
from tests.engine.stores import OTHER_ACCOUNT, take, write_disk

LAST = 2047  # of a volume of 1 GiB


@pytest.fixture
def plane(region: Region) -> Iterator[Plane]:
    with access_to(region) as access:
        yield Plane(region, access)


def linear(seeds: dict[int, int]) -> str:
    """What LINEAR aggregation makes of the blocks."""
    digests = [sha256(direct_block(seeds[index])).digest() for index in sorted(seeds)]
    return sha256(b"".join(digests)).hexdigest()


def test_blocks_are_read_as_they_were_put(plane: Plane) -> None:
    snapshot_id = plane.start()
    plane.put(snapshot_id, {LAST: 7, 0: 1, 128: 2})
    assert plane.complete(snapshot_id, 3).state is SnapshotState.COMPLETED
    assert plane.read(snapshot_id) == {0: 1, 128: 2, LAST: 7}


def test_a_block_of_zeros_that_was_put_is_present(plane: Plane) -> None:
    assert plane.read(plane.make({3: 0, 4: 1})) == {3: 0, 4: 1}


def test_the_last_put_at_an_index_stays(plane: Plane) -> None:
    snapshot_id = plane.start()
    plane.put(snapshot_id, {5: 1, 6: 2})
    plane.put(snapshot_id, {5: 3})
    plane.put(snapshot_id, {6: 0})
    assert plane.complete(snapshot_id, 2).changed_block_count == 2
    assert plane.read(snapshot_id) == {5: 3, 6: 0}


def test_a_child_has_its_parent_s_blocks_and_its_own(plane: Plane) -> None:
    parent = plane.make({0: 1, 1: 2, 500: 3})
    child = plane.make({1: 9, 501: 4}, parent)
    assert plane.read(child) == {0: 1, 1: 9, 500: 3, 501: 4}
    assert plane.show(child).block_count == 4
    assert plane.show(child).changed_block_count == 2


def test_a_snapshot_that_nothing_was_put_to_is_its_parent_s_twin(plane: Plane) -> None:
    parent = plane.make({0: 1, 1: 2})
    child = plane.make({}, parent)
    assert plane.show(child).root == plane.show(parent).root
    assert plane.read(plane.make({})) == {}


def test_what_a_snapshot_refers_to_is_counted_as_that_of_a_scan(
    plane: Plane, tmp_path: Path
) -> None:
    first = plane.make({0: 1, 1: 2, 300: 3})
    second = plane.make({1: 4, 301: 3}, first)
    disk = write_disk(tmp_path / "disk", 1 << 30, {})
    with disk.open("r+b") as file:
        for index, seed in {0: 1, 1: 4, 300: 3, 301: 3}.items():
            file.seek(index * DIRECT_BLOCK)
            file.write(direct_block(seed))
    scanned = plane.show(SnapshotId(take(plane.region, disk, SnapshotOptions())))
    assert plane.show(second).referenced_bytes == scanned.referenced_bytes
    assert list(diff_snapshots(plane.region, second, scanned.snapshot_id)) == []


def test_the_parent_may_be_deleted_as_soon_as_the_child_is_begun(plane: Plane) -> None:
    parent = plane.make({0: 1, 1: 2})
    child = plane.start(parent)
    delete_snapshots(plane.region, [parent])
    plane.put(child, {1: 5})
    plane.complete(child, 1)
    assert plane.read(child) == {0: 1, 1: 5}


def test_a_snapshot_is_restored_to_a_file(plane: Plane, tmp_path: Path) -> None:
    snapshot_id = plane.make({1: 4, LAST: 9})
    target = tmp_path / "disk.img"
    restore_snapshot(plane.region, snapshot_id, str(target), thread_count=1)
    assert target.stat().st_size == 1 << 30
    with target.open("rb") as file:
        assert file.read(2 * DIRECT_BLOCK) == direct_block(0) + direct_block(4)
        file.seek(LAST * DIRECT_BLOCK)
        assert file.read() == direct_block(9)


def test_a_volume_is_made_of_it_and_carries_its_lineage_on(plane: Plane) -> None:
    snapshot_id = plane.make({1: 4})
    volume = create_volume(plane.region, VolumeOptions(snapshot=snapshot_id))
    assert volume.lineage == snapshot_id
    remove_volume(plane.region, volume.volume_id)


def test_a_wrong_count_fails_the_snapshot_behind(plane: Plane) -> None:
    snapshot_id = plane.start()
    plane.put(snapshot_id, {0: 1, 1: 2})
    request = CompletionRequest(3)
    state = complete_direct_snapshot(plane.region, snapshot_id, request)
    assert state is SnapshotState.PENDING
    settle_direct_snapshots(plane.region)
    failed = plane.show(snapshot_id)
    assert (failed.state, failed.state_message) == (SnapshotState.ERROR, COUNT_MISMATCH)
    assert complete_direct_snapshot(plane.region, snapshot_id, request) is SnapshotState.ERROR


def test_a_failed_snapshot_keeps_no_room(plane: Plane) -> None:
    snapshot_id = plane.start()
    plane.put(snapshot_id, {0: 1, 1: 2})
    plane.complete(snapshot_id, 5)
    plane.access.close()
    assert list(plane.region.backend.names("packs")) == []


def test_a_checksum_of_the_whole_is_proved(plane: Plane) -> None:
    seeds = {7: 1, 3: 2, 9: 0}
    good, bad = plane.start(), plane.start()
    plane.put(good, {3: 8, **seeds})
    plane.put(bad, seeds)
    assert plane.complete(good, 3, linear(seeds)).state is SnapshotState.COMPLETED
    failed = plane.complete(bad, 3, linear({**seeds, 3: 5}))
    assert (failed.state, failed.state_message) == (SnapshotState.ERROR, CHECKSUM_MISMATCH)


def test_completing_again_changes_nothing_whatever_it_says(plane: Plane) -> None:
    snapshot_id = plane.make({0: 1})
    again = complete_direct_snapshot(plane.region, snapshot_id, CompletionRequest(77))
    assert again is SnapshotState.COMPLETED
    assert settle_direct_snapshots(plane.region).completed == []


def test_nothing_is_put_once_completion_was_asked_for(plane: Plane) -> None:
    snapshot_id = plane.start()
    plane.put(snapshot_id, {0: 1})
    complete_direct_snapshot(plane.region, snapshot_id, CompletionRequest(1))
    with pytest.raises(SnapshotAlreadyCompleted):
        plane.put(snapshot_id, {1: 2})
    data = direct_block(2)
    with pytest.raises(SnapshotAlreadyCompleted):
        plane.access.puts.put(snapshot_id, 1, data, sha256(data).digest())
    settle_direct_snapshots(plane.region)
    assert plane.read(snapshot_id) == {0: 1}
    with pytest.raises(SnapshotAlreadyCompleted, match=r"^Snapshot is already completed$"):
        plane.put(snapshot_id, {1: 2})


def test_a_put_must_be_a_block_of_the_volume(plane: Plane) -> None:
    snapshot_id = plane.start()
    with pytest.raises(BlockRefused, match=r"^Block index 2048 is beyond the volume size extent$"):
        plane.put(snapshot_id, {LAST + 1: 1})
    short = b"x" * 100
    with pytest.raises(
        BlockRefused, match=r"^Block data length 100 is not valid, expected 524288$"
    ):
        put_block(plane.region, plane.access.puts, snapshot_id, 0, (short, b""))


def test_another_account_does_not_find_it(plane: Plane) -> None:
    pending, completed = plane.start(), plane.make({0: 1})
    other = Plane(replace(plane.region, account_id=OTHER_ACCOUNT), plane.access)
    with pytest.raises(SnapshotNotFound):
        other.put(pending, {0: 1})
    with pytest.raises(SnapshotNotFound):
        complete_direct_snapshot(other.region, pending, CompletionRequest(0))
    with pytest.raises(SnapshotNotFound):
        other.start(completed)
    with pytest.raises(SnapshotNotFound):
        other.read(completed)


def test_a_parent_must_be_completed_and_fit(plane: Plane) -> None:
    pending, completed = plane.start(), plane.make({0: 1})
    large = plane.start(completed, gib=2)
    plane.complete(large, 0)
    failed = plane.start()
    plane.complete(failed, 1)
    with pytest.raises(ParentPending, match=r"^Source snapshot \(snap-\w+\) is not complete\.$"):
        plane.start(pending)
    with pytest.raises(VolumeSizeRefused):
        plane.start(large)
    with pytest.raises(SnapshotNotFound):
        plane.start(failed)


def test_an_idle_snapshot_fails_when_its_time_is_over(plane: Plane, clock: ManualClock) -> None:
    options = DirectOptions(1, timeout_minutes=10)
    snapshot_id = start_direct_snapshot(plane.region, options).snapshot_id
    clock.advance(9 * 60)
    plane.put(snapshot_id, {0: 1})
    clock.advance(9 * 60)
    assert settle_direct_snapshots(plane.region).failed == []
    clock.advance(60)
    assert settle_direct_snapshots(plane.region).failed == [snapshot_id]
    failed = plane.show(snapshot_id)
    assert (failed.state, failed.state_message) == (SnapshotState.ERROR, TIMED_OUT)
    with pytest.raises(SnapshotNotFound):
        plane.put(snapshot_id, {0: 1})


def test_what_was_asked_to_be_completed_does_not_time_out(
    plane: Plane, clock: ManualClock
) -> None:
    snapshot_id = plane.start()
    complete_direct_snapshot(plane.region, snapshot_id, CompletionRequest(0))
    clock.advance(10**6)
    assert settle_direct_snapshots(plane.region).completed == [snapshot_id]


def test_the_same_request_with_the_same_token_gets_the_same_answer(
    plane: Plane, clock: ManualClock
) -> None:
    options = DirectOptions(1, client_token="a" * 255, tags={"k": "v"})
    first = start_direct_snapshot(plane.region, options)
    plane.complete(first.snapshot_id, 0)
    clock.advance(60)
    assert start_direct_snapshot(plane.region, options) == first
    with pytest.raises(
        ClientTokenReused,
        match=r"^Current request does not match request stored with this token\.$",
    ):
        start_direct_snapshot(plane.region, replace(options, volume_size_gib=2))
    other = replace(plane.region, account_id=OTHER_ACCOUNT)
    theirs = start_direct_snapshot(other, options)
    assert theirs.snapshot_id != first.snapshot_id


def test_a_pending_snapshot_can_be_deleted(plane: Plane) -> None:
    snapshot_id = plane.start(plane.make({0: 1}))
    plane.put(snapshot_id, {0: 5, 1: 2})
    delete_snapshots(plane.region, [snapshot_id])
    with pytest.raises(SnapshotNotFound):
        plane.put(snapshot_id, {0: 1})


@pytest.mark.slow
def test_completion_and_failure_are_reported_as_events(plane: Plane) -> None:
    good, bad = plane.make({0: 1}), plane.start()
    plane.complete(bad, 9)
    events = plane.region.metadata.read(lambda reader: scan_events(reader, after=0, limit=10))
    told = [(event.detail["result"], event.detail["cause"]) for _, event in events]
    assert told == [("succeeded", ""), ("failed", COUNT_MISMATCH)]
    assert good in str(events[0][1].resources)
