"""Lifecycle policies, and their tags.

Source: https://docs.aws.amazon.com/dlm/latest/APIReference/Welcome.html
"""

import re
from collections.abc import Sequence

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.params import Answer, Params
from ebsim.catalog.lifecycle_policy import LifecyclePolicy, PolicyState
from ebsim.clock import to_datetime
from ebsim.engine.lifecycle_policies import (
    PolicyOptions,
    change_policy,
    create_policy,
    delete_policy,
    get_policy,
    list_policies,
)
from ebsim.engine.tags import RESERVED_PREFIX
from ebsim.errors import InvalidRequest, NotFound
from ebsim.ids import is_whole_id

_TYPE = "EBS_SNAPSHOT_MANAGEMENT"
_ARN = re.compile(r"arn:aws:dlm:([a-z0-9-]+):([0-9]{12}):policy/(policy-[0-9a-f]{17})")
_TAGS_MAX = 50


def create(call: Call, params: Params) -> Answer:
    """Make a policy."""
    if "PolicyDetails" not in params:
        raise InvalidRequest(
            "The following parameters are missing: PolicyDetails. No policy was made. Default "
            "policies are not supported by ebsim."
        )
    tags = params.get("Tags", {})
    _check_tags(tags)
    options = PolicyOptions(
        document=params["PolicyDetails"],
        description=params["Description"],
        state=PolicyState(params["State"]),
        role_arn=params["ExecutionRoleArn"],
        tags=tags,
    )
    return {"PolicyId": create_policy(call.region, options).policy_id}


def get(call: Call, params: Params) -> Answer:
    """A policy."""
    return {"Policy": _row(call, _named(call, params["PolicyId"]))}


def list_(call: Call, params: Params) -> Answer:
    """The policies that all filters let through."""
    ids, kinds = params.get("PolicyIds"), params.get("ResourceTypes")
    targets = _pairs(params.get("TargetTags", ()))
    added = _pairs(params.get("TagsToAdd", ()))
    found = []
    for policy in list_policies(call.region):
        details = policy.details
        adds = {pair for one in details.schedules for pair in one.tags_to_add.items()}
        if (
            (not ids or policy.policy_id in ids)
            and params.get("State") in (None, policy.state.value)
            and (not kinds or details.target_kind.value in kinds)
            and (not targets or targets & set(details.target_tags))
            and (not added or added & adds)
        ):
            found.append(_summary(policy))
    return {"Policies": found}


def update(call: Call, params: Params) -> Answer:
    """Change what is given of a policy."""
    policy = _named(call, params["PolicyId"])
    state = params.get("State")
    change_policy(
        call.region,
        policy.policy_id,
        document=params.get("PolicyDetails"),
        description=params.get("Description"),
        state=None if state is None else PolicyState(state),
        role_arn=params.get("ExecutionRoleArn"),
    )
    return {}


def delete(call: Call, params: Params) -> Answer:
    """Remove a policy; its snapshots stay."""
    delete_policy(call.region, _named(call, params["PolicyId"]).policy_id)
    return {}


def list_tags(call: Call, params: Params) -> Answer:
    """The tags of a policy itself."""
    return {"Tags": dict(_with_arn(call, params).tags)}


def tag(call: Call, params: Params) -> Answer:
    """Set tags of a policy itself."""
    policy = _with_arn(call, params)
    tags = {**policy.tags, **params["Tags"]}
    _check_tags(tags)
    change_policy(call.region, policy.policy_id, tags=tags)
    return {}


def untag(call: Call, params: Params) -> Answer:
    """Remove tags of a policy itself."""
    policy = _with_arn(call, params)
    kept = {key: value for key, value in policy.tags.items() if key not in params["TagKeys"]}
    change_policy(call.region, policy.policy_id, tags=kept)
    return {}


def _named(call: Call, policy_id: str) -> LifecyclePolicy:
    # The engine accepts beginnings of ids, which no AWS API does.
    if not is_whole_id(policy_id, "policy"):
        raise NotFound(f"The policy '{policy_id}' does not exist.")
    return get_policy(call.region, policy_id)


def _with_arn(call: Call, params: Params) -> LifecyclePolicy:
    """The policy that ``ResourceArn`` names: of the caller, in this region."""
    arn = params["ResourceArn"]
    match = _ARN.fullmatch(arn)
    if match is None or (match[1], match[2]) != (call.region_name, call.account_id):
        raise NotFound(f"The resource '{arn}' does not exist.")
    return _named(call, match[3])


def _check_tags(tags: Params) -> None:
    if len(tags) > _TAGS_MAX:
        raise InvalidRequest(f"A policy has at most {_TAGS_MAX} tags. Nothing was changed.")
    for key in tags:
        if key.lower().startswith(RESERVED_PREFIX):
            raise InvalidRequest(
                f"The tag key '{key}' begins with '{RESERVED_PREFIX}', which is reserved. "
                "Nothing was changed."
            )


def _pairs(texts: Sequence[str]) -> set[tuple[str, str]]:
    """Filters of tags, written ``key=value``."""
    return {(key, value) for key, _, value in (text.partition("=") for text in texts)}


def _summary(policy: LifecyclePolicy) -> Answer:
    return {
        "PolicyId": policy.policy_id,
        "Description": policy.description,
        "State": policy.state.value,
        "Tags": dict(policy.tags),
        "PolicyType": _TYPE,
        "DefaultPolicy": False,
    }


def _row(call: Call, policy: LifecyclePolicy) -> Answer:
    row = _summary(policy)
    del row["PolicyType"]
    return {
        **row,
        "StatusMessage": policy.state.value,
        "ExecutionRoleArn": policy.role_arn,
        "DateCreated": to_datetime(policy.create_time_ns),
        "DateModified": to_datetime(policy.modify_time_ns),
        "PolicyDetails": {"PolicyType": _TYPE, **policy.document},
        "PolicyArn": f"arn:aws:dlm:{call.region_name}:{policy.owner_id}:policy/{policy.policy_id}",
    }


ACTIONS = (
    action(
        "CreateLifecyclePolicy",
        create,
        "ExecutionRoleArn",
        "Description",
        "State",
        "PolicyDetails",
        "Tags",
    ),
    action("GetLifecyclePolicy", get, "PolicyId"),
    action(
        "GetLifecyclePolicies",
        list_,
        "PolicyIds",
        "State",
        "ResourceTypes",
        "TargetTags",
        "TagsToAdd",
    ),
    action(
        "UpdateLifecyclePolicy",
        update,
        "PolicyId",
        "ExecutionRoleArn",
        "State",
        "Description",
        "PolicyDetails",
    ),
    action("DeleteLifecyclePolicy", delete, "PolicyId"),
    action("ListTagsForResource", list_tags, "ResourceArn"),
    action("TagResource", tag, "ResourceArn", "Tags"),
    action("UntagResource", untag, "ResourceArn", "TagKeys"),
)
