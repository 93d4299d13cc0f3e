"""The documents and rows that are printed."""

import json
from dataclasses import replace
from typing import Any

import pytest

from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.volume import Attachment, Volume
from ebsim.cli.amazon_shapes import SNAPSHOT_COLUMNS, snapshot_document, snapshot_row
from ebsim.cli.volume_shapes import (
    STATUS_COLUMNS,
    VOLUME_COLUMNS,
    SeenVolume,
    status_document,
    status_row,
    volume_document,
    volume_row,
)
from ebsim.engine.volume_status import VolumeStatus
from ebsim.errors import EbsimError, MetadataCorrupt, StorageUnavailable
from ebsim.ids import AccountId, SnapshotId, VolumeId

START_NS = 1_700_000_000_123_000_000
"""2023-11-14T22:13:20.123Z"""

VOLUME_ID = VolumeId("vol-00000000000000001")
OWNER_ID = AccountId("123456789012")


def pending() -> Snapshot:
    return Snapshot(
        snapshot_id=SnapshotId("snap-00000000000000001"),
        volume_id=VOLUME_ID,
        owner_id=OWNER_ID,
        state=SnapshotState.PENDING,
        start_time_ns=START_NS,
        size_bytes=(1 << 30) + 512,
        block_size=512 << 10,
        generation=1,
    )


def completed() -> Snapshot:
    return Snapshot(
        snapshot_id=SnapshotId("snap-00000000000000002"),
        volume_id=VOLUME_ID,
        owner_id=OWNER_ID,
        state=SnapshotState.COMPLETED,
        start_time_ns=START_NS,
        size_bytes=1 << 30,
        block_size=512 << 10,
        generation=2,
        parent_id=SnapshotId("snap-00000000000000001"),
        completion_time_ns=START_NS + 10**9,
        description="nightly",
        tags={"env": "test", "app": "db"},
        state_message="the source changed while it was read",
        block_count=2048,
        changed_block_count=3,
        stored_bytes=1 << 20,
        referenced_bytes=1 << 29,
    )


def test_a_completed_snapshot_has_amazon_s_members_then_ours() -> None:
    assert json.loads(json.dumps(snapshot_document(completed()))) == {
        "SnapshotId": "snap-00000000000000002",
        "VolumeId": "vol-00000000000000001",
        "State": "completed",
        "StateMessage": "the source changed while it was read",
        "StartTime": "2023-11-14T22:13:20.123Z",
        "CompletionTime": "2023-11-14T22:13:21.123Z",
        "Progress": "100%",
        "OwnerId": "123456789012",
        "Description": "nightly",
        "VolumeSize": 1,
        "Encrypted": False,
        "StorageTier": "standard",
        "TransferType": "standard",
        "FullSnapshotSizeInBytes": 1 << 30,
        "Tags": [{"Key": "app", "Value": "db"}, {"Key": "env", "Value": "test"}],
        "SizeBytes": 1 << 30,
        "BlockSize": 512 << 10,
        "BlockCount": 2048,
        "ChangedBlockCount": 3,
        "StoredBytes": 1 << 20,
        "ParentSnapshotId": "snap-00000000000000001",
    }


def test_a_pending_snapshot_leaves_out_what_is_not_known() -> None:
    document = snapshot_document(pending())
    assert {"CompletionTime", "ParentSnapshotId", "StateMessage"} & document.keys() == set()
    assert (document["State"], document["Progress"]) == ("pending", "0%")


def test_a_disk_a_few_bytes_over_a_gib_is_two_gib_to_amazon_and_exact_to_us() -> None:
    document = snapshot_document(pending())
    assert (document["VolumeSize"], document["SizeBytes"]) == (2, (1 << 30) + 512)


def test_rows_have_a_cell_for_every_column() -> None:
    volume = Volume(VOLUME_ID, OWNER_ID, "/var/disk.img", 1 << 30, 512 << 10, START_NS)
    seen = SeenVolume(volume)
    assert dict(zip((c.header for c in VOLUME_COLUMNS), volume_row(seen), strict=True)) == {
        "volume": "vol-00000000000000001",
        "created": "2023-11-14T22:13:20.123Z",
        "state": "",
        "size": "1.00 GiB",
        "block": "512 KiB",
        "present": "",
        "dirty": "",
        "attached": "",
        "source": "/var/disk.img",
    }
    row = dict(zip((c.header for c in SNAPSHOT_COLUMNS), snapshot_row(completed()), strict=True))
    assert (row["added"], row["parent"], row["description"]) == (
        "1.00 MiB",
        "snap-00000000000000001",
        "nightly",
    )


def test_a_volume_has_its_exact_size_and_source() -> None:
    volume = Volume(VOLUME_ID, OWNER_ID, "/var/disk.img", (1 << 30) + 1, 512 << 10, START_NS)
    assert volume_document(SeenVolume(volume)) == {
        "VolumeId": "vol-00000000000000001",
        "CreateTime": "2023-11-14T22:13:20.123Z",
        "Size": 2,
        "OwnerId": "123456789012",
        "SizeBytes": (1 << 30) + 1,
        "BlockSize": 512 << 10,
        "SourceLocation": "/var/disk.img",
    }


ATTACHMENT = Attachment("i-00000000000000001", "/dev/sdf", START_NS)


def local_volume(attachment: Attachment | None = None) -> Volume:
    return Volume(
        VOLUME_ID,
        OWNER_ID,
        "",
        1 << 30,
        512 << 10,
        START_NS,
        is_local=True,
        snapshot_id=SnapshotId("snap-00000000000000001"),
        tags={"b": "2", "a": "1"},
        attachment=attachment,
    )


def half_loaded(**changes: Any) -> VolumeStatus:
    volume = local_volume(ATTACHMENT)
    told = VolumeStatus(volume, 1 << 29, 1 << 20, 1 << 28, False, loaded_percent=40)
    return replace(told, **changes)


def test_a_volume_in_an_instance_has_amazon_s_members_then_ours() -> None:
    served = half_loaded(pid=7, purpose="attach", uris=("nbd+unix:///v?socket=s",))
    assert json.loads(json.dumps(volume_document(SeenVolume(served.volume, served)))) == {
        "VolumeId": "vol-00000000000000001",
        "CreateTime": "2023-11-14T22:13:20.123Z",
        "Size": 1,
        "OwnerId": "123456789012",
        "SizeBytes": 1 << 30,
        "BlockSize": 512 << 10,
        "State": "in-use",
        "SnapshotId": "snap-00000000000000001",
        "Encrypted": False,
        "FastRestored": False,
        "Attachments": [
            {
                "VolumeId": "vol-00000000000000001",
                "InstanceId": "i-00000000000000001",
                "Device": "/dev/sdf",
                "State": "attached",
                "AttachTime": "2023-11-14T22:13:20.123Z",
                "DeleteOnTermination": False,
            }
        ],
        "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}],
        "PresentBytes": 1 << 29,
        "DirtyBytes": 1 << 20,
        "AllocatedBytes": 1 << 28,
        "StandsAlone": False,
        "OpenedBy": {"ProcessId": 7, "Purpose": "attach", "Uris": ["nbd+unix:///v?socket=s"]},
    }


def test_a_volume_being_loaded_has_the_status_that_amazon_gives_it() -> None:
    loading = half_loaded(hydration="running", seconds_left=12.6, mib_per_second=100)
    assert status_document(SeenVolume(loading.volume, loading)) == {
        "VolumeId": "vol-00000000000000001",
        "VolumeStatus": {
            "Status": "ok",
            "Details": [
                {"Name": "io-enabled", "Status": "passed"},
                {"Name": "initialization-state", "Status": "initializing"},
            ],
        },
        "Actions": [],
        "Events": [],
        "AttachmentStatuses": [
            {"IoPerformance": "not-applicable", "InstanceId": "i-00000000000000001"}
        ],
        "InitializationStatusDetails": {
            "InitializationType": "provisioned-rate",
            "Progress": 40,
            "EstimatedTimeToCompleteInSeconds": 13,
        },
    }


DAMAGE = MetadataCorrupt(where="state.json", found="nothing")
SILENCE = StorageUnavailable("the process does not answer.")


@pytest.mark.parametrize(
    ("failure", "state", "health"),
    [(DAMAGE, "error", "impaired"), (SILENCE, "in-use", "insufficient-data")],
)
def test_a_volume_that_cannot_be_asked_is_not_called_well(
    failure: EbsimError, state: str, health: str
) -> None:
    seen = SeenVolume(local_volume(), failure=failure)
    assert volume_document(seen)["State"] == state
    row = dict(zip((c.header for c in STATUS_COLUMNS), status_row(seen), strict=True))
    assert (row["status"], row["initialization"]) == (health, "insufficient-data")
    assert row["failure"] == str(failure)


def test_a_volume_of_which_some_cannot_be_had_is_impaired() -> None:
    failing = half_loaded(hydration="waiting", failure="chunk 12 is damaged")
    document = status_document(SeenVolume(failing.volume, failing))
    assert document["VolumeStatus"] == {
        "Status": "impaired",
        "Details": [
            {"Name": "io-enabled", "Status": "failed"},
            {"Name": "initialization-state", "Status": "initializing"},
        ],
    }
    assert document["Failure"] == "chunk 12 is damaged"
