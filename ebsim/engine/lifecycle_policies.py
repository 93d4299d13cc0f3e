"""Lifecycle policies: making, changing and finding them.

    HOME/regions/REGION/lifecycle/POLICY-ID.json   {"format": 1, "policy": {...}}
    HOME/regions/REGION/lifecycle/POLICY-ID.lock   locked by whoever runs it

A policy is its file: written whole, gone when that is unlinked.  What it has done so far is
told by its snapshots, which carry its tags, and by rows of the metadata (``schedule_runs.py``).

Source: https://docs.aws.amazon.com/dlm/latest/APIReference/API_CreateLifecyclePolicy.html
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ebsim.catalog.lifecycle_policy import (
    LifecyclePolicy,
    PolicyState,
    policy_from_json,
    policy_to_json,
)
from ebsim.catalog.policy_details import read_policy_details
from ebsim.durable_files import write_atomically
from ebsim.engine.region import Region
from ebsim.engine.schedule_runs import forget_runs
from ebsim.errors import InvalidRequest, MetadataCorrupt, NotFound, QuotaExceeded
from ebsim.ids import is_id_prefix, is_whole_id

LIFECYCLE = "lifecycle"
POLICIES_MAX = 100
DESCRIPTION_LENGTH_MAX = 500
_PREFIX = "policy"
_SUFFIX = ".json"
_SIZE_MAX = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOptions:
    """What a new policy is to be.

    Attributes:
        document: ``PolicyDetails``, with Amazon's names.
    """

    document: Mapping[str, Any]
    description: str = ""
    state: PolicyState = PolicyState.ENABLED
    role_arn: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


def create_policy(region: Region, options: PolicyOptions) -> LifecyclePolicy:
    """Make a policy; what is due from now on is done when it is run.

    Raises:
        InvalidRequest, UnsupportedParameter: its details.
        QuotaExceeded: the account has 100 policies in the region.
    """
    _check_document(options.document)
    _check_description(options.description)
    if len(list_policies(region)) >= POLICIES_MAX:
        raise QuotaExceeded(
            f"the account has {POLICIES_MAX} lifecycle policies. No policy was made."
        )
    now_ns = region.clock.now_ns()
    policy = LifecyclePolicy(
        policy_id=f"{_PREFIX}-{region.random.getrandbits(68):017x}",
        owner_id=region.account_id,
        description=options.description,
        state=options.state,
        document=options.document,
        create_time_ns=now_ns,
        modify_time_ns=now_ns,
        since_ns=now_ns,
        role_arn=options.role_arn,
        tags=dict(options.tags),
    )
    _write(region, policy)
    return policy


def change_policy(
    region: Region,
    name: str,
    *,
    document: Mapping[str, Any] | None = None,
    description: str | None = None,
    state: PolicyState | None = None,
    role_arn: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> LifecyclePolicy:
    """Change what is given of a policy; the rest stays.

    One that is enabled, or gets other details, does only what is due from now on.

    Raises:
        NotFound: there is none.
        InvalidRequest, UnsupportedParameter: its details.
    """
    old = get_policy(region, name)
    if document is not None:
        _check_document(document)
    if description is not None:
        _check_description(description)
    new = replace(
        old,
        document=old.document if document is None else document,
        description=old.description if description is None else description,
        state=old.state if state is None else state,
        role_arn=old.role_arn if role_arn is None else role_arn,
        tags=old.tags if tags is None else dict(tags),
    )
    if new == old:
        return old
    now_ns = region.clock.now_ns()
    is_enabled_now = old.state is PolicyState.DISABLED and new.state is PolicyState.ENABLED
    if is_enabled_now or new.document != old.document:
        new = replace(new, since_ns=now_ns)
    new = replace(new, modify_time_ns=now_ns)
    _write(region, new)
    return new


def delete_policy(region: Region, name: str) -> LifecyclePolicy:
    """Remove a policy; its snapshots stay.

    Raises:
        NotFound: there is none.
    """
    policy = get_policy(region, name)
    folder = region.path / LIFECYCLE
    region.files.unlink(folder / f"{policy.policy_id}{_SUFFIX}")
    region.files.sync_directory(folder)
    region.metadata.run(lambda txn: forget_runs(txn, policy.policy_id))
    return policy


def list_policies(region: Region) -> list[LifecyclePolicy]:
    """The account's policies, oldest first."""
    return [one for one in all_policies(region) if one.owner_id == region.account_id]


def all_policies(region: Region) -> list[LifecyclePolicy]:
    """The policies of all accounts, oldest first.

    Raises:
        MetadataCorrupt: a policy's file is damaged.
    """
    folder = region.path / LIFECYCLE
    ids = [name.removesuffix(_SUFFIX) for name in region.files.file_names(folder)]
    found = [_read(region, one) for one in ids if is_whole_id(one, _PREFIX)]
    return sorted(
        (policy for policy in found if policy is not None),
        key=lambda policy: (policy.create_time_ns, policy.policy_id),
    )


def get_policy(region: Region, name: str) -> LifecyclePolicy:
    """The account's policy whose id is *name*, or the only one whose id begins so.

    Raises:
        InvalidRequest: *name* fits several.
        NotFound: there is none.
    """
    fitting = []
    if is_id_prefix(name, _PREFIX):
        fitting = [one for one in list_policies(region) if one.policy_id.startswith(name)]
    if not fitting:
        raise NotFound(
            f"The policy '{name}' does not exist. Run 'ebsim lifecycle ls' to see them."
        )
    if len(fitting) > 1:
        raise InvalidRequest(
            f"'{name}' fits several policies: {fitting[0].policy_id}, {fitting[1].policy_id} "
            "... Give more of the id."
        )
    return fitting[0]


def policy_lock(region: Region, policy: LifecyclePolicy) -> Path:
    """The file that whoever runs the policy has locked."""
    return region.path / LIFECYCLE / f"{policy.policy_id}.lock"


def _check_document(document: Mapping[str, Any]) -> None:
    for schedule in read_policy_details(document).schedules:
        names = [rule.region_name for rule in schedule.copy_rules]
        if len(set(names)) < len(names):
            raise InvalidRequest(
                f"The policy is not valid: {schedule.name} has two copy rules for one region. "
                "Nothing was changed."
            )


def _check_description(description: str) -> None:
    if len(description) > DESCRIPTION_LENGTH_MAX or not description.isprintable():
        raise InvalidRequest(
            f"a policy's description has up to {DESCRIPTION_LENGTH_MAX} printable characters. "
            "Nothing was changed."
        )


def _write(region: Region, policy: LifecyclePolicy) -> None:
    folder = region.path / LIFECYCLE
    region.files.make_directories(folder)
    text = json.dumps({"format": 1, "policy": policy_to_json(policy)}, indent=1)
    write_atomically(region.files, folder / f"{policy.policy_id}{_SUFFIX}", text.encode())


def _read(region: Region, policy_id: str) -> LifecyclePolicy | None:
    path = region.path / LIFECYCLE / f"{policy_id}{_SUFFIX}"
    try:
        descriptor = region.files.open_to_read(path)
    except FileNotFoundError:
        # It was removed meanwhile.
        return None
    try:
        text = region.files.read(descriptor, 0, _SIZE_MAX)
    finally:
        region.files.close(descriptor)
    try:
        values = json.loads(text)
        if values["format"] != 1:
            raise MetadataCorrupt(where=str(path), found=f"format {values['format']}")
        return policy_from_json(values["policy"])
    except (ValueError, KeyError, TypeError) as error:
        raise MetadataCorrupt(where=str(path), found=repr(error)) from error
