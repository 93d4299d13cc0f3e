"""Amazon's cron expressions: ``cron(minute hour day-of-month month day-of-week year)``, UTC.

    field         values                   wildcards
    minute        0-59                     , - * /
    hour          0-23                     , - * /
    day of month  1-31                     , - * / ? L W
    month         1-12 or JAN-DEC          , - * /
    day of week   1-7 or SUN-SAT           , - * / ? L #
    year          1970-2199                , - * /

One of the two days is ``?``.  ``L`` is the month's last day, ``LW`` its last weekday;
``15W`` is the weekday nearest to the 15th, within the month; ``6L`` is the month's last
Friday, ``6#3`` its third.  A day of the week that is ``L`` is Saturday.

This module is pure.

Source:
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html
"""

import calendar
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NoReturn

from ebsim.errors import InvalidRequest

_MONTHS = {name: number for number, name in enumerate(
    ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"), 1
)}  # fmt: skip
_WEEKDAYS = {name: number for number, name in enumerate(
    ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1
)}  # fmt: skip

_FitsDay = Callable[[date], bool]


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of numbers: its name, its bounds, and the names that its values may have."""

    name: str
    first: int
    last: int
    names: Mapping[str, int]


_MINUTE = _Field("minutes", 0, 59, {})
_HOUR = _Field("hours", 0, 23, {})
_DAY = _Field("day-of-month", 1, 31, {})
_MONTH = _Field("month", 1, 12, _MONTHS)
_WEEKDAY = _Field("day-of-week", 1, 7, _WEEKDAYS)
_YEAR = _Field("year", 1970, 2199, {})


class CronExpression:
    """A cron expression, checked once.  Times are whole minutes of UTC."""

    __slots__ = ("_fits_day", "_hours", "_minutes", "_months", "_years", "text")

    def __init__(self, text: str) -> None:
        """Parse ``cron(...)``.

        Raises:
            InvalidRequest: *text* is no cron expression.
        """
        self.text = text
        found = re.fullmatch(r"cron\((.*)\)", text)
        if found is None:
            _refuse(text, "write cron(minutes hours day-of-month month day-of-week year)")
        parts = found[1].upper().split()
        if len(parts) != 6:
            _refuse(text, f"it has {len(parts)} fields; expected 6")
        minute, hour, day, month, weekday, year = parts
        if (day == "?") is (weekday == "?"):
            _refuse(text, "exactly one of day-of-month and day-of-week is ?")
        self._minutes = sorted(_numbers(text, minute, _MINUTE))
        self._hours = sorted(_numbers(text, hour, _HOUR))
        self._months = _numbers(text, month, _MONTH)
        self._years = _numbers(text, year, _YEAR)
        self._fits_day = _weekdays(text, weekday) if day == "?" else _days(text, day)

    def newest_within(self, after: datetime, until: datetime) -> datetime | None:
        """The newest time ``after < time <= until``, or none.  Cost: a look at each day."""
        day = until.date()
        while day >= after.date():
            for time in reversed(self._times_of(day)):
                if after < time <= until:
                    return time
            if day == date.min:
                return None
            day -= timedelta(days=1)
        return None

    def next_after(self, after: datetime) -> datetime | None:
        """The first time later than *after*; none if there is no other."""
        for day in self._days_from(after.date()):
            for time in self._times_of(day):
                if time > after:
                    return time
        return None

    def _days_from(self, first: date) -> Iterator[date]:
        """Days from *first* on in whose month and year there are times."""
        day = first
        while day.year <= max(self._years):
            if day.year not in self._years:
                day = date(day.year + 1, 1, 1)
            elif day.month not in self._months:
                day = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
            else:
                yield day
                day += timedelta(days=1)

    def _times_of(self, day: date) -> list[datetime]:
        fits = day.year in self._years and day.month in self._months and self._fits_day(day)
        if not fits:
            return []
        return [
            datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
            for hour in self._hours
            for minute in self._minutes
        ]


def _refuse(text: str, why: str) -> NoReturn:
    raise InvalidRequest(f"'{text}' is not a cron expression: {why}. Nothing was changed.")


def _numbers(text: str, field_text: str, field: _Field) -> frozenset[int]:
    """The values of a field of numbers: ``*``, ``a``, ``a-b``, each with ``/n``, and lists."""
    found: set[int] = set()
    for part in field_text.split(","):
        span, slash, step_text = part.partition("/")
        step = 1
        if slash:
            if not step_text.isascii() or not step_text.isdecimal() or int(step_text) == 0:
                _refuse(text, f"'{part}' has no step in {field.name}")
            step = int(step_text)
        first_text, dash, last_text = span.partition("-")
        if span == "*":
            first, last = field.first, field.last
        else:
            first = _number(text, first_text, field)
            last = _number(text, last_text, field) if dash else field.last if slash else first
        if first > last:
            _refuse(text, f"'{part}' ends before it begins in {field.name}")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, value: str, field: _Field) -> int:
    number = field.names.get(value)
    if number is None and value.isascii() and value.isdecimal() and len(value) <= 4:
        number = int(value)
    if number is None or not field.first <= number <= field.last:
        _refuse(text, f"'{value}' is not from {field.first} to {field.last} in {field.name}")
    return number


def _days(text: str, field_text: str) -> _FitsDay:
    """What fits a day of the month."""
    if field_text == "L":
        return lambda day: day.day == _last_day(day)
    if field_text == "LW":
        return lambda day: day.day == _nearest_weekday(day, _last_day(day))
    if field_text.endswith("W"):
        wanted = _number(text, field_text[:-1], _DAY)
        return lambda day: wanted <= _last_day(day) and day.day == _nearest_weekday(day, wanted)
    days = _numbers(text, field_text, _DAY)
    return lambda day: day.day in days


def _weekdays(text: str, field_text: str) -> _FitsDay:
    """What fits a day of the week, of which Amazon's first is Sunday."""
    if field_text == "L":
        return lambda day: _weekday(day) == 7
    if field_text.endswith("L"):
        wanted = _number(text, field_text[:-1], _WEEKDAY)
        return lambda day: _weekday(day) == wanted and day.day + 7 > _last_day(day)
    weekday_text, found, which = field_text.partition("#")
    if found:
        if which not in {"1", "2", "3", "4", "5"}:
            _refuse(text, f"'{field_text}' names no week of a month, 1 to 5")
        wanted = _number(text, weekday_text, _WEEKDAY)
        return lambda day: _weekday(day) == wanted and (day.day - 1) // 7 + 1 == int(which)
    weekdays = _numbers(text, field_text, _WEEKDAY)
    return lambda day: _weekday(day) in weekdays


def _weekday(day: date) -> int:
    return day.isoweekday() % 7 + 1


def _last_day(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _nearest_weekday(day: date, wanted: int) -> int:
    """The day from Monday to Friday nearest to *wanted* in the month of *day*."""
    weekday = day.replace(day=wanted).isoweekday()
    if weekday == 6:
        return wanted - 1 if wanted > 1 else wanted + 2
    if weekday == 7:
        return wanted + 1 if wanted < _last_day(day) else wanted - 2
    return wanted
