"""The log of events: written in the transactions that make them true, read in that order.

    table    key                          value
    EVENTS   sequence number, 8 bytes BE  the event, JSON
    STORE    event_sequence               counter, i64: the newest event's number
    STORE    event_cursor/ + sink's name  what was delivered to the sink, JSON

Sequence numbers rise by one and are never used again.  The oldest events go when there are
more than :data:`COUNT_MAX`, or when they are older than :data:`AGE_MAX_NS`; but none that
a sink has yet to get, however many wait for it.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from uuid import UUID

from ebsim.catalog.event import Event, decode_event, encode_event
from ebsim.content.digest import block_digest
from ebsim.metadata.transactions import Reader, Table, Transaction

COUNT_MAX = 100_000
AGE_MAX_NS = 90 * 86_400 * 10**9

_SEQUENCE = b"event_sequence"
_CURSOR = b"event_cursor/"
_DROP_EVERY = 64
_DROPPED_AT_ONCE_MAX = 256
_ROWS_PER_READ = 256
_CURSORS_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a sink is.

    Attributes:
        delivered: The sequence number of the last event that it has, or does not want.
        attempt_count: How often the next event was tried in vain.
        not_before_ns: When it is tried again.
        last_error: Why it failed the last time.
    """

    delivered: int
    attempt_count: int = 0
    not_before_ns: int = 0
    last_error: str = ""


def append_event(txn: Transaction, event: Event, *, seed: int) -> Event:
    """Write *event* under the next sequence number; return it with the id that it got.

    Its id follows from the number and the store's *seed*: a transaction that is run twice
    makes the same event.
    """
    (sequence,) = txn.incr_many(Table.STORE, [(_SEQUENCE, 1)])
    named = f"event {seed} {sequence} {event.time_ns}".encode()
    event_id = str(UUID(bytes=block_digest(named)[:16], version=4))
    written = replace(event, event_id=event_id)
    txn.put_many(Table.EVENTS, [(_key(sequence), encode_event(written))])
    if sequence % _DROP_EVERY == 0:
        _drop_old(txn, sequence, event.time_ns)
    return written


def newest_sequence(reader: Reader) -> int:
    """The number of the newest event, 0 where there was none yet."""
    (row,) = reader.get_many(Table.STORE, [_SEQUENCE])
    return int.from_bytes(row or b"", "little", signed=True)


def scan_events(reader: Reader, *, after: int, limit: int) -> list[tuple[int, Event]]:
    """At most *limit* events behind the number *after*, oldest first, with their numbers."""
    rows = reader.scan(Table.EVENTS, _key(after + 1), limit=limit)
    return [(int.from_bytes(key, "big"), decode_event(row)) for key, row in rows]


def newest_events(reader: Reader) -> Iterator[tuple[int, Event]]:
    """All events, newest first; read a batch at a time, within the caller's reader."""
    stop: bytes | None = None
    while rows := reader.scan(Table.EVENTS, b"", stop, limit=_ROWS_PER_READ, reverse=True):
        for key, row in rows:
            yield int.from_bytes(key, "big"), decode_event(row)
        stop = rows[-1][0]


def put_cursor(txn: Transaction, sink_name: str, cursor: Cursor) -> None:
    """Note how far a sink is; events behind its cursor stay until it has them."""
    row = json.dumps(asdict(cursor), separators=(",", ":")).encode()
    txn.put_many(Table.STORE, [(_CURSOR + sink_name.encode(), row)])


def find_cursor(reader: Reader, sink_name: str) -> Cursor | None:
    """How far a sink is; ``None`` for one that was never delivered to."""
    (row,) = reader.get_many(Table.STORE, [_CURSOR + sink_name.encode()])
    return None if row is None else Cursor(**json.loads(row))


def remove_cursor(txn: Transaction, sink_name: str) -> None:
    """Keep no events for a sink any more."""
    txn.delete_many(Table.STORE, [_CURSOR + sink_name.encode()])


def cursors(reader: Reader) -> dict[str, Cursor]:
    """How far every sink is, by name."""
    rows = reader.scan(Table.STORE, _CURSOR, _CURSOR + b"\xff", limit=_CURSORS_MAX)
    return {key.removeprefix(_CURSOR).decode(): Cursor(**json.loads(row)) for key, row in rows}


def _drop_old(txn: Transaction, newest: int, now_ns: int) -> None:
    """Drop some of the oldest events that are too many or too old, and that nobody awaits."""
    awaited = min((cursor.delivered for cursor in cursors(txn).values()), default=newest)
    kept_from = newest - COUNT_MAX
    dropped = []
    for key, row in txn.scan(Table.EVENTS, stop=_key(awaited + 1), limit=_DROPPED_AT_ONCE_MAX):
        is_too_many = int.from_bytes(key, "big") <= kept_from
        if not is_too_many and decode_event(row).time_ns >= now_ns - AGE_MAX_NS:
            break
        dropped.append(key)
    txn.delete_many(Table.EVENTS, dropped)


def _key(sequence: int) -> bytes:
    return sequence.to_bytes(8, "big")
