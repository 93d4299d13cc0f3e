"""What EBS knows of a volume beside its bytes: its type, its speed, where it is.

ebsim keeps these and reports them; they slow nothing down.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class VolumeType(StrEnum):
    """Amazon's types of volumes."""

    STANDARD = "standard"
    GP2 = "gp2"
    GP3 = "gp3"
    IO1 = "io1"
    IO2 = "io2"
    ST1 = "st1"
    SC1 = "sc1"


@dataclass(frozen=True, slots=True)
class VolumeSpeed:
    """What a volume is to deliver.

    Attributes:
        iops: Operations a second; ``None`` for types that have no such figure.
        throughput: MiB a second; ``None`` for types that have no such figure.
    """

    volume_type: VolumeType = VolumeType.GP2
    iops: int | None = None
    throughput: int | None = None


@dataclass(frozen=True, slots=True)
class VolumeModification:
    """A change of a volume's size or speed."""

    start_time_ns: int
    end_time_ns: int
    original_size_gib: int
    original_speed: VolumeSpeed
    target_size_gib: int
    target_speed: VolumeSpeed


@dataclass(frozen=True, slots=True)
class VolumeSettings:
    """The settings of a volume.

    Attributes:
        zone: The availability zone; ``""`` is the region's first.
        delete_on_termination: Whether it goes with the instance that it is attached to.
        auto_enable_io: Whether a volume that was found damaged is to be used all the same.
        source_volume_id: What it was copied from, if it was.
        modifications: The newest changes, oldest first; those of a day at the least.
    """

    speed: VolumeSpeed = field(default_factory=VolumeSpeed)
    zone: str = ""
    delete_on_termination: bool = False
    auto_enable_io: bool = False
    source_volume_id: str | None = None
    modifications: tuple[VolumeModification, ...] = ()


def settings_from_json(values: Mapping[str, Any]) -> VolumeSettings:
    """The settings that ``asdict`` made.

    Raises:
        KeyError, TypeError, ValueError: a field is missing, unknown or of another type.
    """
    return VolumeSettings(
        **{
            **values,
            "speed": _speed(values["speed"]),
            "modifications": tuple(
                VolumeModification(
                    **{
                        **one,
                        "original_speed": _speed(one["original_speed"]),
                        "target_speed": _speed(one["target_speed"]),
                    }
                )
                for one in values["modifications"]
            ),
        }
    )


def _speed(values: Mapping[str, Any]) -> VolumeSpeed:
    return VolumeSpeed(**{**values, "volume_type": VolumeType(values["volume_type"])})
