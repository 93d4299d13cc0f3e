"""Fast snapshot restore."""

from collections.abc import Callable, Mapping, Sequence

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.ec2 import ids
from ebsim.api.ec2.matching import matching
from ebsim.api.ec2.pages import page_of
from ebsim.api.ec2.places import zone_id
from ebsim.api.ec2.shapes import filters_in
from ebsim.api.error_codes import api_error_of
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.api.regions import zones_of
from ebsim.api.service_models import service
from ebsim.catalog.fast_restore import FastRestore
from ebsim.clock import to_datetime
from ebsim.engine.fast_restore import (
    disable_fast_restore,
    enable_fast_restore,
    list_fast_restores,
)
from ebsim.engine.region import Region
from ebsim.errors import EbsimError

_PAGE_MAX = 200

_FIELDS: Mapping[str, Callable[[Answer], Sequence[str]]] = {
    "availability-zone": lambda row: [row["AvailabilityZone"]],
    "availability-zone-id": lambda row: [row["AvailabilityZoneId"]],
    "owner-id": lambda row: [row["OwnerId"]],
    "snapshot-id": lambda row: [row["SnapshotId"]],
    "state": lambda row: [row["State"]],
}


def enable(call: Call, params: Params) -> Answer:
    """Begin to keep volumes of snapshots loaded, in each of some zones."""
    return _in_each(call, params, enable_fast_restore)


def disable(call: Call, params: Params) -> Answer:
    """Stop keeping volumes of snapshots loaded, in each of some zones."""
    return _in_each(call, params, disable_fast_restore)


def _in_each(
    call: Call, params: Params, change: Callable[[Region, str, str], FastRestore]
) -> Answer:
    """What *change* did to each snapshot in each zone, and where it was refused."""
    zones = _zones(call, params)
    names = [ids.snapshot_id(text) for text in dict.fromkeys(params["SourceSnapshotIds"])]
    done: list[Answer] = []
    refused: list[Answer] = []
    for name in names:
        errors = []
        for zone in zones:
            try:
                done.append(_row(change(call.region, name, zone)))
            except EbsimError as error:
                told = api_error_of(service(call.service), error)
                errors.append(
                    {
                        "AvailabilityZone": zone,
                        "AvailabilityZoneId": zone_id(zone),
                        "Error": {"Code": told.code, "Message": told.message},
                    }
                )
        if errors:
            refused.append({"SnapshotId": name, "FastSnapshotRestoreStateErrors": errors})
    return {"Successful": done, "Unsuccessful": refused}


def _zones(call: Call, params: Params) -> list[str]:
    """The zones that the request names, by name or by id."""
    known = zones_of(call.region_name)
    by_id = {zone_id(name): name for name in known}
    named, numbered = params.get("AvailabilityZones"), params.get("AvailabilityZoneIds")
    if bool(named) == bool(numbered):
        raise ApiError(
            "InvalidParameterCombination",
            "Either AvailabilityZone or AvailabilityZoneId must be specified, and not both.",
        )
    zones = []
    for text in dict.fromkeys(named or numbered or ()):
        zone = text if named else by_id.get(text)
        if zone not in known:
            raise ApiError("InvalidParameterValue", f"Invalid availability zone: [{text}]")
        zones.append(zone)
    return zones


def describe(call: Call, params: Params) -> Answer:
    """Fast restores that the filters let through, a page at a time."""
    rows = [_row(one) for one in list_fast_restores(call.region)]
    found = matching(rows, filters_in(params), _FIELDS)
    page, token = page_of(
        found,
        params,
        lambda row: f"{row['SnapshotId']} {row['AvailabilityZone']}",
        minimum=0,
        maximum=_PAGE_MAX,
    )
    return {"FastSnapshotRestores": page, "NextToken": token}


def _row(record: FastRestore) -> Answer:
    return {
        "SnapshotId": record.snapshot_id,
        "AvailabilityZone": record.zone,
        "AvailabilityZoneId": zone_id(record.zone),
        "State": record.state.value,
        "StateTransitionReason": record.reason,
        "OwnerId": record.owner_id,
        **{
            f"{state.capitalize()}Time": to_datetime(time_ns)
            for state, time_ns in record.times_ns.items()
        },
    }


_ASKED = ("AvailabilityZones", "AvailabilityZoneIds", "SourceSnapshotIds")

ACTIONS = (
    action("EnableFastSnapshotRestores", enable, *_ASKED),
    action("DisableFastSnapshotRestores", disable, *_ASKED),
    action("DescribeFastSnapshotRestores", describe, "Filters", "MaxResults", "NextToken"),
)
