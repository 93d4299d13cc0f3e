"""Where time comes from, so that tests can hold it."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """A source of wall-clock time."""

    def now_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC."""


class SystemClock:
    """The machine's own clock."""

    def now_ns(self) -> int:
        return time.time_ns()


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, seconds: float) -> None:
        self._now_ns += round(seconds * 1e9)


def to_datetime(time_ns: int) -> datetime:
    """The UTC datetime of *time_ns*, at microsecond precision."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).replace(
        microsecond=time_ns % 1_000_000_000 // 1000
    )


def to_iso8601(time_ns: int) -> str:
    """*time_ns* as AWS writes it: ``2026-11-22T16:58:03.123Z``."""
    return to_datetime(time_ns).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ns // 10**6 % 1000:03d}Z"


def from_iso8601(text: str) -> int:
    """The nanoseconds since 1970 of an ISO 8601 time; UTC unless it says otherwise.

    Raises:
        ValueError: *text* is no time.
    """
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    # By whole microseconds: a float of seconds would round.
    return (found - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
