"""The lifecycle policy record: schedules by which snapshots are taken and deleted."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from ebsim.catalog.policy_details import PolicyDetails, read_policy_details
from ebsim.errors import EbsimError, MetadataCorrupt
from ebsim.ids import AccountId

POLICY_TAG = "aws:dlm:lifecycle-policy-id"
SCHEDULE_TAG = "aws:dlm:lifecycle-schedule-name"
MANAGED_TAG = "dlm:managed"


class PolicyState(StrEnum):
    """Amazon's states of a policy, as far as they can be set."""

    ENABLED = "ENABLED"
    DISABLED = "DISABLED"


@dataclass(frozen=True, slots=True)
class LifecyclePolicy:
    """A policy.

    Attributes:
        document: Its ``PolicyDetails`` as they were given, to be shown again.
        since_ns: Only what is due later counts: when it was made, enabled or changed.
        role_arn: Whom Amazon would let act; kept and shown.
    """

    policy_id: str
    owner_id: AccountId
    description: str
    state: PolicyState
    document: Mapping[str, Any]
    create_time_ns: int
    modify_time_ns: int
    since_ns: int
    role_arn: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def details(self) -> PolicyDetails:
        """What it does."""
        return read_policy_details(self.document)


def policy_to_json(policy: LifecyclePolicy) -> dict[str, Any]:
    return asdict(policy)


def policy_from_json(values: Mapping[str, Any]) -> LifecyclePolicy:
    """The policy that ``policy_to_json`` wrote.

    Raises:
        MetadataCorrupt: a field is missing, unknown or makes no sense.
    """
    try:
        policy = LifecyclePolicy(**{**values, "state": PolicyState(values["state"])})
        read_policy_details(policy.document)
    except (KeyError, TypeError, ValueError, EbsimError) as error:
        raise MetadataCorrupt(where="a lifecycle policy", found=repr(error)) from error
    return policy


def dlm_tags(policy_id: str, schedule_name: str) -> dict[str, str]:
    """The tags by which a policy's snapshots and copies are known."""
    return {POLICY_TAG: policy_id, SCHEDULE_TAG: schedule_name, MANAGED_TAG: "true"}
