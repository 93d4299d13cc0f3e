"""What a lifecycle policy does: Data Lifecycle Manager's ``PolicyDetails``, read and checked.

Read from the object that clients send, with Amazon's names.  What ebsim does not do is
refused by name; nothing is passed over.

Source:
    https://docs.aws.amazon.com/dlm/latest/APIReference/API_PolicyDetails.html
    https://docs.aws.amazon.com/dlm/latest/APIReference/API_Schedule.html
"""

import calendar
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NoReturn

from ebsim.catalog.cron import CronExpression
from ebsim.errors import InvalidRequest, UnsupportedParameter
from ebsim.ids import AccountId, is_account_id

INTERVALS = (1, 2, 3, 4, 6, 8, 12, 24)
SCHEDULES_MAX = 4
COPIES_MAX = 3
COUNT_MAX = 1000
TAGS_TO_ADD_MAX = 45
VARIABLES = ("$(instance-id)", "$(timestamp)")
TIME_DEFAULT = "09:00"
"""When an interval begins that says no time, as in Amazon's console."""

_TIME = re.compile(r"(0[0-9]|1[0-9]|2[0-3]):([0-5][0-9])")
_NAME = re.compile(r"[0-9A-Za-z _-]{1,120}")
_AGES_MAX = {"DAYS": 36_500, "WEEKS": 5_200, "MONTHS": 1_200, "YEARS": 100}


class TargetKind(StrEnum):
    """What a policy snapshots."""

    VOLUME = "VOLUME"
    INSTANCE = "INSTANCE"


@dataclass(frozen=True, slots=True)
class Age:
    """An age in Amazon's units; months and years are those of the calendar."""

    count: int
    unit: str

    def before(self, time: datetime) -> datetime:
        """The time that is so long before *time*."""
        if self.unit in {"DAYS", "WEEKS"}:
            return time - timedelta(days=self.count * (7 if self.unit == "WEEKS" else 1))
        months = time.year * 12 + time.month - 1 - self.count * (12 if self.unit == "YEARS" else 1)
        year, month = max(1, months // 12), months % 12 + 1
        day = min(time.day, calendar.monthrange(year, month)[1])
        return time.replace(year=year, month=month, day=day)


@dataclass(frozen=True, slots=True)
class CreateRule:
    """When snapshots are due: a cron expression, or every so many hours from a time on."""

    cron: CronExpression | None
    interval_hours: int = 24
    start: str = TIME_DEFAULT

    def newest_within(self, after: datetime, until: datetime) -> datetime | None:
        """The newest due time ``after < time <= until``, if there is one."""
        if self.cron is not None:
            return self.cron.newest_within(after, until)
        first = self._first_of(until)
        due = first + (until - first) // self._step * self._step
        return due if due > after else None

    def next_after(self, after: datetime) -> datetime | None:
        """The first due time later than *after*."""
        if self.cron is not None:
            return self.cron.next_after(after)
        first = self._first_of(after)
        return first + ((after - first) // self._step + 1) * self._step

    @property
    def _step(self) -> timedelta:
        return timedelta(hours=self.interval_hours)

    def _first_of(self, day: datetime) -> datetime:
        # Every interval divides the day, so each day has the same times.
        hour, minute = self.start.split(":")
        return day.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class RetainRule:
    """How many snapshots of a volume are kept, or how long."""

    count: int | None
    age: Age | None


@dataclass(frozen=True, slots=True)
class CopyRule:
    """Copies to another region; without an age they are kept."""

    region_name: str
    copy_tags: bool
    age: Age | None


@dataclass(frozen=True, slots=True)
class ShareRule:
    """Accounts that may use the snapshots, and until which age of theirs."""

    accounts: Sequence[AccountId]
    age: Age | None


@dataclass(frozen=True, slots=True)
class FastRestoreRule:
    """Snapshots of which volumes are kept loaded, how many or how long, and in which zones."""

    keep: RetainRule
    zones: Sequence[str]


@dataclass(frozen=True, slots=True)
class Schedule:
    """One of a policy's schedules.

    Attributes:
        archive_rule: How many, or how long, are kept in the archive that *retain_rule* does
            not keep; ``None`` deletes those.
    """

    name: str
    create_rule: CreateRule
    retain_rule: RetainRule
    copy_tags: bool
    tags_to_add: Mapping[str, str]
    variable_tags: Mapping[str, str]
    copy_rules: Sequence[CopyRule]
    share_rule: ShareRule | None
    fast_restore_rule: FastRestoreRule | None
    archive_rule: RetainRule | None


@dataclass(frozen=True, slots=True)
class PolicyDetails:
    """What is snapshotted when, and what becomes of it.

    Attributes:
        target_tags: A volume or instance that has one of these is a target.
        excluded_tags: Of instances: data volumes that have one of these are left out.
    """

    target_kind: TargetKind
    target_tags: Sequence[tuple[str, str]]
    schedules: Sequence[Schedule]
    exclude_boot_volume: bool
    excluded_tags: Sequence[tuple[str, str]]


class _Members:
    """An object that is read member by member; what is left over is refused by name."""

    def __init__(self, values: object, path: str) -> None:
        if not isinstance(values, Mapping):
            refuse(f"{path or 'PolicyDetails'} must be an object")
        self._left = {name: value for name, value in values.items() if value is not None}
        self._path = path

    def path(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def take(self, name: str, kind: type, default: Any = None) -> Any:
        """A member of a type, or *default* where it is missing."""
        if name not in self._left:
            return default
        value = self._left.pop(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            refuse(f"{self.path(name)} is not of type {kind.__name__}")
        return value

    def only(self, name: str, supported: Any) -> None:
        """Accept the member if it is what ebsim does anyway."""
        if self._left.get(name, supported) == supported:
            self._left.pop(name, None)

    def end(self) -> None:
        for name, value in self._left.items():
            if value not in ([], {}):
                raise UnsupportedParameter(
                    f"The parameter {self.path(name)} is not supported by ebsim. Nothing was "
                    "changed. Leave it out."
                )


def refuse(why: str) -> NoReturn:
    raise InvalidRequest(f"The policy is not valid: {why}. Nothing was changed.")


def read_policy_details(values: object) -> PolicyDetails:
    """The details that a client sent.

    Raises:
        InvalidRequest: they make no sense.
        UnsupportedParameter: they ask for what ebsim does not do, and for what.
    """
    members = _Members(values, "")
    members.only("PolicyType", "EBS_SNAPSHOT_MANAGEMENT")
    members.only("PolicyLanguage", "STANDARD")
    members.only("ResourceLocations", ["CLOUD"])
    kinds = members.take("ResourceTypes", list, [])
    if len(kinds) != 1 or kinds[0] not in list(TargetKind):
        refuse("ResourceTypes is one of VOLUME and INSTANCE")
    kind = TargetKind(kinds[0])
    target_tags = _tag_pairs(members.take("TargetTags", list, []), "TargetTags")
    if not target_tags:
        refuse("TargetTags has at least one tag")
    parameters = _Members(members.take("Parameters", dict, {}), "Parameters")
    exclude_boot, excluded = False, []
    if kind is TargetKind.INSTANCE:
        exclude_boot = parameters.take("ExcludeBootVolume", bool, default=False)
        path = parameters.path("ExcludeDataVolumeTags")
        excluded = _tag_pairs(parameters.take("ExcludeDataVolumeTags", list, []), path)
    parameters.end()
    listed = members.take("Schedules", list, [])
    members.end()
    if not 1 <= len(listed) <= SCHEDULES_MAX:
        refuse(f"Schedules has 1 to {SCHEDULES_MAX} schedules")
    schedules = [_schedule(one, f"Schedules[{i}]", kind) for i, one in enumerate(listed)]
    if len({schedule.name for schedule in schedules}) < len(schedules):
        refuse("two schedules have one name")
    return PolicyDetails(kind, target_tags, schedules, exclude_boot, excluded)


def _schedule(values: object, path: str, kind: TargetKind) -> Schedule:
    members = _Members(values, path)
    name = members.take("Name", str, "")
    if _NAME.fullmatch(name) is None:
        refuse(f"{path}.Name has 1 to 120 letters, digits, spaces, dashes or underscores")
    variable_tags = dict(
        _tag_pairs(members.take("VariableTags", list, []), members.path("VariableTags"))
    )
    if variable_tags and kind is not TargetKind.INSTANCE:
        refuse(f"{path}.VariableTags are for policies of instances")
    for value in variable_tags.values():
        if value not in VARIABLES:
            refuse(f"{path}.VariableTags has the value '{value}'; expected {VARIABLES}")
    tags = dict(_tag_pairs(members.take("TagsToAdd", list, []), members.path("TagsToAdd")))
    if len(tags) + len(variable_tags) > TAGS_TO_ADD_MAX:
        refuse(f"{path} adds more than {TAGS_TO_ADD_MAX} tags")
    copies = members.take("CrossRegionCopyRules", list, [])
    shares = members.take("ShareRules", list, [])
    if len(copies) > COPIES_MAX or len(shares) > 1:
        refuse(f"{path} has at most {COPIES_MAX} copy rules and one share rule")
    archive = members.take("ArchiveRule", dict)
    fast = members.take("FastRestoreRule", dict)
    schedule = Schedule(
        name=name,
        create_rule=_create_rule(members.take("CreateRule", dict, {}), f"{path}.CreateRule"),
        retain_rule=_retain_rule(
            members.take("RetainRule", dict, {}),
            f"{path}.RetainRule",
            least=1 if archive is None else 0,
        ),
        copy_tags=members.take("CopyTags", bool, default=False),
        tags_to_add=tags,
        variable_tags=variable_tags,
        copy_rules=[_copy_rule(one, f"{path}.CrossRegionCopyRules") for one in copies],
        share_rule=_share_rule(shares[0], f"{path}.ShareRules") if shares else None,
        fast_restore_rule=_fast_restore_rule(fast, f"{path}.FastRestoreRule"),
        archive_rule=_archive_rule(archive, f"{path}.ArchiveRule"),
    )
    members.end()
    return schedule


def _create_rule(values: object, path: str) -> CreateRule:
    members = _Members(values, path)
    members.only("Location", "CLOUD")
    cron = members.take("CronExpression", str)
    interval = members.take("Interval", int)
    if (cron is None) is (interval is None):
        refuse(f"{path} has either Interval or CronExpression")
    if cron is not None:
        members.end()
        return CreateRule(CronExpression(cron))
    members.only("IntervalUnit", "HOURS")
    times = members.take("Times", list, [TIME_DEFAULT])
    members.end()
    if interval not in INTERVALS:
        refuse(f"{path}.Interval is one of {', '.join(map(str, INTERVALS))} hours")
    if len(times) != 1 or not isinstance(times[0], str) or not _TIME.fullmatch(times[0]):
        refuse(f"{path}.Times has one time, such as 09:00")
    return CreateRule(None, interval, times[0])


def _retain_rule(values: object, path: str, *, least: int = 1) -> RetainRule:
    members = _Members(values, path)
    rule = _kept(members, path, least)
    members.end()
    return rule


def _kept(members: _Members, path: str, least: int = 1) -> RetainRule:
    count, age = members.take("Count", int), _age(members)
    if (count is None) is (age is None):
        refuse(f"{path} has either Count, or Interval and IntervalUnit")
    if count is not None and not least <= count <= COUNT_MAX:
        refuse(f"{path}.Count is from {least} to {COUNT_MAX}")
    return RetainRule(count, age)


def _archive_rule(values: object, path: str) -> RetainRule | None:
    if values is None:
        return None
    members = _Members(values, path)
    retain = _Members(members.take("RetainRule", dict, {}), members.path("RetainRule"))
    members.end()
    tier = "RetentionArchiveTier"
    rule = _retain_rule(retain.take(tier, dict, {}), retain.path(tier))
    retain.end()
    return rule


def _fast_restore_rule(values: object, path: str) -> FastRestoreRule | None:
    if values is None:
        return None
    members = _Members(values, path)
    zones = members.take("AvailabilityZones", list, [])
    keep = _kept(members, path)
    members.end()
    if not zones or not all(isinstance(zone, str) for zone in zones):
        refuse(f"{path}.AvailabilityZones has at least one zone")
    return FastRestoreRule(keep, zones)


def _copy_rule(values: object, path: str) -> CopyRule:
    members = _Members(values, path)
    target = members.take("TargetRegion", str) or members.take("Target", str)
    if target is None:
        refuse(f"{path} has a TargetRegion")
    members.only("Encrypted", supported=False)
    rule = members.take("RetainRule", dict)
    age = None
    if rule is not None:
        retain = _Members(rule, members.path("RetainRule"))
        age = _age(retain)
        retain.end()
    copy_tags = members.take("CopyTags", bool, default=False)
    members.end()
    return CopyRule(target, copy_tags, age)


def _share_rule(values: object, path: str) -> ShareRule:
    members = _Members(values, path)
    accounts = members.take("TargetAccounts", list, [])
    age = _age(members, "UnshareInterval", "UnshareIntervalUnit")
    members.end()
    if not accounts or not all(isinstance(a, str) and is_account_id(a) for a in accounts):
        refuse(f"{path}.TargetAccounts are accounts, of 12 digits")
    return ShareRule([AccountId(account) for account in accounts], age)


def _age(
    members: _Members, interval: str = "Interval", interval_unit: str = "IntervalUnit"
) -> Age | None:
    count, unit = members.take(interval, int), members.take(interval_unit, str)
    if count is None and unit is None:
        return None
    if count is None or unit not in _AGES_MAX or not 1 <= count <= _AGES_MAX[unit]:
        refuse(
            f"{members.path(interval)} goes with {interval_unit}, DAYS to YEARS, up to 100 years"
        )
    return Age(count, unit)


def _tag_pairs(tags: Sequence[object], path: str) -> list[tuple[str, str]]:
    pairs = []
    for tag in tags:
        members = _Members(tag, path)
        key, value = members.take("Key", str), members.take("Value", str)
        members.end()
        if key is None or value is None:
            refuse(f"{path} has tags with Key and Value")
        pairs.append((key, value))
    if len(set(pairs)) < len(pairs):
        refuse(f"{path} has one tag twice")
    return pairs
