"""Delivering events: at least once, in order, from the log itself.

Each sink has a cursor in the metadata.  An event is handed to the sink, then the cursor
moves past it: a crash between the two delivers it twice, never not at all.  A sink gets its
events one after the other, in the order of the log, and so in order for each resource; one
that fails is tried again later, and nothing overtakes what it waits for.

A lock for each sink and region sees to it that two processes never deliver to it at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ebsim.catalog.event import Event, event_document
from ebsim.catalog.event_log import Cursor, find_cursor, newest_sequence, put_cursor, scan_events
from ebsim.catalog.event_pattern import EventPattern
from ebsim.engine.event_delivery import DeliveryFailed, deliver
from ebsim.engine.event_sinks import Sink, forget_gone_sinks, list_sinks, sink_lock
from ebsim.engine.region import Region

RETRY_FIRST_SECONDS = 1
RETRY_LAST_SECONDS = 600
_ROWS_PER_READ = 64


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one round gave one sink.

    Attributes:
        delivered_count: Events that it has taken.
        waiting_count: Events that are still behind its cursor.
        error: Why it did not take the next one; ``""`` if it took all that it wanted.
    """

    sink: Sink
    delivered_count: int
    waiting_count: int
    error: str


def never() -> bool:
    """Go on to the end."""
    return False


def deliver_events(
    region: Region, *, at_once: bool = False, should_stop: Callable[[], bool] = never
) -> list[Delivery]:
    """Give every sink what it has not got yet; those that failed lately are left alone.

    *at_once* tries those as well.  A sink that somebody else delivers to is left out.
    *should_stop* is asked between events.
    """
    found = []
    for sink in sinks_to_serve(region):
        delivery = deliver_to_sink(region, sink, at_once=at_once, should_stop=should_stop)
        if delivery is not None:
            found.append(delivery)
    return found


def sinks_to_serve(region: Region) -> list[Sink]:
    """The region's sinks; where those had got to that are no more is forgotten."""
    sinks = list_sinks(region)
    forget_gone_sinks(region, sinks)
    return sinks


def deliver_to_sink(
    region: Region, sink: Sink, *, at_once: bool = False, should_stop: Callable[[], bool] = never
) -> Delivery | None:
    """Give one sink what it has not got yet, as :func:`deliver_events` does.

    ``None`` if somebody else delivers to it, or nothing is to be done any more.
    """
    with _alone(region, sink) as is_ours:
        if not is_ours or should_stop():
            return None
        return _deliver_to(region, sink, at_once, should_stop)


@contextmanager
def _alone(region: Region, sink: Sink) -> Iterator[bool]:
    """Whether this process may deliver to the sink while the body runs."""
    descriptor = region.files.open_or_create(sink_lock(region, sink))
    try:
        yield region.files.lock(descriptor, wait=False)
    finally:
        region.files.close(descriptor)


def _deliver_to(
    region: Region, sink: Sink, at_once: bool, should_stop: Callable[[], bool]
) -> Delivery:
    pattern = EventPattern(sink.pattern) if sink.pattern else None

    def wants(event: Event) -> bool:
        return event.time_ns >= sink.since_ns and (
            pattern is None or pattern.fits(event_document(event))
        )

    cursor = region.metadata.read(lambda reader: find_cursor(reader, sink.key)) or Cursor(0)
    if not at_once and region.clock.now_ns() < cursor.not_before_ns:
        return _told(region, sink, cursor, 0)
    delivered_count = 0
    while not should_stop():
        after = cursor.delivered
        rows = region.metadata.read(
            lambda reader: scan_events(reader, after=after, limit=_ROWS_PER_READ)  # noqa: B023 (called at once)
        )
        for sequence, event in rows:
            if should_stop():
                break
            if not wants(event):
                cursor = replace(cursor, delivered=sequence)
                continue
            try:
                deliver(region.files, sink, event, now_ns=region.clock.now_ns())
            except DeliveryFailed as error:
                cursor = _put(region, sink, _failed(cursor, region.clock.now_ns(), str(error)))
                return _told(region, sink, cursor, delivered_count)
            cursor = _put(region, sink, Cursor(sequence))
            delivered_count += 1
        if not rows:
            break
        if cursor.delivered != after:
            # The last ones may have been none that it wants.
            cursor = _put(region, sink, Cursor(cursor.delivered))
    return _told(region, sink, cursor, delivered_count)


def _failed(cursor: Cursor, now_ns: int, why: str) -> Cursor:
    """The cursor of a sink that did not take the next event: when that is tried again."""
    pause_seconds = min(RETRY_FIRST_SECONDS << min(cursor.attempt_count, 16), RETRY_LAST_SECONDS)
    return Cursor(
        cursor.delivered, cursor.attempt_count + 1, now_ns + pause_seconds * 10**9, why[:500]
    )


def _put(region: Region, sink: Sink, cursor: Cursor) -> Cursor:
    region.metadata.run(lambda txn: put_cursor(txn, sink.key, cursor))
    return cursor


def _told(region: Region, sink: Sink, cursor: Cursor, delivered_count: int) -> Delivery:
    newest = region.metadata.read(newest_sequence)
    return Delivery(sink, delivered_count, newest - cursor.delivered, cursor.last_error)
