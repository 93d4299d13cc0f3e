"""Making, finding, copying and deleting volumes."""

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.ec2 import ids
from ebsim.api.ec2.matching import matching
from ebsim.api.ec2.pages import page_of
from ebsim.api.ec2.places import zone_id
from ebsim.api.ec2.shapes import filters_in, refuse_ids_with_page, specified_tags
from ebsim.api.ec2.volume_rows import FIELDS, named_volumes, volume_row
from ebsim.api.ec2.volume_types import speed_in
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.api.regions import zones_of
from ebsim.catalog.client_tokens import TokenUse
from ebsim.catalog.snapshot import SnapshotState
from ebsim.catalog.volume import Volume
from ebsim.catalog.volume_settings import VolumeSettings
from ebsim.engine.copy_volume import copy_volume
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.list_snapshots import show_snapshot
from ebsim.engine.list_volumes import show_volume
from ebsim.engine.region import Region
from ebsim.engine.remove_volume import remove_volume
from ebsim.engine.resize_volume import resize_volume
from ebsim.errors import UnsupportedParameter, VolumeInUse
from ebsim.units import whole_gib

TOKEN_LENGTH_MAX = 64
RATE_MIN, RATE_MAX = 100, 300
"""MiB a second that a volume may be told to be loaded with."""


def create(call: Call, params: Params) -> Answer:
    """Make a volume, empty or of a snapshot; the same client token makes it once."""
    refuse_unsupported_kinds(params)
    zone = _zone(call, params)
    tags = specified_tags(params, "volume")
    options = volume_options(call, params, zone, tags)
    made = create_volume(call.region, options)
    call.look_after([made.volume_id])
    return _as_created(call.region, made)


def volume_options(
    call: Call, params: Params, zone: str, tags: dict[str, str], *, deletes: bool = False
) -> VolumeOptions:
    """What *params*, named as CreateVolume names them, say of a new volume.

    Raises:
        ApiError, SnapshotNotFound: they make no sense, or the snapshot cannot be used.
    """
    size_gib: int | None = params.get("Size")
    rate: int | None = params.get("VolumeInitializationRate")
    snapshot_id: str | None = params.get("SnapshotId") or None
    if rate is not None:
        _check_rate(rate, snapshot_id)
    if snapshot_id is not None:
        smallest = _usable_snapshot_size(call.region, ids.snapshot_id(snapshot_id))
        # As Amazon does: a size that is too small becomes the snapshot's.
        size_gib = max(size_gib or 0, smallest)
    elif size_gib is None:
        raise ApiError(
            "MissingParameter", "The request must contain the parameter size or snapshotId"
        )
    return VolumeOptions(
        snapshot=snapshot_id,
        size_gib=size_gib,
        tags=tags,
        settings=VolumeSettings(
            speed=speed_in(params, size_gib), zone=zone, delete_on_termination=deletes
        ),
        initialization_rate=rate,
        token_use=token_use(call, params),
    )


def _check_rate(rate: int, snapshot_id: str | None) -> None:
    """Refuse a rate that Amazon does not offer, or that there is nothing to load at.

    Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html
    """
    if not RATE_MIN <= rate <= RATE_MAX:
        raise ApiError(
            "InvalidParameterValue",
            f"Value ({rate}) for parameter volumeInitializationRate is invalid. Expected: "
            f"{RATE_MIN} to {RATE_MAX} MiB/s.",
        )
    if snapshot_id is None:
        raise ApiError(
            "InvalidParameterCombination",
            "The parameter volumeInitializationRate may only be used with snapshotId.",
        )


def refuse_unsupported_kinds(params: Params) -> None:
    """Refuse by name what volumes cannot be here.

    Raises:
        UnsupportedParameter: encryption, or several attachments, is asked for.
    """
    for name in ("Encrypted", "MultiAttachEnabled"):
        if params.get(name):
            raise UnsupportedParameter(
                f"The parameter {name}=true is not supported by ebsim. Nothing was changed."
            )


def token_use(call: Call, params: Params) -> TokenUse | None:
    """The use of the request's client token, if it has one.

    Raises:
        ApiError: it is longer than EC2 takes.
    """
    token = params.get("ClientToken")
    if not token:
        return None
    if len(token) > TOKEN_LENGTH_MAX:
        raise ApiError(
            "InvalidParameterValue",
            f"Value ({token}) for parameter clientToken is invalid. Expected: at most "
            f"{TOKEN_LENGTH_MAX} characters.",
        )
    same = {name: value for name, value in params.items() if name != "ClientToken"}
    return TokenUse(call.account_id, call.action, token, same)


def _usable_snapshot_size(region: Region, snapshot_id: str) -> int:
    """The size in GiB of a snapshot that a volume can be made of."""
    snapshot = show_snapshot(region, snapshot_id)
    if snapshot.state is not SnapshotState.COMPLETED:
        raise ApiError("IncorrectState", f"Snapshot is in invalid state - {snapshot.state.value}")
    return snapshot.volume_size_gib


def _zone(call: Call, params: Params) -> str:
    """The zone that is named, by name or id.

    Raises:
        ApiError: none is, or both ways, or there is no such zone here.
    """
    name, by_id = params.get("AvailabilityZone"), params.get("AvailabilityZoneId")
    if name and by_id:
        raise ApiError(
            "InvalidParameterCombination",
            "The parameters availabilityZone and availabilityZoneId may not be used together.",
        )
    if not name and not by_id:
        raise ApiError(
            "MissingParameter", "The request must contain the parameter availabilityZone"
        )
    return zone_named(call, str(name or by_id))


def zone_named(call: Call, asked: str) -> str:
    """The zone of the call's region whose name or id is *asked*.

    Raises:
        ApiError: there is none.
    """
    for zone in zones_of(call.region_name):
        if asked in {zone, zone_id(zone)}:
            return zone
    raise ApiError("InvalidZone.NotFound", f"The zone '{asked}' does not exist.")


def _as_created(region: Region, volume: Volume) -> Answer:
    """The row of a volume that has just been made: its time in whole seconds."""
    row = volume_row(region, volume)
    at = row["CreateTime"].replace(microsecond=0)
    return {**row, "State": "creating", "CreateTime": at}


def describe(call: Call, params: Params) -> Answer:
    """The volumes that are named or that the filters let through, a page at a time."""
    refuse_ids_with_page(params, "VolumeIds")
    region = call.region
    rows = [volume_row(region, one) for one in named_volumes(region, params.get("VolumeIds"))]
    chosen = matching(rows, filters_in(params), FIELDS)
    page, token = page_of(chosen, params, lambda row: str(row["VolumeId"]))
    return {"Volumes": page, "NextToken": token}


def delete(call: Call, params: Params) -> Answer:
    """Delete a volume; its snapshots stay."""
    name = ids.volume_id(params["VolumeId"])
    region = call.region
    held = show_volume(region, name).attachment
    if held is not None:
        raise VolumeInUse(f"Volume {name} is currently attached to {held.instance_id}")
    remove_volume(region, name)
    return {}


def copy(call: Call, params: Params) -> Answer:
    """Make a volume of the bytes of another one, at once."""
    refuse_unsupported_kinds(params)
    tags = specified_tags(params, "volume")
    region = call.region
    source = show_volume(region, ids.volume_id(params["SourceVolumeId"]))
    old_size = whole_gib(source.size_bytes)
    size_gib = params.get("Size") or old_size
    if size_gib < old_size:
        raise ApiError(
            "InvalidParameterValue",
            f"Volume of {size_gib}GiB is smaller than the source volume of {old_size}GiB.",
        )
    speed = speed_in(params, size_gib, source.settings.speed)
    settings = VolumeSettings(speed=speed, zone=source.settings.zone)
    made = copy_volume(
        region,
        source.volume_id,
        tags=tags,
        settings=settings,
        token_use=token_use(call, params),
    )
    if size_gib > whole_gib(made.size_bytes):
        # A crash before this leaves a smaller copy, which the same request makes larger.
        made = resize_volume(region, made.volume_id, size_gib)
    call.look_after([source.volume_id, made.volume_id])
    return {"Volumes": [_as_created(region, made)]}


ACTIONS = (
    action(
        "CreateVolume",
        create,
        "AvailabilityZone",
        "AvailabilityZoneId",
        "ClientToken",
        "Encrypted",
        "Iops",
        "MultiAttachEnabled",
        "Size",
        "SnapshotId",
        "TagSpecifications",
        "Throughput",
        "VolumeInitializationRate",
        "VolumeType",
    ),
    action("DescribeVolumes", describe, "VolumeIds", "Filters", "MaxResults", "NextToken"),
    action("DeleteVolume", delete, "VolumeId"),
    action(
        "CopyVolumes",
        copy,
        "ClientToken",
        "Encrypted",
        "Iops",
        "MultiAttachEnabled",
        "Size",
        "SourceVolumeId",
        "TagSpecifications",
        "Throughput",
        "VolumeType",
    ),
)
