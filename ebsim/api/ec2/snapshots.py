"""Taking, finding and deleting snapshots."""

from collections.abc import Sequence

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.ec2 import ids
from ebsim.api.ec2.instances import live_instance
from ebsim.api.ec2.shapes import (
    filters_in,
    page_size,
    refuse_ids_with_page,
    specified_tags,
    tag_list,
)
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.api.work import Announce
from ebsim.catalog.audience import Audience
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.snapshot_filter import check_filters, fits, progress_of
from ebsim.clock import to_datetime
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.instances import volumes_of_instance
from ebsim.engine.list_snapshots import list_snapshots, shown_snapshots
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.engine.source_volume import is_local_volume

SET_SIZE_MAX = 40
PENDING_PER_VOLUME_MAX = 5


def snapshot_row(snapshot: Snapshot) -> Answer:
    """*snapshot* as DescribeSnapshots gives it."""
    row: Answer = {
        **_always(snapshot),
        "State": snapshot.state.value,
        "StateMessage": snapshot.state_message or None,
        "Progress": progress_of(snapshot),
        "StorageTier": snapshot.storage_tier.value,
        "TransferType": snapshot.transfer_type,
        "CompletionDurationMinutes": snapshot.completion_duration_minutes,
    }
    if snapshot.restore_expiry_time_ns is not None:
        row["RestoreExpiryTime"] = to_datetime(snapshot.restore_expiry_time_ns)
    if snapshot.state is SnapshotState.COMPLETED:
        assert snapshot.completion_time_ns is not None, "completed at some time"
        row["CompletionTime"] = to_datetime(snapshot.completion_time_ns)
        # All blocks that it addresses, its own and inherited ones: not what it added.
        row["FullSnapshotSizeInBytes"] = snapshot.block_count * snapshot.block_size
    return row


def _always(snapshot: Snapshot) -> Answer:
    return {
        "SnapshotId": snapshot.snapshot_id,
        "VolumeId": snapshot.volume_id,
        "StartTime": to_datetime(snapshot.start_time_ns),
        "OwnerId": snapshot.owner_id,
        "Description": snapshot.description,
        "VolumeSize": snapshot.volume_size_gib,
        "Encrypted": False,
        "Tags": tag_list(snapshot.tags),
    }


def create(call: Call, params: Params) -> Answer:
    """Snapshot a volume; the reply is that of a snapshot that has just begun."""
    volume_id = ids.volume_id(params["VolumeId"])
    options = SnapshotOptions(
        description=described(params),
        tags=specified_tags(params, "snapshot"),
        is_announced=True,
    )
    region = call.region
    is_local = is_local_volume(region, volume_id)
    refuse_too_many(call, [volume_id])
    call.count_snapshot_request(volume_id)

    def take(announce: Announce[Sequence[Snapshot]]) -> None:
        if is_local:
            create_snapshot_set(region, [volume_id], options, on_begun=announce)
        else:
            create_snapshot(region, volume_id, options, on_begun=announce)

    with call.room_for(1):
        (snapshot,) = call.work.begin([volume_id], take)
    return _info(snapshot)


def refuse_too_many(call: Call, volume_ids: Sequence[str]) -> None:
    """Refuse another snapshot of volumes that have as many pending as EC2 allows.

    Raises:
        ApiError: one has.
    """
    if any(call.work.waiting_for(name) >= PENDING_PER_VOLUME_MAX for name in volume_ids):
        raise ApiError(
            "ConcurrentSnapshotLimitExceeded",
            "Maximum allowed in-progress snapshots for a single volume exceeded.",
        )


def create_several(call: Call, params: Params) -> Answer:
    """Snapshot the volumes of an instance at one instant."""
    asked: Params = params["InstanceSpecification"]
    instance_id = ids.instance_id(asked["InstanceId"])
    excluded = [ids.volume_id(name) for name in asked.get("ExcludeDataVolumeIds", ())]
    description, tags = described(params), specified_tags(params, "snapshot")
    region = call.region
    live_instance(region, instance_id)
    volumes = volumes_of_instance(
        region,
        instance_id,
        exclude_boot=bool(asked.get("ExcludeBootVolume")),
        exclude_data=excluded,
    )
    if len(volumes) > SET_SIZE_MAX:
        raise ApiError(
            "InvalidParameterValue",
            f"{len(volumes)} volumes are more than {SET_SIZE_MAX}, which one call may snapshot.",
        )
    options = SnapshotOptions(
        description=description,
        tags=tags,
        copies_volume_tags="CopyTagsFromSource" in params,
        is_announced=True,
    )
    names = [one.volume_id for one in volumes]
    refuse_too_many(call, names)

    def take(announce: Announce[Sequence[Snapshot]]) -> None:
        create_snapshot_set(region, names, options, on_begun=announce)

    with call.room_for(len(names)):
        made = call.work.begin(names, take)
    return {"Snapshots": [_info(one) for one in made]}


def _info(snapshot: Snapshot) -> Answer:
    """*snapshot*, just begun, as CreateSnapshots gives it."""
    return {**_always(snapshot), "State": "pending", "Progress": ""}


def described(params: Params) -> str:
    """``Description``.

    Raises:
        ApiError: it has characters that EC2 refuses there.
    """
    description: str = params.get("Description", "")
    if not description.isascii() or len(description) > 255:
        raise ApiError(
            "InvalidParameterValue",
            f"Value ({description}) for parameter description is invalid. Expected: at most 255 "
            "ASCII characters.",
        )
    return description


def describe(call: Call, params: Params) -> Answer:
    """The snapshots that are named or that the filters let through, a page at a time."""
    refuse_ids_with_page(params, "SnapshotIds")
    filters = filters_in(params)
    check_filters(filters)
    region = call.region
    audience = Audience.of(
        call.account_id,
        owners=params.get("OwnerIds", ()),
        restorable_by=params.get("RestorableByUserIds", ()),
    )
    if params.get("SnapshotIds"):
        named = dict.fromkeys(ids.snapshot_id(text) for text in params["SnapshotIds"])
        found = shown_snapshots(region, list(named), audience)
        return {"Snapshots": [snapshot_row(one) for one in found if fits(one, filters)]}
    page = list_snapshots(
        region,
        filters,
        audience=audience,
        max_results=page_size(params),
        next_token=params.get("NextToken"),
    )
    return {
        "Snapshots": [snapshot_row(one) for one in page.snapshots],
        "NextToken": page.next_token,
    }


def delete(call: Call, params: Params) -> Answer:
    """Delete a snapshot; what no other needs is given back."""
    delete_snapshots(call.region, [ids.snapshot_id(params["SnapshotId"])])
    return {}


ACTIONS = (
    action("CreateSnapshot", create, "VolumeId", "Description", "TagSpecifications"),
    action(
        "CreateSnapshots",
        create_several,
        "CopyTagsFromSource",
        "Description",
        "InstanceSpecification",
        "TagSpecifications",
    ),
    action(
        "DescribeSnapshots",
        describe,
        "SnapshotIds",
        "OwnerIds",
        "RestorableByUserIds",
        "Filters",
        "MaxResults",
        "NextToken",
    ),
    action("DeleteSnapshot", delete, "SnapshotId"),
)
