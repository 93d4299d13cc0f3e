"""Regions and availability zones."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.ec2.matching import matching
from ebsim.api.ec2.shapes import filters_in
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.api.regions import zones_of

_REGION_FIELDS: Mapping[str, Callable[[Answer], Sequence[str]]] = {
    "region-name": lambda row: [row["RegionName"]],
    "endpoint": lambda row: [row["Endpoint"]],
    "opt-in-status": lambda row: [row["OptInStatus"]],
}
_ZONE_FIELDS: Mapping[str, Callable[[Answer], Sequence[str]]] = {
    "region-name": lambda row: [row["RegionName"]],
    "zone-name": lambda row: [row["ZoneName"]],
    "zone-id": lambda row: [row["ZoneId"]],
    "zone-type": lambda row: [row["ZoneType"]],
    "state": lambda row: [row["State"]],
    "group-name": lambda row: [row["GroupName"]],
    "opt-in-status": lambda row: [row["OptInStatus"]],
}


def describe_regions(call: Call, params: Params) -> Answer:
    """The regions that requests may name."""
    rows = [
        {
            "RegionName": name,
            "Endpoint": f"ec2.{name}.amazonaws.com",
            "OptInStatus": "opt-in-not-required",
        }
        for name in call.regions.names()
    ]
    _refuse_unknown(params.get("RegionNames", ()), (row["RegionName"] for row in rows), "region")
    wanted = params.get("RegionNames") or [row["RegionName"] for row in rows]
    chosen = [row for row in rows if row["RegionName"] in wanted]
    return {"Regions": matching(chosen, filters_in(params), _REGION_FIELDS)}


def zone_id(zone_name: str) -> str:
    """The id of a zone: ``use1-az1`` is us-east-1a's in every account of ebsim."""
    *words, last = zone_name[:-1].split("-")
    short = "".join(word if number == 0 else word[:1] for number, word in enumerate(words))
    return f"{short}{last}-az{'abc'.index(zone_name[-1]) + 1}"


def describe_availability_zones(call: Call, params: Params) -> Answer:
    """The zones of the region that the request names."""
    rows = [
        {
            "ZoneName": name,
            "ZoneId": zone_id(name),
            "RegionName": call.region_name,
            "State": "available",
            "Messages": [],
            "OptInStatus": "opt-in-not-required",
            "ZoneType": "availability-zone",
            "GroupName": f"{call.region_name}-zg-1",
            "NetworkBorderGroup": call.region_name,
        }
        for name in zones_of(call.region_name)
    ]
    for asked, member, what in (
        ("ZoneNames", "ZoneName", "availability zone"),
        ("ZoneIds", "ZoneId", "availability zone id"),
    ):
        _refuse_unknown(params.get(asked, ()), (str(row[member]) for row in rows), what)
        if params.get(asked):
            rows = [row for row in rows if row[member] in params[asked]]
    return {"AvailabilityZones": matching(rows, filters_in(params), _ZONE_FIELDS)}


def _refuse_unknown(asked: Iterable[str], known: Iterable[str], what: str) -> None:
    have = set(known)
    for name in asked:
        if name not in have:
            raise ApiError("InvalidParameterValue", f"Invalid {what}: [{name}]")


ACTIONS = (
    action("DescribeRegions", describe_regions, "RegionNames", "Filters", "AllRegions"),
    action(
        "DescribeAvailabilityZones",
        describe_availability_zones,
        "ZoneNames",
        "ZoneIds",
        "Filters",
        "AllAvailabilityZones",
    ),
)
