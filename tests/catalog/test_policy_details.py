"""Policy details: due times, ages, and that anything else is refused in so many words."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.catalog.policy_details import INTERVALS, Age, CreateRule, read_policy_details
from ebsim.errors import InvalidRequest, UnsupportedParameter

TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(  # noqa: DTZ001 (UTC follows)
    lambda time: time.replace(tzinfo=UTC)
)
RULES = st.builds(
    lambda interval, hour, minute: CreateRule(None, interval, f"{hour:02}:{minute:02}"),
    st.sampled_from(INTERVALS),
    st.integers(0, 23),
    st.integers(0, 59),
)


def slow_due_times(rule: CreateRule, day: datetime) -> list[datetime]:
    """The due times of the days around *day*, counted one by one."""
    hour, minute = map(int, rule.start.split(":"))
    first = day.replace(hour=hour, minute=minute, second=0, microsecond=0) - timedelta(days=3)
    count = 6 * 24 // rule.interval_hours
    return [first + timedelta(hours=rule.interval_hours * number) for number in range(count)]


@given(RULES, TIMES, st.floats(0, 40))
def test_an_interval_is_due_when_counting_says_so(
    rule: CreateRule, after: datetime, hours: float
) -> None:
    until = after + timedelta(hours=hours)
    times = slow_due_times(rule, after)
    within = [time for time in times if after < time <= until]
    assert rule.newest_within(after, until) == (within[-1] if within else None)
    assert rule.next_after(after) == next(time for time in times if time > after)


@pytest.mark.parametrize(
    ("age", "time", "before"),
    [
        (Age(1, "DAYS"), "2026-03-01", "2026-02-28"),
        (Age(2, "WEEKS"), "2026-03-01", "2026-02-15"),
        (Age(1, "MONTHS"), "2026-03-31", "2026-02-28"),
        (Age(14, "MONTHS"), "2026-03-31", "2025-01-31"),
        (Age(1, "YEARS"), "2028-02-29", "2027-02-28"),
        (Age(12, "MONTHS"), "2026-01-15", "2025-01-15"),
    ],
)
def test_an_age_is_counted_by_the_calendar(age: Age, time: str, before: str) -> None:
    found = age.before(datetime.fromisoformat(time))
    assert found == datetime.fromisoformat(before)


def details(**schedule: Any) -> dict[str, Any]:
    return {
        "ResourceTypes": ["VOLUME"],
        "TargetTags": [{"Key": "a", "Value": "b"}],
        "Schedules": [
            {
                "Name": "s",
                "CreateRule": {"Interval": 24, "IntervalUnit": "HOURS"},
                "RetainRule": {"Count": 1},
                **schedule,
            }
        ],
    }


@pytest.mark.parametrize(
    ("values", "path"),
    [
        (
            details(FastRestoreRule={"Count": 1, "AvailabilityZoneIds": ["use1-az1"]}),
            "Schedules[0].FastRestoreRule.AvailabilityZoneIds",
        ),
        (details(DeprecateRule={"Count": 1}), "Schedules[0].DeprecateRule"),
        (
            details(CreateRule={"Interval": 24, "Scripts": [{"ExecutionHandler": "x"}]}),
            "Schedules[0].CreateRule.Scripts",
        ),
        (
            details(CrossRegionCopyRules=[{"TargetRegion": "eu", "Encrypted": True}]),
            "Schedules[0].CrossRegionCopyRules.Encrypted",
        ),
        ({**details(), "PolicyType": "IMAGE_MANAGEMENT"}, "PolicyType"),
        ({**details(), "Exclusions": {"ExcludeBootVolumes": True}}, "Exclusions"),
        ({**details(), "Parameters": {"NoReboot": True}}, "Parameters.NoReboot"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(values: Any, path: str) -> None:
    with pytest.raises(UnsupportedParameter, match="is not supported") as caught:
        read_policy_details(values)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        details(RetainRule={"Count": 1, "Interval": 1, "IntervalUnit": "DAYS"}),
        details(RetainRule={"Count": 1001}),
        details(RetainRule={"Interval": 1}),
        details(RetainRule={"Interval": 101, "IntervalUnit": "YEARS"}),
        details(CreateRule={"Interval": 24, "CronExpression": "cron(0 0 * * ? *)"}),
        details(CreateRule={"Interval": True}),
        details(Name="a/b"),
        details(FastRestoreRule={"Count": 1}),
        details(FastRestoreRule={"AvailabilityZones": ["us-east-1a"]}),
        details(ArchiveRule={"RetainRule": {}}),
        details(RetainRule={"Count": 0}),
        details(VariableTags=[{"Key": "a", "Value": "$(instance-id)"}]),
        details(TagsToAdd=[{"Key": "a"}]),
        {**details(), "Schedules": details()["Schedules"] * 2},
        {**details(), "Schedules": []},
        {**details(), "ResourceTypes": ["VOLUME", "INSTANCE"]},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(values: Any) -> None:
    with pytest.raises(InvalidRequest, match="not valid"):
        read_policy_details(values)


NAMES = st.sampled_from(
    (
        *("ResourceTypes", "TargetTags", "Schedules", "Name", "CreateRule", "RetainRule", "Count"),
        *("Interval", "Key", "Value", "Parameters", "CronExpression", "Times", "ShareRules"),
    )
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(["VOLUME", "s", "09:00"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(ANYTHING, ANYTHING)
def test_any_json_is_details_or_is_refused(whole: Any, schedule: Any) -> None:
    for values in (whole, details(**schedule) if isinstance(schedule, dict) else whole):
        try:
            read_policy_details(values)
        except InvalidRequest:
            continue
