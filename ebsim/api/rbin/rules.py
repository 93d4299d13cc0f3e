"""Rules of the recycle bin, and their tags.

Source: https://docs.aws.amazon.com/recyclebin/latest/APIReference/Welcome.html
"""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.catalog.retention_rule import ResourceType, RetentionRule
from ebsim.clock import to_datetime
from ebsim.engine.region import Region
from ebsim.engine.retention_rules import (
    RuleChange,
    RuleRequest,
    create_rule,
    delete_rule,
    list_rules,
    lock_rule,
    show_rule,
    tag_rule,
    unlock_rule,
    untag_rule,
    update_rule,
)
from ebsim.errors import RuleNotFound, UnsupportedParameter

_DAYS = "DAYS"
_IMAGE = "EC2_IMAGE"
_RULE_ARN = re.compile(r"arn:aws:rbin:([a-z0-9-]+):([0-9]{12}):rule/([0-9a-zA-Z]{11})")
_PAGE_SIZE = 1000


def create(call: Call, params: Params) -> Answer:
    """Make a rule."""
    region = call.region
    lock = params.get("LockConfiguration")
    rule = create_rule(
        region,
        RuleRequest(
            _resource_type(params["ResourceType"]),
            params["RetentionPeriod"]["RetentionPeriodValue"],
            description=params.get("Description", ""),
            resource_tags=_pairs(params.get("ResourceTags", ())),
            exclude_tags=_pairs(params.get("ExcludeResourceTags", ())),
            unlock_delay_days=None if lock is None else _unlock_delay(lock),
            tags=_tags_in(params.get("Tags", ())),
        ),
    )
    return {**_rule_row(region, rule), "Tags": _tag_list(rule)}


def get(call: Call, params: Params) -> Answer:
    """A rule."""
    return _rule_row(call.region, show_rule(call.region, params["Identifier"]))


def update(call: Call, params: Params) -> Answer:
    """Change a rule that is not locked."""
    kind, period = params.get("ResourceType"), params.get("RetentionPeriod")
    change = RuleChange(
        resource_type=None if kind is None else _resource_type(kind),
        retention_days=None if period is None else period["RetentionPeriodValue"],
        description=params.get("Description"),
        resource_tags=_pairs(params["ResourceTags"]) if "ResourceTags" in params else None,
        exclude_tags=(
            _pairs(params["ExcludeResourceTags"]) if "ExcludeResourceTags" in params else None
        ),
    )
    return _rule_row(call.region, update_rule(call.region, params["Identifier"], change))


def delete(call: Call, params: Params) -> Answer:
    """Remove a rule that is not locked."""
    delete_rule(call.region, params["Identifier"])
    return {}


def lock(call: Call, params: Params) -> Answer:
    """Lock a rule of the whole region."""
    delay = _unlock_delay(params["LockConfiguration"])
    return _rule_row(call.region, lock_rule(call.region, params["Identifier"], delay))


def unlock(call: Call, params: Params) -> Answer:
    """Begin the delay after which a rule is unlocked."""
    return _rule_row(call.region, unlock_rule(call.region, params["Identifier"]))


def list_(call: Call, params: Params) -> Answer:
    """The rules about one type of resource, a page at a time."""
    if params["ResourceType"] == _IMAGE:
        # None can be made.
        return {"Rules": [], "NextToken": None}
    region = call.region
    now_ns = region.clock.now_ns()
    tags = set(_pairs(params.get("ResourceTags", ())))
    excluded = set(_pairs(params.get("ExcludeResourceTags", ())))
    state = params.get("LockState")
    after = _read_token(params["NextToken"]) if params.get("NextToken") else ""
    rules = [
        rule
        for rule in list_rules(region, ResourceType(params["ResourceType"]))
        if rule.rule_id > after
        and (not tags or tags & set(rule.resource_tags))
        and (not excluded or excluded & set(rule.exclude_tags))
        and state in (None, rule.lock_state_at(now_ns))
    ]
    page = rules[: params.get("MaxResults", _PAGE_SIZE)]
    is_last = len(page) == len(rules)
    return {
        "Rules": [_summary(region, rule) for rule in page],
        "NextToken": None if is_last else base64.b64encode(page[-1].rule_id.encode()).decode(),
    }


def list_tags(call: Call, params: Params) -> Answer:
    """The tags of a rule itself."""
    return {"Tags": _tag_list(show_rule(call.region, _rule_named(call, params)))}


def tag(call: Call, params: Params) -> Answer:
    """Set tags of a rule itself."""
    tag_rule(call.region, _rule_named(call, params), _tags_in(params["Tags"]))
    return {}


def untag(call: Call, params: Params) -> Answer:
    """Remove tags of a rule itself."""
    untag_rule(call.region, _rule_named(call, params), params["TagKeys"])
    return {}


def _rule_named(call: Call, params: Params) -> str:
    """The id in ``ResourceArn``, which names a rule of the caller in this region."""
    arn = params["ResourceArn"]
    match = _RULE_ARN.fullmatch(arn)
    if match is None or (match[1], match[2]) != (call.region_name, call.account_id):
        raise RuleNotFound(arn)
    return match[3]


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), validate=True).decode()
    except (ValueError, binascii.Error) as error:
        raise ApiError(
            "ValidationException",
            "The page token is invalid.",
            fields={"Reason": "INVALID_PAGE_TOKEN"},
        ) from error


def _resource_type(name: str) -> ResourceType:
    if name == _IMAGE:
        raise UnsupportedParameter(
            f"The resource type {_IMAGE} is not supported by ebsim: it has no images. "
            "Nothing was changed."
        )
    return ResourceType(name)


def _unlock_delay(configuration: Params) -> int:
    days: int = configuration["UnlockDelay"]["UnlockDelayValue"]
    return days


def _pairs(listed: Sequence[Params]) -> tuple[tuple[str, str], ...]:
    return tuple((one["ResourceTagKey"], one.get("ResourceTagValue", "")) for one in listed)


def _pair_list(pairs: Iterable[tuple[str, str]]) -> list[Answer]:
    return [{"ResourceTagKey": key, "ResourceTagValue": value} for key, value in pairs]


def _tags_in(listed: Sequence[Params]) -> dict[str, str]:
    return {one["Key"]: one["Value"] for one in listed}


def _tag_list(rule: RetentionRule) -> list[Answer]:
    return [{"Key": key, "Value": rule.tags[key]} for key in sorted(rule.tags)]


def _summary(region: Region, rule: RetentionRule) -> Answer:
    return {
        "Identifier": rule.rule_id,
        "Description": rule.description,
        "RetentionPeriod": {
            "RetentionPeriodValue": rule.retention_days,
            "RetentionPeriodUnit": _DAYS,
        },
        "LockState": rule.lock_state_at(region.clock.now_ns()).value,
        "RuleArn": f"arn:aws:rbin:{region.name}:{rule.owner_id}:rule/{rule.rule_id}",
    }


def _rule_row(region: Region, rule: RetentionRule) -> Answer:
    row: Answer = {
        **_summary(region, rule),
        "ResourceType": rule.resource_type.value,
        "ResourceTags": _pair_list(rule.resource_tags),
        "ExcludeResourceTags": _pair_list(rule.exclude_tags),
        "Status": "available",
    }
    if rule.unlock_delay_days is not None:
        delay = {"UnlockDelayValue": rule.unlock_delay_days, "UnlockDelayUnit": _DAYS}
        row["LockConfiguration"] = {"UnlockDelay": delay}
    if rule.lock_end_time_ns is not None:
        row["LockEndTime"] = to_datetime(rule.lock_end_time_ns)
    return row


_CONTENTS = ("RetentionPeriod", "Description", "ResourceTags", "ExcludeResourceTags")

ACTIONS = (
    action("CreateRule", create, *_CONTENTS, "ResourceType", "Tags", "LockConfiguration"),
    action("GetRule", get, "Identifier"),
    action("UpdateRule", update, *_CONTENTS, "ResourceType", "Identifier"),
    action("DeleteRule", delete, "Identifier"),
    action("LockRule", lock, "Identifier", "LockConfiguration"),
    action("UnlockRule", unlock, "Identifier"),
    action(
        "ListRules",
        list_,
        "ResourceType",
        "ResourceTags",
        "ExcludeResourceTags",
        "LockState",
        "MaxResults",
        "NextToken",
    ),
    action("ListTagsForResource", list_tags, "ResourceArn"),
    action("TagResource", tag, "ResourceArn", "Tags"),
    action("UntagResource", untag, "ResourceArn", "TagKeys"),
)
