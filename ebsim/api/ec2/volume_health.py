"""How volumes are, and whether they may be used when they are not well.

ebsim never takes a volume out of use by itself, so every volume has its I/O enabled.
"""

from collections.abc import Callable, Mapping, Sequence

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.ec2 import ids
from ebsim.api.ec2.matching import matching
from ebsim.api.ec2.pages import page_of
from ebsim.api.ec2.places import zone_id
from ebsim.api.ec2.shapes import filters_in, refuse_ids_with_page
from ebsim.api.ec2.volume_rows import named_volumes, zone_of
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.catalog.volume import Volume
from ebsim.engine.list_volumes import show_volume
from ebsim.engine.modify_volume import set_auto_enable_io
from ebsim.engine.region import Region
from ebsim.engine.volume_status import VolumeStatus, volume_status

_FIELDS: Mapping[str, Callable[[Answer], Sequence[str]]] = {
    "availability-zone": lambda row: [row["AvailabilityZone"]],
    "availability-zone-id": lambda row: [row["AvailabilityZoneId"]],
    "volume-status.status": lambda row: [row["VolumeStatus"]["Status"]],
    "volume-status.details-name": lambda row: [
        one["Name"] for one in row["VolumeStatus"]["Details"]
    ],
    "volume-status.details-status": lambda row: [
        one["Status"] for one in row["VolumeStatus"]["Details"]
    ],
    "action.code": lambda _: [],
    "action.description": lambda _: [],
    "action.event-id": lambda _: [],
    "event.description": lambda _: [],
    "event.event-id": lambda _: [],
    "event.event-type": lambda _: [],
    "event.not-after": lambda _: [],
    "event.not-before": lambda _: [],
    "operator.managed": lambda _: ["false"],
    "operator.principal": lambda _: [],
}
"""Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVolumeStatus.html"""


def describe_status(call: Call, params: Params) -> Answer:
    """How volumes are, and how far those of snapshots are loaded."""
    refuse_ids_with_page(params, "VolumeIds")
    region = call.region
    volumes = named_volumes(region, params.get("VolumeIds"))
    rows = [_row(region, one) for one in volumes if one.is_local]
    chosen = matching(rows, filters_in(params), _FIELDS)
    page, token = page_of(chosen, params, lambda row: str(row["VolumeId"]))
    return {"VolumeStatuses": page, "NextToken": token}


def _row(region: Region, volume: Volume) -> Answer:
    status = volume_status(region, volume)
    zone = zone_of(region, volume)
    is_loaded = status.loaded_percent == 100
    held = volume.attachment
    row: Answer = {
        "VolumeId": volume.volume_id,
        "AvailabilityZone": zone,
        "AvailabilityZoneId": zone_id(zone),
        "Events": [],
        "Actions": [],
        "VolumeStatus": {
            "Status": "impaired" if status.failure else "ok",
            "Details": [
                {"Name": "io-enabled", "Status": "passed"},
                {"Name": "io-performance", "Status": "not-applicable"},
                {
                    "Name": "initialization-state",
                    "Status": "completed" if is_loaded else "initializing",
                },
            ],
        },
        "AttachmentStatuses": [] if held is None else [{"InstanceId": held.instance_id}],
    }
    if volume.snapshot_id is not None:
        row["InitializationStatusDetails"] = _loading(status)
    return row


def _loading(status: VolumeStatus) -> Answer:
    kind, seconds = "default", status.seconds_left
    if status.volume.settings.source_volume_id is not None:
        kind = "volume-copy"
    elif status.mib_per_second or status.volume.initialization_rate:
        kind = "provisioned-rate"
    return {
        "InitializationType": kind,
        "Progress": status.loaded_percent,
        "EstimatedTimeToCompleteInSeconds": None if seconds is None else round(seconds),
    }


def describe_attribute(call: Call, params: Params) -> Answer:
    """One attribute of a volume."""
    volume = show_volume(call.region, ids.volume_id(params["VolumeId"]))
    if params["Attribute"] == "productCodes":
        return {"VolumeId": volume.volume_id, "ProductCodes": []}
    enabled = {"Value": volume.settings.auto_enable_io}
    return {"VolumeId": volume.volume_id, "AutoEnableIO": enabled}


def modify_attribute(call: Call, params: Params) -> Answer:
    """Say whether a volume that was found damaged is to be used all the same."""
    wanted = params.get("AutoEnableIO", {}).get("Value")
    if wanted is None:
        raise ApiError("MissingParameter", "The request must contain the parameter autoEnableIO")
    set_auto_enable_io(call.region, ids.volume_id(params["VolumeId"]), is_enabled=wanted)
    return {}


def enable_io(call: Call, params: Params) -> Answer:
    """Let a volume be used again: every one is, so there is none that this is for."""
    name = ids.volume_id(params["VolumeId"])
    show_volume(call.region, name)
    raise ApiError("IncorrectState", f"Volume '{name}' already has IO enabled")


ACTIONS = (
    action(
        "DescribeVolumeStatus", describe_status, "VolumeIds", "Filters", "MaxResults", "NextToken"
    ),
    action("DescribeVolumeAttribute", describe_attribute, "VolumeId", "Attribute"),
    action("ModifyVolumeAttribute", modify_attribute, "VolumeId", "AutoEnableIO"),
    action("EnableVolumeIO", enable_io, "VolumeId"),
)
