"""What is in the recycle bin, and taking it out."""

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.ec2 import ids
from ebsim.api.ec2.pages import page_of
from ebsim.api.ec2.shapes import refuse_ids_with_page
from ebsim.api.ec2.snapshots import snapshot_row
from ebsim.api.ec2.volume_rows import volume_row
from ebsim.api.params import Answer, Params
from ebsim.api.scalars import iso_text
from ebsim.catalog.bin_stay import BinStay
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.volume import Volume
from ebsim.clock import to_datetime
from ebsim.engine.recycle_bin import (
    restore_snapshot_from_bin,
    restore_volume_from_bin,
    snapshots_in_bin,
    volumes_in_bin,
)
from ebsim.engine.region import Region
from ebsim.errors import SnapshotNotFound, VolumeNotFound
from ebsim.ids import VolumeId

_RESTORED = (
    "SnapshotId", "Description", "Encrypted", "OwnerId", "Progress", "StartTime", "State",
    "VolumeId", "VolumeSize",
)  # fmt: skip
_OF_VOLUME = (
    "VolumeId", "VolumeType", "State", "Size", "Iops", "Throughput", "AvailabilityZone",
    "AvailabilityZoneId", "SourceVolumeId", "SnapshotId", "Operator", "CreateTime",
)  # fmt: skip


def list_snapshots(call: Call, params: Params) -> Answer:
    """The snapshots in the bin that are named, or all, a page at a time."""
    refuse_ids_with_page(params, "SnapshotIds")
    rows = sorted((_snapshot_row(one) for one in snapshots_in_bin(call.region)), key=_place)
    if params.get("SnapshotIds"):
        names = {ids.snapshot_id(text) for text in params["SnapshotIds"]}
        rows = [row for row in rows if row["SnapshotId"] in names]
        for missing in sorted(names - {row["SnapshotId"] for row in rows}):
            raise SnapshotNotFound(missing)
    page, token = page_of(rows, params, _place)
    return {"Snapshots": page, "NextToken": token}


def _snapshot_row(snapshot: Snapshot) -> Answer:
    return {
        "SnapshotId": snapshot.snapshot_id,
        **_times(snapshot.bin_stay),
        "Description": snapshot.description,
        "VolumeId": snapshot.volume_id,
    }


def _times(stay: BinStay | None) -> Answer:
    assert stay is not None, "it was listed as in the bin"
    return {
        "RecycleBinEnterTime": to_datetime(stay.enter_time_ns),
        "RecycleBinExitTime": to_datetime(stay.exit_time_ns),
    }


def _place(row: Answer) -> str:
    return f"{iso_text(row['RecycleBinEnterTime'])} {row.get('SnapshotId')} {row.get('VolumeId')}"


def restore_snapshot(call: Call, params: Params) -> Answer:
    """Take a snapshot out of the bin."""
    snapshot = restore_snapshot_from_bin(call.region, ids.snapshot_id(params["SnapshotId"]))
    row = snapshot_row(snapshot)
    return {name: row[name] for name in _RESTORED}


def list_volumes(call: Call, params: Params) -> Answer:
    """The volumes in the bin that are named, or all, a page at a time."""
    refuse_ids_with_page(params, "VolumeIds")
    region = call.region
    rows = sorted((_volume_row(region, one) for one in volumes_in_bin(region)), key=_place)
    if params.get("VolumeIds"):
        names = {ids.volume_id(text) for text in params["VolumeIds"]}
        rows = [row for row in rows if row["VolumeId"] in names]
        for missing in sorted(names - {row["VolumeId"] for row in rows}):
            raise VolumeNotFound(missing)
    page, token = page_of(rows, params, _place)
    return {"Volumes": page, "NextToken": token}


def _volume_row(region: Region, volume: Volume) -> Answer:
    row = volume_row(region, volume)
    return {**{name: row.get(name) for name in _OF_VOLUME}, **_times(volume.bin_stay)}


def restore_volume(call: Call, params: Params) -> Answer:
    """Take a volume out of the bin."""
    name = VolumeId(ids.volume_id(params["VolumeId"]))
    restore_volume_from_bin(call.region, name)
    call.look_after([name])
    return {"Return": True}


ACTIONS = (
    action("ListSnapshotsInRecycleBin", list_snapshots, "SnapshotIds", "MaxResults", "NextToken"),
    action("RestoreSnapshotFromRecycleBin", restore_snapshot, "SnapshotId"),
    action("ListVolumesInRecycleBin", list_volumes, "VolumeIds", "MaxResults", "NextToken"),
    action("RestoreVolumeFromRecycleBin", restore_volume, "VolumeId"),
)
