"""Each verb reports what it made true, in that transaction, and old ones go."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ebsim.catalog.event import Event
from ebsim.catalog.event_log import Cursor, find_cursor, newest_events, put_cursor, remove_cursor
from ebsim.catalog.event_pattern import EventPattern
from ebsim.catalog.records import find_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.snapshot_lock import LockMode
from ebsim.clock import ManualClock
from ebsim.engine import record_events as record
from ebsim.engine.copy_snapshot import copy_snapshot
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.instances import attach_to_instance, create_instance, detach_from_instance
from ebsim.engine.list_events import (
    EventFilter,
    events_after,
    list_events,
    newest_event_number,
)
from ebsim.engine.lock_snapshot import LockRequest, lock_snapshot
from ebsim.engine.region import Region, open_region
from ebsim.engine.remove_volume import remove_volume
from ebsim.engine.resize_volume import resize_volume
from ebsim.engine.share_snapshot import Grantees, share_snapshot
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.engine.volume_stands_alone import volume_stands_alone
from ebsim.errors import Conflict
from ebsim.ids import AccountId, SnapshotId, VolumeId
from ebsim.metadata.transactions import Table, Transaction
from tests.engine.interruptions import Interference, Interrupted, interruption
from tests.engine.stores import ACCOUNT, BLOCK, OTHER_ACCOUNT, block_bytes, take, write_disk

NOW = 1_700_000_000_000_000_000
SNAPSHOT = Snapshot(
    snapshot_id=SnapshotId("snap-1"),
    volume_id=VolumeId("vol-1"),
    owner_id=ACCOUNT,
    state=SnapshotState.COMPLETED,
    start_time_ns=NOW - 60 * 10**9,
    size_bytes=BLOCK,
    block_size=BLOCK,
    generation=1,
)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return write_disk(tmp_path / "disk", 8 * BLOCK, {i: block_bytes(i) for i in range(4)})


def all_events(region: Region) -> list[Event]:
    return region.metadata.read(lambda reader: [event for _, event in newest_events(reader)])[::-1]


def told(region: Region) -> list[tuple[str, str]]:
    """Name and result of every event, oldest first."""
    return [(event.detail["event"], event.detail["result"]) for event in all_events(region)]


def test_taking_and_deleting_a_snapshot_are_reported(region: Region, disk: Path) -> None:
    snapshot_id = take(region, disk)
    delete_snapshots(region, [snapshot_id])
    assert told(region) == [("createSnapshot", "succeeded"), ("deleteSnapshot", "succeeded")]
    created, deleted = all_events(region)
    assert created.resources == (f"arn:aws:ec2::test:snapshot/{snapshot_id}",)
    assert [created.source, deleted.source] == ["aws.ec2", "ebsim"]


def test_a_volume_s_life_is_reported(region: Region, disk: Path) -> None:
    snapshot_id = take(region, disk)
    instance = create_instance(region, "db")
    volume_id = create_volume(region, VolumeOptions(snapshot_id, size_gib=1)).volume_id
    attach_to_instance(region, volume_id, instance.name, "/dev/sdf")
    attach_to_instance(region, volume_id, instance.name, "/dev/sdf")
    resize_volume(region, volume_id, 2)
    resize_volume(region, volume_id, 2)
    volume_stands_alone(region, volume_id)
    volume_stands_alone(region, volume_id)
    detach_from_instance(region, volume_id)
    detach_from_instance(region, volume_id)
    remove_volume(region, volume_id)
    assert told(region)[1:] == [
        ("createVolume", "available"),
        ("attachVolume", "attached"),
        ("modifyVolume", "optimizing"),
        ("modifyVolume", "completed"),
        ("initializeVolume", "succeeded"),
        ("detachVolume", "detached"),
        ("deleteVolume", "deleted"),
    ]


def test_a_set_of_several_is_one_event_and_a_set_of_one_is_a_snapshot(
    region: Region, disk: Path
) -> None:
    snapshot_id = take(region, disk)
    names = [create_volume(region, VolumeOptions(snapshot_id)).volume_id for _ in range(2)]
    before = newest_event_number(region)
    taken = create_snapshot_set(region, names, SnapshotOptions(thread_count=1)).snapshots
    create_snapshot_set(region, names[:1], SnapshotOptions(thread_count=1))
    _, (several, one) = events_after(region, before, EventFilter())
    assert several.detail["event"] == "createSnapshots"
    assert [part["snapshot_id"] for part in several.detail["snapshots"]] == [
        f"arn:aws:ec2::test:snapshot/{snapshot.snapshot_id}" for snapshot in taken
    ]
    assert one.detail["event"] == "createSnapshot"


def test_sharing_is_reported_to_each_account_once(region: Region, disk: Path) -> None:
    snapshot_id = take(region, disk)
    for _ in range(2):
        share_snapshot(region, snapshot_id, Grantees.of([OTHER_ACCOUNT]))
    share_snapshot(region, snapshot_id, Grantees.of(everybody=True))
    assert told(region)[1:] == [("shareSnapshot", "succeeded")]
    assert all_events(region)[-1].account_id == OTHER_ACCOUNT


def test_a_copy_is_reported_where_it_is(region: Region, disk: Path, tmp_path: Path) -> None:
    snapshot_id = take(region, disk)
    with closing(open_region(tmp_path / "home", "eu", ACCOUNT)) as other:
        copy = copy_snapshot(other, region, snapshot_id).snapshot
        (event,) = all_events(other)
    assert event.resources == (f"arn:aws:ec2::eu:snapshot/{copy.snapshot_id}",)
    assert event.detail["source"] == f"arn:aws:ec2::test:snapshot/{snapshot_id}"
    assert event.detail["incremental"] == "false"
    assert told(region) == [("createSnapshot", "succeeded")]


def test_a_transaction_that_fails_reports_nothing(region: Region) -> None:
    def fail(txn: Transaction) -> None:
        record.snapshot_created(txn, region, SNAPSHOT)
        raise Conflict("no")

    with pytest.raises(Conflict):
        region.metadata.run(fail)
    assert told(region) == []
    assert newest_event_number(region) == 0


def test_a_verb_that_is_refused_reports_nothing(region: Region, disk: Path) -> None:
    snapshot_id = take(region, disk)
    volume_id = create_volume(region, VolumeOptions(snapshot_id)).volume_id
    create_instance(region, "db")
    attach_to_instance(region, volume_id, "db", "/dev/sdf")
    before = told(region)
    with pytest.raises(Conflict):
        remove_volume(region, volume_id)
    assert told(region) == before
    detach_from_instance(region, volume_id)


def test_a_snapshot_that_breaks_off_is_reported_as_failed(region: Region, tmp_path: Path) -> None:
    image = write_disk(tmp_path / "image", 8 * BLOCK, {0: block_bytes(1)})

    from_disk = SnapshotOptions(block_size=BLOCK, thread_count=1)
    with pytest.raises(Interrupted):
        create_snapshot(region, str(image), from_disk, interruption(1))
    assert told(region) == [("createSnapshot", "failed")]
    (event,) = all_events(region)
    assert event.detail["cause"] == "The snapshot was interrupted."
    (arn,) = event.resources
    gone = SnapshotId(arn.rpartition("/")[2])
    assert region.metadata.read(lambda reader: find_snapshot(reader, gone)) is None


def test_a_lock_of_a_pending_snapshot_that_breaks_off_is_reported_as_failed(
    region: Region, tmp_path: Path
) -> None:
    image = write_disk(tmp_path / "image", 8 * BLOCK, {0: block_bytes(1)})

    def lock_and_break_off() -> None:
        (row,) = region.metadata.read(lambda reader: reader.scan(Table.SNAPSHOTS, limit=1))
        lock_snapshot(region, row[0].decode(), LockRequest(LockMode.GOVERNANCE, duration_days=1))
        raise Interrupted

    with pytest.raises(Interrupted):
        create_snapshot(
            region,
            str(image),
            SnapshotOptions(block_size=BLOCK, thread_count=1),
            Interference(1, lock_and_break_off),
        )
    assert told(region) == [
        ("lockSnapshot", "succeeded"),
        ("createSnapshot", "failed"),
        ("lockSnapshot", "failed"),
    ]
    last = all_events(region)[-1].detail
    assert (last["lockState"], last["cause"]) == ("pending-governance", "snapshot failed")


def test_ids_are_unique_and_the_same_for_a_transaction_that_runs_twice(region: Region) -> None:
    first = []

    def twice(txn: Transaction) -> None:
        record.snapshot_created(txn, region, SNAPSHOT)
        first.extend(event.event_id for _, event in newest_events(txn))
        raise Conflict("again")

    for _ in range(2):
        with pytest.raises(Conflict):
            region.metadata.run(twice)
    assert first[0] == first[1]
    for _ in range(5):
        region.metadata.run(lambda txn: record.snapshot_created(txn, region, SNAPSHOT))
    assert len({event.event_id for event in all_events(region)}) == 5


def test_events_are_found_by_account_time_and_pattern(region: Region, clock: ManualClock) -> None:
    def write(cause: str, owner: AccountId = ACCOUNT) -> None:
        theirs = replace(SNAPSHOT, owner_id=owner)
        region.metadata.run(lambda txn: record.snapshot_created(txn, region, theirs, cause))
        clock.advance(10)

    for cause in ("", "a", "", "b"):
        write(cause)
    write("theirs", OTHER_ACCOUNT)
    failed = EventPattern('{"detail": {"result": ["failed"]}}')
    found = list_events(region, EventFilter(failed))
    assert [event.detail["cause"] for _, event in found] == ["a", "b"]
    assert [number for number, _ in found] == [2, 4]
    found = list_events(region, EventFilter(since_ns=NOW + 20 * 10**9))
    assert [event.detail["cause"] for _, event in found] == ["", "b"]
    assert [number for number, _ in list_events(region, EventFilter(), limit=2)] == [3, 4]
    last, rest = events_after(region, 2, EventFilter())
    assert (last, len(rest)) == (5, 2)
    assert events_after(region, last, EventFilter()) == (5, [])


def kept_numbers(region: Region) -> list[int]:
    return [number for number, _ in list_events(region, EventFilter())]


def test_old_events_go_but_never_one_that_a_sink_awaits(
    region: Region, clock: ManualClock
) -> None:
    def write(count: int) -> None:
        for _ in range(count):
            region.metadata.run(lambda txn: record.snapshot_created(txn, region, SNAPSHOT))

    write(100)
    cursor = Cursor(delivered=40)
    region.metadata.run(lambda txn: put_cursor(txn, "log", cursor))
    clock.advance(91 * 86_400)
    write(28)
    assert kept_numbers(region) == list(range(41, 129))
    region.metadata.run(lambda txn: remove_cursor(txn, "log"))
    assert region.metadata.read(lambda reader: find_cursor(reader, "log")) is None
    write(64)
    assert kept_numbers(region) == list(range(101, 193))


def test_events_that_are_too_many_go(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ebsim.catalog.event_log.COUNT_MAX", 50)
    for _ in range(128):
        region.metadata.run(lambda txn: record.snapshot_created(txn, region, SNAPSHOT))
    assert kept_numbers(region) == list(range(79, 129))
