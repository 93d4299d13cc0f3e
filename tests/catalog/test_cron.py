"""Amazon's cron expressions, against the calendar and against a slow model."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.catalog.cron import CronExpression
from ebsim.errors import InvalidRequest


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def next_times(expression: str, after: str, count: int = 3) -> list[str]:
    cron, time = CronExpression(f"cron({expression})"), at(after)
    found = []
    for _ in range(count):
        following = cron.next_after(time)
        if following is None:
            break
        time = following
        found.append(f"{time:%Y-%m-%d %H:%M}")
    return found


# Days looked up in a calendar of 2026: 1 January is a Thursday.
@pytest.mark.parametrize(
    ("expression", "times"),
    [
        ("15 10 * * ? *", ["2026-01-01 10:15", "2026-01-02 10:15", "2026-01-03 10:15"]),
        ("0 18 ? * MON-FRI *", ["2026-01-01 18:00", "2026-01-02 18:00", "2026-01-05 18:00"]),
        ("0 8 1 * ? *", ["2026-01-01 08:00", "2026-02-01 08:00", "2026-03-01 08:00"]),
        ("0/20 9 * * ? *", ["2026-01-01 09:00", "2026-01-01 09:20", "2026-01-01 09:40"]),
        ("5 8,20 L * ? *", ["2026-01-31 08:05", "2026-01-31 20:05", "2026-02-28 08:05"]),
        ("0 0 LW * ? *", ["2026-01-30 00:00", "2026-02-27 00:00", "2026-03-31 00:00"]),
        ("0 0 15W * ? *", ["2026-01-15 00:00", "2026-02-16 00:00", "2026-03-16 00:00"]),
        ("0 12 1W 2,8,11 ? *", ["2026-02-02 12:00", "2026-08-03 12:00", "2026-11-02 12:00"]),
        ("0 0 31W * ? *", ["2026-01-30 00:00", "2026-03-31 00:00", "2026-05-29 00:00"]),
        ("0 0 ? * 6#3 *", ["2026-01-16 00:00", "2026-02-20 00:00", "2026-03-20 00:00"]),
        ("0 0 ? * 6L *", ["2026-01-30 00:00", "2026-02-27 00:00", "2026-03-27 00:00"]),
        ("0 0 ? * L *", ["2026-01-03 00:00", "2026-01-10 00:00", "2026-01-17 00:00"]),
        ("0 0 ? * SUN#5 *", ["2026-03-29 00:00", "2026-05-31 00:00", "2026-08-30 00:00"]),
        ("30 6 29 FEB ? *", ["2028-02-29 06:30", "2032-02-29 06:30", "2036-02-29 06:30"]),
        ("0 0 1 jan ? 2027-2029/2", ["2027-01-01 00:00", "2029-01-01 00:00"]),
        ("0 0 1 1 ? 1999", []),
        ("0 0 30 2 ? *", []),
    ],
)
def test_the_times_are_those_of_a_calendar(expression: str, times: list[str]) -> None:
    assert next_times(expression, "2026-01-01") == times


@pytest.mark.parametrize(
    "text",
    [
        "0 0 * * ? *",
        "cron()",
        "cron(0 0 * * ?)",
        "cron(0 0 * * * *)",
        "cron(0 0 ? * ? *)",
        "cron(60 0 * * ? *)",
        "cron(0 24 * * ? *)",
        "cron(0 0 0 * ? *)",
        "cron(0 0 32W * ? *)",
        "cron(0 0 W * ? *)",
        "cron(0 0 1 13 ? *)",
        "cron(0 0 ? * 8 *)",
        "cron(0 0 ? * 2#6 *)",
        "cron(0 0 ? * #1 *)",
        "cron(0 0 1 * ? 1969)",
        "cron(5-1 0 1 * ? *)",
        "cron(0/0 0 1 * ? *)",
        "cron(*/x 0 1 * ? *)",
        "cron(1, 0 1 * ? *)",
        "cron(-1 0 1 * ? *)",
        "cron(² 0 1 * ? *)",
        "rate(1 day)",
    ],
)
def test_what_is_no_cron_expression_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="not a cron expression"):
        CronExpression(text)


def numbers(first: int, last: int) -> st.SearchStrategy[str]:
    one = st.integers(first, last)
    return st.one_of(
        st.just("*"),
        one.map(str),
        st.lists(one, min_size=1, max_size=3).map(lambda found: ",".join(map(str, found))),
        st.tuples(one, one).map(lambda pair: f"{min(pair)}-{max(pair)}"),
        st.tuples(one, st.integers(1, 9)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    )


DAYS = st.one_of(
    st.tuples(
        st.one_of(numbers(1, 31), st.sampled_from(["L", "LW", "1W", "15W", "31W"])), st.just("?")
    ),
    st.tuples(
        st.just("?"), st.one_of(numbers(1, 7), st.sampled_from(["L", "2L", "7L", "1#1", "4#5"]))
    ),
)
EXPRESSIONS = st.builds(
    lambda minute, hour, days, month: CronExpression(
        f"cron({minute} {hour} {days[0]} {month} {days[1]} *)"
    ),
    numbers(0, 59),
    numbers(0, 23),
    DAYS,
    numbers(1, 12),
)
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(  # noqa: DTZ001 (UTC follows)
    lambda time: time.replace(tzinfo=UTC)
)


@given(EXPRESSIONS, TIMES)
def test_the_next_time_is_the_newest_one_up_to_it(cron: CronExpression, after: datetime) -> None:
    following = cron.next_after(after)
    if following is None:
        return
    assert following > after
    assert (following.second, following.microsecond) == (0, 0)
    assert cron.newest_within(after, following) == following
    assert cron.newest_within(after, following - timedelta(microseconds=1)) is None
    assert cron.newest_within(following, following) is None


@given(DAYS, TIMES, st.integers(0, 40))
def test_the_newest_time_is_the_last_of_all_that_follow(
    days: tuple[str, str], after: datetime, day_count: int
) -> None:
    cron = CronExpression(f"cron(30 12 {days[0]} * {days[1]} *)")
    until = after + timedelta(days=day_count, hours=5)
    newest, time = None, after
    while (following := cron.next_after(time)) is not None and following <= until:
        newest = time = following
    assert cron.newest_within(after, until) == newest
