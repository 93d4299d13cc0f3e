"""Making, changing, locking and removing rules of the recycle bin.

A rule says what becomes of things deleted from then on; what is in the bin already keeps
the time that it was given.  Each change is one transaction, its file written after.

Source: https://docs.aws.amazon.com/recyclebin/latest/APIReference/API_Operations.html
"""

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeVar

from ebsim.catalog.retention_rule import (
    RETENTION_DAYS_MAX,
    RULE_ID_LENGTH,
    RULES_MAX,
    ResourceType,
    RetentionRule,
    RuleLockState,
    find_rule,
    put_rule,
    remove_rule,
    rule_key,
    rules_of,
)
from ebsim.catalog.snapshot_lock import DAY_NS
from ebsim.clock import to_iso8601
from ebsim.engine.kept_settings import write_current_row
from ebsim.engine.region import Region
from ebsim.engine.tags import check_description, check_tags
from ebsim.errors import InvalidRequest, QuotaExceeded, RuleLocked, RuleNotFound
from ebsim.metadata.transactions import Reader, Table, Transaction

T = TypeVar("T")

TagPairs = Sequence[tuple[str, str]]

RESOURCE_TAGS_MAX = 50
EXCLUDE_TAGS_MAX = 5
UNLOCK_DELAY_DAYS = range(7, 31)
_ID_CHARACTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class RuleRequest:
    """What a new rule is to be.

    Attributes:
        resource_tags: Keep what has any of these; empty for everything of the type.
        exclude_tags: Of everything, not what has any of these.
        unlock_delay_days: Lock it at once, so that an unlock takes so long.
        tags: The rule's own.
    """

    resource_type: ResourceType
    retention_days: int
    description: str = ""
    resource_tags: TagPairs = ()
    exclude_tags: TagPairs = ()
    unlock_delay_days: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuleChange:
    """What is to change of a rule; ``None`` stays as it is."""

    resource_type: ResourceType | None = None
    retention_days: int | None = None
    description: str | None = None
    resource_tags: TagPairs | None = None
    exclude_tags: TagPairs | None = None


def create_rule(region: Region, request: RuleRequest) -> RetentionRule:
    """Make a rule; it is about whatever is deleted from now on.

    Raises:
        InvalidRequest: what makes no sense in *request*.
        QuotaExceeded: the account has 250 in the region.
    """
    check_tags(request.tags)
    rule = RetentionRule(
        rule_id=_new_rule_id(region.random),
        owner_id=region.account_id,
        resource_type=request.resource_type,
        retention_days=request.retention_days,
        create_time_ns=region.clock.now_ns(),
        description=request.description,
        resource_tags=tuple(request.resource_tags),
        exclude_tags=tuple(request.exclude_tags),
        tags=dict(request.tags),
    )
    _check(rule)
    if request.unlock_delay_days is not None:
        rule = _locked(rule, request.unlock_delay_days)

    def put(txn: Transaction) -> None:
        if sum(1 for _ in rules_of(txn, region.account_id)) >= RULES_MAX:
            raise QuotaExceeded(
                f"the account has {RULES_MAX} retention rules in this region, which is as many "
                "as there may be. Nothing was changed. Remove one first."
            )
        put_rule(txn, rule)

    _write(region, rule.rule_id, put)
    return rule


def update_rule(region: Region, rule_id: str, change: RuleChange) -> RetentionRule:
    """Change a rule, for whatever is deleted from now on; what is in the bin stays as it is.

    Raises:
        RuleNotFound: the account has none of this id.
        RuleLocked: it is locked, or its unlock is not over yet.
        InvalidRequest: what makes no sense in *change*.
    """

    def changed(rule: RetentionRule) -> RetentionRule:
        _refuse_locked(rule, region.clock.now_ns())
        asked = {
            "resource_type": change.resource_type,
            "retention_days": change.retention_days,
            "description": change.description,
            "resource_tags": _pairs(change.resource_tags),
            "exclude_tags": _pairs(change.exclude_tags),
        }
        wanted = {name: value for name, value in asked.items() if value is not None}
        new: RetentionRule = replace(rule, **wanted)  # type: ignore[arg-type]  # by field's name
        _check(new)
        return new

    return _change(region, rule_id, changed)


def delete_rule(region: Region, rule_id: str) -> None:
    """Remove a rule; what is in the bin stays until its time.

    Raises:
        RuleNotFound: the account has none of this id.
        RuleLocked: it is locked, or its unlock is not over yet.
    """

    def removable(reader: Reader) -> RetentionRule:
        rule = _get(reader, region, rule_id)
        _refuse_locked(rule, region.clock.now_ns())
        return rule

    region.metadata.read(removable)
    _write(region, rule_id, lambda txn: remove_rule(txn, removable(txn)))


def lock_rule(region: Region, rule_id: str, unlock_delay_days: int) -> RetentionRule:
    """Lock a rule, so that it can be changed only after an unlock and that many days.

    Raises:
        RuleNotFound: the account has none of this id.
        RuleLocked: it is locked already, or its unlock is not over yet.
        InvalidRequest: a delay that is not 7 to 30 days, or a rule with resource tags.
    """

    def locked(rule: RetentionRule) -> RetentionRule:
        _refuse_locked(rule, region.clock.now_ns())
        return _locked(rule, unlock_delay_days)

    return _change(region, rule_id, locked)


def unlock_rule(region: Region, rule_id: str) -> RetentionRule:
    """Have a locked rule unlocked when its delay is over.

    Raises:
        RuleNotFound: the account has none of this id.
        RuleLocked: it is not locked, or being unlocked already.
    """

    def unlocked(rule: RetentionRule) -> RetentionRule:
        now_ns = region.clock.now_ns()
        state = rule.lock_state_at(now_ns)
        if state is not RuleLockState.LOCKED or rule.unlock_delay_days is None:
            raise RuleLocked(
                f"the lock state of rule {rule.rule_id} is {state}, not locked. "
                "Nothing was changed."
            )
        return replace(rule, lock_end_time_ns=now_ns + rule.unlock_delay_days * DAY_NS)

    return _change(region, rule_id, unlocked)


def tag_rule(region: Region, rule_id: str, tags: Mapping[str, str]) -> RetentionRule:
    """Set tags of the rule itself, locked or not."""

    def tagged(rule: RetentionRule) -> RetentionRule:
        new = {**rule.tags, **tags}
        check_tags(new)
        return replace(rule, tags=new)

    return _change(region, rule_id, tagged)


def untag_rule(region: Region, rule_id: str, keys: Sequence[str]) -> RetentionRule:
    """Remove tags of the rule itself; those that are not there are passed over."""

    def untagged(rule: RetentionRule) -> RetentionRule:
        return replace(rule, tags={k: v for k, v in rule.tags.items() if k not in keys})

    return _change(region, rule_id, untagged)


def show_rule(region: Region, rule_id: str) -> RetentionRule:
    """The account's rule of that id.

    Raises:
        RuleNotFound: there is none.
    """
    return region.metadata.read(lambda reader: _get(reader, region, rule_id))


def list_rules(
    region: Region, resource_type: ResourceType | None = None
) -> Sequence[RetentionRule]:
    """The account's rules, about one type or all, by id."""
    rules = region.metadata.read(lambda reader: list(rules_of(reader, region.account_id)))
    return [rule for rule in rules if resource_type in (None, rule.resource_type)]


def _get(reader: Reader, region: Region, rule_id: str) -> RetentionRule:
    is_id = len(rule_id) == RULE_ID_LENGTH and set(rule_id) <= set(_ID_CHARACTERS)
    rule = find_rule(reader, region.account_id, rule_id) if is_id else None
    if rule is None:
        raise RuleNotFound(rule_id)
    return rule


def _change(
    region: Region, rule_id: str, change: Callable[[RetentionRule], RetentionRule]
) -> RetentionRule:
    def changed(reader: Reader) -> RetentionRule:
        return change(_get(reader, region, rule_id))

    def put(txn: Transaction) -> RetentionRule:
        new = changed(txn)
        put_rule(txn, new)
        return new

    region.metadata.read(changed)
    return _write(region, rule_id, put)


def _write(region: Region, rule_id: str, put: Callable[[Transaction], T]) -> T:
    with region.session():
        result = region.metadata.run(put)
        write_current_row(region, Table.RETENTION_RULES, rule_key(region.account_id, rule_id))
    return result


def _new_rule_id(random: Random) -> str:
    return "".join(random.choice(_ID_CHARACTERS) for _ in range(RULE_ID_LENGTH))


def _pairs(tags: TagPairs | None) -> tuple[tuple[str, str], ...] | None:
    return None if tags is None else tuple(tags)


def _locked(rule: RetentionRule, unlock_delay_days: int) -> RetentionRule:
    if unlock_delay_days not in UNLOCK_DELAY_DAYS:
        raise InvalidRequest(
            f"an unlock delay of {unlock_delay_days} days: expected {UNLOCK_DELAY_DAYS.start} to "
            f"{UNLOCK_DELAY_DAYS.stop - 1}. Nothing was changed."
        )
    if rule.resource_tags:
        raise InvalidRequest(
            "a rule with resource tags cannot be locked, only one of the whole region. "
            "Nothing was changed."
        )
    return replace(rule, unlock_delay_days=unlock_delay_days, lock_end_time_ns=None)


def _refuse_locked(rule: RetentionRule, now_ns: int) -> None:
    state = rule.lock_state_at(now_ns)
    if state is RuleLockState.UNLOCKED:
        return
    until = ""
    if rule.lock_end_time_ns is not None:
        until = f" until {to_iso8601(rule.lock_end_time_ns)}"
    raise RuleLocked(f"rule {rule.rule_id} is {state}{until}. Nothing was changed.")


def _check(rule: RetentionRule) -> None:
    check_description(rule.description)
    longest = RETENTION_DAYS_MAX[rule.resource_type]
    if not 1 <= rule.retention_days <= longest:
        raise InvalidRequest(
            f"a retention of {rule.retention_days} days: expected 1 to {longest} for "
            f"{rule.resource_type}. Nothing was changed."
        )
    for what, pairs, count_max in (
        ("resource tags", rule.resource_tags, RESOURCE_TAGS_MAX),
        ("exclusion tags", rule.exclude_tags, EXCLUDE_TAGS_MAX),
    ):
        if len(pairs) > count_max:
            raise InvalidRequest(
                f"{len(pairs)} {what} are more than {count_max}. Nothing was changed."
            )
    if rule.resource_tags and rule.exclude_tags:
        raise InvalidRequest(
            "a rule has resource tags or exclusion tags, not both. Nothing was changed."
        )
