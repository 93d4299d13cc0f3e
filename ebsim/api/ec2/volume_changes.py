"""Modifying volumes, and what is remembered of that."""

from collections.abc import Callable, Mapping, Sequence

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.ec2 import ids
from ebsim.api.ec2.matching import matching
from ebsim.api.ec2.pages import page_of
from ebsim.api.ec2.shapes import filters_in
from ebsim.api.ec2.volume_rows import named_volumes
from ebsim.api.ec2.volume_types import speed_in
from ebsim.api.ec2.volumes import refuse_unsupported_kinds
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.api.scalars import iso_text
from ebsim.catalog.volume import Volume
from ebsim.catalog.volume_settings import VolumeModification
from ebsim.clock import to_datetime
from ebsim.engine.list_volumes import show_volume
from ebsim.engine.modify_volume import modify_volume
from ebsim.units import whole_gib


def modify(call: Call, params: Params) -> Answer:
    """Give a volume another size, type or speed: it has it at once."""
    refuse_unsupported_kinds(params)
    name = ids.volume_id(params["VolumeId"])
    region = call.region
    old = show_volume(region, name)
    size_gib = whole_gib(old.size_bytes)
    wanted = params.get("Size", size_gib)
    if wanted < size_gib:
        raise ApiError("InvalidParameterValue", "New size cannot be smaller than existing size")
    speed = speed_in(params, wanted, old.settings.speed)
    if (wanted, speed) == (size_gib, old.settings.speed):
        raise ApiError(
            "InvalidParameterCombination",
            f"The volume {name} has that size, type and speed already. Nothing was changed.",
        )
    modified, change = modify_volume(region, name, size_gib=wanted, speed=speed)
    began = {"ModificationState": "modifying", "Progress": 0, "EndTime": None}
    return {"VolumeModification": {**_row(modified, change), **began}}


def _row(volume: Volume, change: VolumeModification) -> Answer:
    original, target = change.original_speed, change.target_speed
    return {
        "VolumeId": volume.volume_id,
        "ModificationState": "completed",
        "OriginalSize": change.original_size_gib,
        "OriginalVolumeType": original.volume_type.value,
        "OriginalIops": original.iops,
        "OriginalThroughput": original.throughput,
        "OriginalMultiAttachEnabled": False,
        "TargetSize": change.target_size_gib,
        "TargetVolumeType": target.volume_type.value,
        "TargetIops": target.iops,
        "TargetThroughput": target.throughput,
        "TargetMultiAttachEnabled": False,
        "Progress": 100,
        "StartTime": to_datetime(change.start_time_ns),
        "EndTime": to_datetime(change.end_time_ns),
    }


def _plain(name: str) -> Callable[[Answer], Sequence[str]]:
    return lambda row: [] if row[name] is None else [str(row[name])]


_FIELDS: Mapping[str, Callable[[Answer], Sequence[str]]] = {
    "volume-id": _plain("VolumeId"),
    "modification-state": _plain("ModificationState"),
    "original-size": _plain("OriginalSize"),
    "original-volume-type": _plain("OriginalVolumeType"),
    "original-iops": _plain("OriginalIops"),
    "target-size": _plain("TargetSize"),
    "target-volume-type": _plain("TargetVolumeType"),
    "target-iops": _plain("TargetIops"),
    "multi-attach-enabled": lambda _: ["false"],
    "start-time": lambda row: [iso_text(row["StartTime"])],
}
"""Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeVolumesModifications.html"""


def describe(call: Call, params: Params) -> Answer:
    """The newest modification of each volume that had one."""
    rows = []
    for volume in named_volumes(call.region, params.get("VolumeIds")):
        if volume.settings.modifications:
            rows.append(_row(volume, volume.settings.modifications[-1]))
        elif params.get("VolumeIds"):
            raise ApiError(
                "InvalidVolumeModification.NotFound",
                f"Modification for volume '{volume.volume_id}' does not exist.",
            )
    chosen = matching(rows, filters_in(params), _FIELDS)
    page, token = page_of(chosen, params, lambda row: str(row["VolumeId"]), minimum=1, maximum=500)
    return {"VolumesModifications": page, "NextToken": token}


ACTIONS = (
    action(
        "ModifyVolume",
        modify,
        "VolumeId",
        "Size",
        "VolumeType",
        "Iops",
        "Throughput",
        "MultiAttachEnabled",
    ),
    action(
        "DescribeVolumesModifications",
        describe,
        "VolumeIds",
        "Filters",
        "MaxResults",
        "NextToken",
    ),
)
