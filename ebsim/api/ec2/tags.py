"""Tags of snapshots, volumes and instances."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.ec2 import ids
from ebsim.api.ec2.instances import live_instance
from ebsim.api.ec2.matching import matching
from ebsim.api.ec2.pages import page_of
from ebsim.api.ec2.shapes import filters_in, tags_in
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.engine.instance_tags import tag_instance, untag_instance
from ebsim.engine.list_snapshots import list_snapshots, show_snapshot
from ebsim.engine.list_volumes import list_volumes, show_volume
from ebsim.engine.region import Region
from ebsim.engine.run_instances import described_instances
from ebsim.engine.tags import TAG_COUNT_MAX, tag_snapshot, untag_snapshot
from ebsim.engine.volume_tags import tag_volume, untag_volume

_FIELDS: Mapping[str, Callable[[Answer], Sequence[str]]] = {
    "key": lambda row: [row["Key"]],
    "value": lambda row: [row["Value"]],
    "resource-id": lambda row: [row["ResourceId"]],
    "resource-type": lambda row: [row["ResourceType"]],
}
_RESOURCE_COUNT_MAX = 1000


class _Verbs(NamedTuple):
    """What tags one kind of resources."""

    tags_of: Callable[[Region, str], Mapping[str, str]]
    tag: Callable[[Region, str, Mapping[str, str]], object]
    untag: Callable[[Region, str, Iterable[str]], object]


_VERBS = {
    "snap": _Verbs(
        lambda region, name: show_snapshot(region, ids.snapshot_id(name)).tags,
        tag_snapshot,
        untag_snapshot,
    ),
    "vol": _Verbs(
        lambda region, name: show_volume(region, ids.volume_id(name)).tags,
        tag_volume,
        untag_volume,
    ),
    "i": _Verbs(
        lambda region, name: live_instance(region, ids.instance_id(name)).tags,
        tag_instance,
        untag_instance,
    ),
}


def _kind(name: str) -> str:
    return name.partition("-")[0]


def create_tags(call: Call, params: Params) -> Answer:
    """Set tags on resources, all of which are looked up before the first is changed."""
    tags = tags_in(params["Tags"])
    region = call.region
    for name, old in _resources(region, params["Resources"]).items():
        if len({**old, **tags}) > TAG_COUNT_MAX:
            raise ApiError(
                "TagLimitExceeded", f"{name} would have more than {TAG_COUNT_MAX} tags."
            )
    for name in dict.fromkeys(params["Resources"]):
        _VERBS[_kind(name)].tag(region, name, tags)
    return {}


def delete_tags(call: Call, params: Params) -> Answer:
    """Remove tags: those of the keys given, if a value is given only where it fits, or all."""
    region = call.region
    for name, old in _resources(region, params["Resources"]).items():
        listed = params.get("Tags")
        if listed is None:
            gone = set(old)
        else:
            gone = {
                tag["Key"]
                for tag in listed
                if tag.get("Key") in old and tag.get("Value") in {None, old[tag["Key"]]}
            }
        _VERBS[_kind(name)].untag(region, name, gone)
    return {}


def _resources(region: Region, names: Sequence[str]) -> dict[str, Mapping[str, str]]:
    """The resources that are named, each with its tags.

    Raises:
        ApiError, NotFound: a name that is none, or too many.
    """
    if len(names) > _RESOURCE_COUNT_MAX:
        raise ApiError(
            "InvalidParameterValue",
            f"{len(names)} resources are more than one call may name, {_RESOURCE_COUNT_MAX}.",
        )
    found: dict[str, Mapping[str, str]] = {}
    for name in names:
        verbs = _VERBS.get(_kind(name))
        if verbs is None:
            raise ApiError("InvalidID", f"The ID '{name}' is not valid")
        found[name] = verbs.tags_of(region, name)
    return found


def describe_tags(call: Call, params: Params) -> Answer:
    """The tags of the caller's resources, a page at a time."""
    region = call.region
    rows = [
        {"Key": key, "Value": value, "ResourceId": resource_id, "ResourceType": resource_type}
        for resource_type, resource_id, tags in sorted(_all_tagged(region))
        for key, value in sorted(tags.items())
    ]
    fields: dict[str, Callable[[Answer], Sequence[str]]] = dict(_FIELDS)
    for one in params.get("Filters", ()):
        if one.get("Name", "").startswith("tag:"):
            fields[one["Name"]] = _value_of(one["Name"].removeprefix("tag:"))
    chosen = matching(rows, filters_in(params), fields)
    page, token = page_of(chosen, params, _place)
    return {"Tags": page, "NextToken": token}


def _value_of(key: str) -> Callable[[Answer], Sequence[str]]:
    return lambda row: [row["Value"]] if row["Key"] == key else []


def _all_tagged(region: Region) -> list[tuple[str, str, dict[str, str]]]:
    snapshots = list_snapshots(region).snapshots
    instances = [one.instance for one in described_instances(region)]
    return [
        *(("snapshot", str(one.snapshot_id), dict(one.tags)) for one in snapshots),
        *(("volume", str(one.volume_id), dict(one.tags)) for one in list_volumes(region)),
        *(("instance", str(one.instance_id), one.shown_tags) for one in instances),
    ]


def _place(row: Answer) -> str:
    return f"{row['ResourceType']}\n{row['ResourceId']}\n{row['Key']}"


ACTIONS = (
    action("CreateTags", create_tags, "Resources", "Tags"),
    action("DeleteTags", delete_tags, "Resources", "Tags"),
    action("DescribeTags", describe_tags, "Filters", "MaxResults", "NextToken"),
)
