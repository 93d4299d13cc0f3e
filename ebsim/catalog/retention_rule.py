"""Rules of the recycle bin: which deleted snapshots and volumes it keeps, and for how long.

A rule with resource tags keeps what has any of them; one without keeps everything of its
type in the region, but what has any of its exclusion tags.  Of several that match, the
longest retention counts.

    lock state        since                            what may be done with the rule
    unlocked          never locked, or unlock done     everything
    locked            it was locked                    unlock
    pending_unlock    it was unlocked                  nothing, until its unlock delay is over

Source: https://docs.aws.amazon.com/ebs/latest/userguide/recycle-bin-concepts.html
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from ebsim.errors import MetadataCorrupt
from ebsim.ids import AccountId
from ebsim.metadata.transactions import Reader, Table, Transaction

RULES_MAX = 250
RULE_ID_LENGTH = 11


class ResourceType(StrEnum):
    """What a rule is about."""

    SNAPSHOT = "EBS_SNAPSHOT"
    VOLUME = "EBS_VOLUME"


RETENTION_DAYS_MAX = {ResourceType.SNAPSHOT: 365, ResourceType.VOLUME: 7}


class RuleLockState(StrEnum):
    """Amazon's states of a rule's lock."""

    LOCKED = "locked"
    PENDING_UNLOCK = "pending_unlock"
    UNLOCKED = "unlocked"


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """A rule.

    Attributes:
        resource_tags: Pairs of key and value; empty for a rule of the whole region.
        exclude_tags: Pairs of key and value.
        tags: The rule's own.
        unlock_delay_days: Of a rule that is locked, or was until its delay was over.
        lock_end_time_ns: When an unlock takes effect; ``None`` unless one was asked for.
    """

    rule_id: str
    owner_id: AccountId
    resource_type: ResourceType
    retention_days: int
    create_time_ns: int
    description: str = ""
    resource_tags: tuple[tuple[str, str], ...] = ()
    exclude_tags: tuple[tuple[str, str], ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    unlock_delay_days: int | None = None
    lock_end_time_ns: int | None = None

    def lock_state_at(self, now_ns: int) -> RuleLockState:
        """What its lock is at *now_ns*."""
        if self.unlock_delay_days is None:
            return RuleLockState.UNLOCKED
        if self.lock_end_time_ns is None:
            return RuleLockState.LOCKED
        is_over = now_ns >= self.lock_end_time_ns
        return RuleLockState.UNLOCKED if is_over else RuleLockState.PENDING_UNLOCK

    def keeps(self, tags: Mapping[str, str]) -> bool:
        """Whether it keeps a resource of its type that has *tags*."""
        has = tags.items()
        if self.resource_tags:
            return any(pair in has for pair in self.resource_tags)
        return not any(pair in has for pair in self.exclude_tags)


def rule_to_json(rule: RetentionRule) -> dict[str, Any]:
    return asdict(rule)


def rule_from_json(values: Mapping[str, Any]) -> RetentionRule:
    """The rule that ``rule_to_json`` wrote.

    Raises:
        MetadataCorrupt: a field is missing, unknown or of another type.
    """
    try:
        return RetentionRule(
            **{
                **values,
                "resource_type": ResourceType(values["resource_type"]),
                "resource_tags": tuple((key, value) for key, value in values["resource_tags"]),
                "exclude_tags": tuple((key, value) for key, value in values["exclude_tags"]),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MetadataCorrupt(where="a recycle bin rule", found=repr(error)) from error


def rule_key(owner_id: AccountId, rule_id: str) -> bytes:
    """The row of a rule."""
    return f"{owner_id}{rule_id}".encode()


def put_rule(txn: Transaction, rule: RetentionRule) -> None:
    row = json.dumps(rule_to_json(rule), separators=(",", ":")).encode()
    txn.put_many(Table.RETENTION_RULES, [(rule_key(rule.owner_id, rule.rule_id), row)])


def remove_rule(txn: Transaction, rule: RetentionRule) -> None:
    txn.delete_many(Table.RETENTION_RULES, [rule_key(rule.owner_id, rule.rule_id)])


def find_rule(reader: Reader, owner_id: AccountId, rule_id: str) -> RetentionRule | None:
    (row,) = reader.get_many(Table.RETENTION_RULES, [rule_key(owner_id, rule_id)])
    return None if row is None else rule_from_json(json.loads(row))


def rules_of(reader: Reader, owner_id: AccountId) -> Iterator[RetentionRule]:
    """The account's rules, by id."""
    prefix = owner_id.encode()
    # A few more than there can be.
    rows = reader.scan(Table.RETENTION_RULES, prefix, prefix + b"\xff", limit=2 * RULES_MAX)
    return (rule_from_json(json.loads(row)) for _, row in rows)


def retention_days(
    reader: Reader, owner_id: AccountId, resource_type: ResourceType, tags: Mapping[str, str]
) -> int | None:
    """For how long the account keeps such a resource that is deleted; ``None``: it does not."""
    kept = [
        rule.retention_days
        for rule in rules_of(reader, owner_id)
        if rule.resource_type is resource_type and rule.keeps(tags)
    ]
    return max(kept, default=None)
