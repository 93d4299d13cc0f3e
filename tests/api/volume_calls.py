"""Calls about volumes and instances that several tests begin with."""

from collections.abc import Callable
from typing import Any

ZONE = "us-east-1a"

MakeVolume = Callable[..., str]


def shown(ec2: Any, volume_id: str) -> Any:
    return ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"][0]


def run(ec2: Any, **params: object) -> Any:
    asked = {"ImageId": "ami-1", "MinCount": 1, "MaxCount": 1, **params}
    return ec2.run_instances(**asked)["Instances"][0]


def disk(device: str, size: int = 1, **ebs: object) -> dict[str, object]:
    return {"DeviceName": device, "Ebs": {"VolumeSize": size, **ebs}}
