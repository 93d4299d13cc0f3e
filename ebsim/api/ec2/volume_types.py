"""What sizes and speeds each type of volume may have.

Source: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html
"""

from collections.abc import Mapping
from typing import NamedTuple

from ebsim.api.faults import ApiError
from ebsim.api.params import Params
from ebsim.catalog.volume_settings import VolumeSpeed, VolumeType


class _Limits(NamedTuple):
    """Of a type: sizes in GiB, operations a second, and how many of them for each GiB."""

    size_min: int
    size_max: int
    iops_min: int = 0
    iops_max: int = 0
    iops_default: int | None = None
    iops_per_gib: int = 0
    throughput_min: int = 0
    throughput_max: int = 0


_LIMITS: Mapping[VolumeType, _Limits] = {
    VolumeType.STANDARD: _Limits(1, 1024),
    VolumeType.GP2: _Limits(1, 16384),
    VolumeType.GP3: _Limits(1, 65536, 3000, 80000, 3000, 500, 125, 2000),
    VolumeType.IO1: _Limits(4, 16384, 100, 64000, None, 50),
    VolumeType.IO2: _Limits(4, 65536, 100, 256000, None, 1000),
    VolumeType.ST1: _Limits(125, 16384),
    VolumeType.SC1: _Limits(125, 16384),
}


def speed_in(params: Params, size_gib: int, old: VolumeSpeed | None = None) -> VolumeSpeed:
    """The type and speed that a request asks for; what it does not say is *old*'s.

    Raises:
        ApiError: the type cannot have that speed or size.
    """
    kind = VolumeType(params.get("VolumeType") or (old.volume_type if old else VolumeType.GP2))
    kept = old if old is not None and old.volume_type is kind else VolumeSpeed(kind)
    limits = _LIMITS[kind]
    _check_size(kind, size_gib, limits)
    iops = params.get("Iops")
    if iops is not None and not limits.iops_max:
        raise _not_for(kind, "iops")
    throughput = params.get("Throughput")
    if throughput is not None and not limits.throughput_max:
        raise _not_for(kind, "throughput")
    chosen = iops if iops is not None else kept.iops or limits.iops_default
    if limits.iops_max:
        if chosen is None:
            raise ApiError(
                "MissingParameter", f"The request must contain the parameter iops for {kind}"
            )
        _check_iops(kind, chosen, size_gib, limits)
    rate = throughput if throughput is not None else kept.throughput or limits.throughput_min
    if limits.throughput_max:
        assert chosen is not None, "a type with a throughput has operations"
        _check_throughput(kind, rate, chosen, limits)
    return VolumeSpeed(kind, chosen, rate or None)


def _not_for(kind: VolumeType, name: str) -> ApiError:
    return ApiError(
        "InvalidParameterCombination",
        f"The parameter {name} is not supported for {kind} volumes.",
    )


def _check_size(kind: VolumeType, size_gib: int, limits: _Limits) -> None:
    if size_gib < limits.size_min:
        raise ApiError(
            "InvalidParameterValue",
            f"Volume of {size_gib}GiB is too small; minimum is {limits.size_min}GiB for volume "
            f"type {kind}.",
        )
    if size_gib > limits.size_max:
        raise ApiError(
            "InvalidParameterValue",
            f"Volume of {size_gib}GiB is too large for volume type {kind}; maximum is "
            f"{limits.size_max}GiB.",
        )


def _check_iops(kind: VolumeType, iops: int, size_gib: int, limits: _Limits) -> None:
    if iops < limits.iops_min:
        raise ApiError(
            "InvalidParameterValue",
            f"Volume iops of {iops} is too low; minimum is {limits.iops_min}.",
        )
    if iops > limits.iops_max:
        raise ApiError(
            "InvalidParameterValue",
            f"Volume iops of {iops} is too high; maximum is {limits.iops_max}.",
        )
    # What every volume of the type has is no question of its size.
    if iops > max(size_gib * limits.iops_per_gib, limits.iops_default or limits.iops_min):
        raise ApiError(
            "InvalidParameterCombination",
            f"Iops to volume size ratio of {iops / size_gib:f} is too high; maximum is "
            f"{limits.iops_per_gib} for volume type {kind}.",
        )


def _check_throughput(kind: VolumeType, rate: int, iops: int, limits: _Limits) -> None:
    if not limits.throughput_min <= rate <= limits.throughput_max:
        raise ApiError(
            "InvalidParameterValue",
            f"Throughput of {rate} MiB/s is not allowed for {kind} volumes: expected "
            f"{limits.throughput_min} to {limits.throughput_max}.",
        )
    if rate * 4 > iops:
        raise ApiError(
            "InvalidParameterCombination",
            f"Throughput (MiBps) to iops ratio of {rate / iops:f} is too high; maximum is "
            "0.250000 MiBps per iops.",
        )
