"""Reading the log of events."""

from collections.abc import Sequence
from dataclasses import dataclass

from ebsim.catalog.event import Event, event_document
from ebsim.catalog.event_log import newest_events, newest_sequence, scan_events
from ebsim.catalog.event_pattern import EventPattern
from ebsim.engine.region import Region
from ebsim.metadata.transactions import Reader

_ROWS_PER_READ = 256


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which of the account's events to give.

    Attributes:
        since_ns: Those that happened then or later.
    """

    pattern: EventPattern | None = None
    since_ns: int = 0

    def fits(self, region: Region, event: Event) -> bool:
        return (
            event.account_id == region.account_id
            and event.time_ns >= self.since_ns
            and (self.pattern is None or self.pattern.fits(event_document(event)))
        )


def list_events(
    region: Region, wanted: EventFilter, *, limit: int | None = None
) -> list[tuple[int, Event]]:
    """The newest *limit* events that are *wanted*, or all, oldest first, with their numbers.

    Cost: proportional to the events looked at, newest first.
    """

    def look(reader: Reader) -> list[tuple[int, Event]]:
        found: list[tuple[int, Event]] = []
        for sequence, event in newest_events(reader):
            if limit is not None and len(found) == limit:
                break
            if wanted.fits(region, event):
                found.append((sequence, event))
        return found[::-1]

    return region.metadata.read(look)


def events_after(
    region: Region, sequence: int, wanted: EventFilter
) -> tuple[int, Sequence[Event]]:
    """Events *wanted* behind the number *sequence*, and the number to go on from.

    A bounded batch; nothing new gives the same number back.
    """
    rows = region.metadata.read(
        lambda reader: scan_events(reader, after=sequence, limit=_ROWS_PER_READ)
    )
    last = rows[-1][0] if rows else sequence
    return last, [event for _, event in rows if wanted.fits(region, event)]


def newest_event_number(region: Region) -> int:
    """The number of the newest event; 0 where there was none yet."""
    return region.metadata.read(newest_sequence)
