"""Attaching volumes to instances, and detaching them."""

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.ec2 import ids
from ebsim.api.ec2.instances import live_instance, zone_of_instance
from ebsim.api.ec2.volume_rows import attachment_rows, zone_of
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.engine.instances import attach_to_instance
from ebsim.engine.list_volumes import show_volume
from ebsim.engine.served_volume import detach_volume
from ebsim.errors import InvalidRequest, VolumeInUse


def attach(call: Call, params: Params) -> Answer:
    """Give a volume its place in an instance."""
    name, instance_id = ids.volume_id(params["VolumeId"]), ids.instance_id(params["InstanceId"])
    region = call.region
    volume = show_volume(region, name)
    instance = live_instance(region, instance_id)
    if volume.attachment is not None:
        raise VolumeInUse(f"{name} is already attached to an instance")
    if zone_of(region, volume) != zone_of_instance(region, instance):
        raise ApiError(
            "InvalidVolume.ZoneMismatch",
            f"The volume '{name}' is not in the same availability zone as instance "
            f"'{instance_id}'",
        )
    device: str = params["Device"]
    try:
        attached = attach_to_instance(region, name, instance_id, device)
    except InvalidRequest as error:
        raise ApiError(
            "InvalidParameterValue",
            f"Value ({device}) for parameter device is invalid. {device} is not a valid EBS "
            "device name.",
        ) from error
    call.look_after([attached.volume_id])
    (row,) = attachment_rows(attached)
    return {**row, "State": "attaching"}


def detach(call: Call, params: Params) -> Answer:
    """Take a volume from its instance, and from the process that serves it.

    By force or not: no guest can refuse to let go of it, and what was written is flushed.
    """
    name = ids.volume_id(params["VolumeId"])
    region = call.region
    rows = attachment_rows(show_volume(region, name))
    if not rows:
        raise ApiError("IncorrectState", f"Volume '{name}' is in the 'available' state.")
    for asked, wanted in (
        ("InstanceId", params.get("InstanceId")),
        ("Device", params.get("Device")),
    ):
        if wanted is not None and rows[0][asked] != wanted:
            raise ApiError(
                "InvalidAttachment.NotFound",
                f"Volume '{name}' is attached to '{rows[0]['InstanceId']}' as "
                f"'{rows[0]['Device']}', not to '{wanted}'",
            )
    detached = detach_volume(region, name)
    call.look_after([detached.volume_id])
    return {**rows[0], "State": "detaching"}


ACTIONS = (
    action("AttachVolume", attach, "VolumeId", "InstanceId", "Device"),
    action("DetachVolume", detach, "VolumeId", "InstanceId", "Device", "Force"),
)
