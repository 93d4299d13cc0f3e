"""Every event has exactly the fields that Amazon gives it, written out by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ebsim.catalog.event import detail_time, event_document
from ebsim.catalog.event_log import newest_events
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.snapshot_lock import DAY_NS, LockMode, SnapshotLock
from ebsim.catalog.volume import Volume
from ebsim.clock import ManualClock
from ebsim.engine import record_access_events as access
from ebsim.engine import record_events as record
from ebsim.engine import record_tier_events as tier
from ebsim.engine.region import Region
from ebsim.ids import SnapshotId, VolumeId
from ebsim.metadata.transactions import Transaction
from tests.engine.stores import ACCOUNT, BLOCK, OTHER_ACCOUNT

NOW = 1_700_000_000_000_000_000
NOW_TEXT = "2023-11-14T22:13:20.000Z"
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
START_TEXT = "2023-11-14T22:12:20.000Z"
VOLUME = Volume(VolumeId("vol-1"), ACCOUNT, "", BLOCK, BLOCK, NOW)
SNAPSHOT_ARN = "arn:aws:ec2::test:snapshot/snap-1"
SOURCE_ARN = "arn:aws:ec2::test:volume/vol-1"
LOCK = SnapshotLock(
    LockMode.COMPLIANCE,
    created_time_ns=NOW,
    duration_days=123,
    start_time_ns=NOW,
    expires_time_ns=NOW + 123 * DAY_NS,
    cool_off_hours=24,
    cool_off_expires_time_ns=NOW + DAY_NS,
)
COPY = replace(SNAPSHOT, copied_from="eu-west-1/snap-2")
TIMED = replace(COPY, completion_duration_minutes=15)
TIER = tier.TierFacts(start_ns=NOW - 60 * 10**9)


def recorded(region: Region, write: Callable[[Transaction], None]) -> dict[str, Any]:
    """The one event that *write* writes, as EventBridge sends it."""
    region.metadata.run(write)
    ((_, event),) = region.metadata.read(lambda reader: list(newest_events(reader)))
    return event_document(event)


SUCCEEDED = {"result": "succeeded", "cause": "", "request-id": ""}
FAILED = {"result": "failed", "cause": "why", "request-id": ""}
OF_SNAPSHOT = {"snapshot_id": SNAPSHOT_ARN, "startTime": START_TEXT, "endTime": NOW_TEXT}
LOCKED = {
    "snapshot_id": SNAPSHOT_ARN,
    "source": ACCOUNT,
    "lockState": "compliance-cooloff",
    "lockCreatedOn": NOW_TEXT,
    "lockExpiresOn": "2024-03-16T22:13:20.000Z",
    "lockDuration": 123,
    "lockStartDurationTime": NOW_TEXT,
    "cooOffPeriod": 24,
    "coolOffPeriodExpiresOn": "2023-11-15T22:13:20.000Z",
}

Write = Callable[[Transaction, Region], None]
CASES: dict[str, tuple[Write, str, dict[str, Any]]] = {
    "createSnapshot": (
        lambda txn, region: record.snapshot_created(txn, region, SNAPSHOT),
        "EBS Snapshot Notification",
        {"event": "createSnapshot", "source": SOURCE_ARN, **SUCCEEDED, **OF_SNAPSHOT},
    ),
    "createSnapshot failed": (
        lambda txn, region: record.snapshot_created(txn, region, SNAPSHOT, "why"),
        "EBS Snapshot Notification",
        {"event": "createSnapshot", "source": SOURCE_ARN, **FAILED, **OF_SNAPSHOT},
    ),
    "createSnapshots": (
        lambda txn, region: record.snapshots_created(txn, region, [SNAPSHOT]),
        "EBS Multi-Volume Snapshots Completion Status",
        {
            "event": "createSnapshots",
            **SUCCEEDED,
            "startTime": START_TEXT,
            "endTime": NOW_TEXT,
            "snapshots": [
                {"snapshot_id": SNAPSHOT_ARN, "source": SOURCE_ARN, "status": "completed"}
            ],
        },
    ),
    "copySnapshot": (
        lambda txn, region: record.snapshot_copied(txn, region, COPY),
        "EBS Snapshot Notification",
        {
            "event": "copySnapshot",
            **SUCCEEDED,
            **OF_SNAPSHOT,
            "source": "arn:aws:ec2::eu-west-1:snapshot/snap-2",
            "incremental": "false",
            "transferType": "standard",
        },
    ),
    "copySnapshot in time": (
        lambda txn, region: record.snapshot_copied(txn, region, TIMED, is_incremental=True),
        "EBS Snapshot Notification",
        {
            "event": "copySnapshot",
            **SUCCEEDED,
            **OF_SNAPSHOT,
            "source": "arn:aws:ec2::eu-west-1:snapshot/snap-2",
            "incremental": "true",
            "transferType": "time-based",
            "completionDurationStartTime": START_TEXT,
            "metCompletionDuration": "true",
        },
    ),
    "copySnapshot failed": (
        lambda txn, region: record.snapshot_copied(txn, region, COPY, "why"),
        "EBS Snapshot Notification",
        {
            "event": "copySnapshot",
            **FAILED,
            **OF_SNAPSHOT,
            "source": "arn:aws:ec2::eu-west-1:snapshot/snap-2",
        },
    ),
    "copy late": (
        lambda txn, region: record.copy_is_late(txn, region, TIMED, "slow"),
        "EBS Copy Snapshot Missed Completion Duration",
        {
            "event": "copySnapshot",
            "missedCompletionDurationCause": "slow",
            "snapshot_id": SNAPSHOT_ARN,
            "source": "arn:aws:ec2::eu-west-1:snapshot/snap-2",
            "startTime": START_TEXT,
            "transferType": "time-based",
        },
    ),
    "shareSnapshot": (
        lambda txn, region: record.snapshot_shared(txn, region, SNAPSHOT, OTHER_ACCOUNT),
        "EBS Snapshot Notification",
        {
            "event": "shareSnapshot",
            **SUCCEEDED,
            "snapshot_id": SNAPSHOT_ARN,
            "source": ACCOUNT,
            "startTime": NOW_TEXT,
            "endTime": NOW_TEXT,
        },
    ),
    "archiveSnapshot": (
        lambda txn, region: tier.snapshot_archived(txn, region, SNAPSHOT, TIER),
        "EBS Snapshot Notification",
        {"event": "archiveSnapshot", **SUCCEEDED, **OF_SNAPSHOT},
    ),
    "permanentRestoreSnapshot": (
        lambda txn, region: tier.snapshot_restored_permanently(txn, region, SNAPSHOT, TIER, "why"),
        "EBS Snapshot Notification",
        {"event": "permanentRestoreSnapshot", **FAILED, **OF_SNAPSHOT},
    ),
    "temporaryRestoreSnapshot": (
        lambda txn, region: tier.snapshot_restored_temporarily(
            txn, region, SNAPSHOT, replace(TIER, restore_expiry_ns=NOW)
        ),
        "EBS Snapshot Notification",
        {
            "event": "temporaryRestoreSnapshot",
            **SUCCEEDED,
            **OF_SNAPSHOT,
            "restoreExpiryTime": NOW_TEXT,
            "recycleBinExitTime": "",
        },
    ),
    "restoreExpiry": (
        lambda txn, region: tier.temporary_restore_expired(txn, region, SNAPSHOT, TIER),
        "EBS Snapshot Notification",
        {"event": "restoreExpiry", **SUCCEEDED, **OF_SNAPSHOT},
    ),
    "lock while pending": (
        lambda txn, region: access.snapshot_locked(
            txn,
            region,
            SNAPSHOT,
            replace(LOCK, start_time_ns=None, expires_time_ns=None, cool_off_expires_time_ns=None),
            "snapshot failed",
        ),
        "EBS Snapshot Notification",
        {
            "event": "lockSnapshot",
            **FAILED,
            "cause": "snapshot failed",
            "snapshot_id": SNAPSHOT_ARN,
            "source": ACCOUNT,
            "lockState": "pending-compliance",
            "lockCreatedOn": NOW_TEXT,
            "lockDuration": 123,
            "cooOffPeriod": 24,
        },
    ),
    "fast restore": (
        lambda txn, region: tier.fast_restore_changed(
            txn, region, SNAPSHOT, "test-1a", "enabling", message="Client.UserInitiated"
        ),
        "EBS Fast Snapshot Restore State-change Notification",
        {
            "snapshot-id": "snap-1",
            "state": "enabling",
            "zone": "test-1a",
            "message": "Client.UserInitiated",
        },
    ),
    "lockSnapshot": (
        lambda txn, region: access.snapshot_locked(txn, region, SNAPSHOT, LOCK),
        "EBS Snapshot Notification",
        {"event": "lockSnapshot", **SUCCEEDED, **LOCKED},
    ),
    "lockDurationExpiry": (
        lambda txn, region: access.lock_expired(
            txn, region, SNAPSHOT, replace(LOCK, expires_time_ns=NOW)
        ),
        "EBS Snapshot Notification",
        {
            "event": "lockDurationExpiry",
            **SUCCEEDED,
            "snapshot_id": SNAPSHOT_ARN,
            "source": ACCOUNT,
            "lockState": "expired",
            "lockCreatedOn": NOW_TEXT,
            "lockExpiresOn": NOW_TEXT,
            "lockDuration": 123,
        },
    ),
    "cooloffperiodExpiry": (
        lambda txn, region: access.cool_off_expired(txn, region, SNAPSHOT, LOCK),
        "EBS Snapshot Notification",
        {"event": "cooloffperiodExpiry", **SUCCEEDED, **LOCKED},
    ),
    "block public access": (
        lambda txn, region: access.public_access_blocked(
            txn, region, "block-all-sharing", "It is on."
        ),
        "EBS Snapshot Block Public Access Enabled",
        {"SnapshotBlockPublicAccessState": "block-all-sharing", "message": "It is on."},
    ),
    "createVolume failed": (
        lambda txn, region: record.volume_created(txn, region, VOLUME, "why"),
        "EBS Volume Notification",
        {"event": "createVolume", **FAILED},
    ),
    "reattachVolume": (
        lambda txn, region: record.volume_attached(txn, region, VOLUME, "why", again=True),
        "EBS Volume Notification",
        {"event": "reattachVolume", **FAILED},
    ),
    "initializeVolume": (
        lambda txn, region: record.volume_initialized(txn, region, VOLUME),
        "EBS Volume Notification",
        {
            "event": "initializeVolume",
            "result": "succeeded",
            "completionTime": NOW_TEXT,
            "request-id": "",
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_event_has_exactly_the_fields_that_amazon_gives_it(name: str, region: Region) -> None:
    write, detail_type, detail = CASES[name]
    document = recorded(region, lambda txn: write(txn, region))
    assert document["detail"] == detail
    assert document["detail-type"] == detail_type
    assert document["source"] == "aws.ec2"
    assert document["version"] == "0"
    assert document["time"] == "2023-11-14T22:13:20Z"
    assert document["region"] == "test"
    assert set(document) == {
        *("version", "id", "detail-type", "source"),
        *("account", "time", "region", "resources", "detail"),
    }


def test_a_shared_snapshot_is_an_event_of_the_account_that_gets_it(region: Region) -> None:
    document = recorded(region, lambda txn: CASES["shareSnapshot"][0](txn, region))
    assert document["account"] == OTHER_ACCOUNT


def test_an_event_of_a_volume_names_it_and_the_request(region: Region) -> None:
    asked = replace(region, request_id="01234567-0123-0123-0123-0123456789ab")
    document = recorded(region, lambda txn: record.volume_deleted(txn, asked, VOLUME))
    assert document["resources"] == ["arn:aws:ec2:test:123456789012:volume/vol-1"]
    assert document["detail"]["request-id"] == "01234567-0123-0123-0123-0123456789ab"


def test_times_in_details_are_whole_seconds() -> None:
    assert detail_time(NOW + 999_999_999) == NOW_TEXT
    assert detail_time(None) == ""


def test_a_copy_that_is_done_too_late_is_two_events(region: Region, clock: ManualClock) -> None:
    clock.advance(15 * 60)
    region.metadata.run(lambda txn: record.snapshot_copied(txn, region, TIMED))
    events = region.metadata.read(lambda reader: [event for _, event in newest_events(reader)])
    late = "Snapshot copy was not able to meet the specified completion duration."
    assert [event.detail["missedCompletionDurationCause"] for event in events] == [late, late]
    assert events[0].detail["metCompletionDuration"] == "false"
    assert events[1].detail_type == "EBS Copy Snapshot Missed Completion Duration"
