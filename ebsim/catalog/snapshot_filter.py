"""Filters: which snapshots a listing shows.

Names and wildcards are those of DescribeSnapshots: ``*`` is any run of characters, ``?``
any one, ``\\`` takes the next character as it is.  The values of one filter are
alternatives; all filters must fit.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSnapshots.html
"""

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.clock import to_iso8601
from ebsim.errors import InvalidRequest


class Filter(NamedTuple):
    """One filter: its name and the values of which one must fit."""

    name: str
    values: Sequence[str]


def progress_of(snapshot: Snapshot) -> str:
    """``Progress`` as EBS reports it."""
    is_completed = snapshot.state is SnapshotState.COMPLETED
    return f"{100 if is_completed else snapshot.progress_percent}%"


_FIELDS: dict[str, Callable[[Snapshot], Sequence[str]]] = {
    "description": lambda s: [s.description],
    "encrypted": lambda _: ["false"],
    "owner-id": lambda s: [s.owner_id],
    "progress": lambda s: [progress_of(s)],
    "snapshot-id": lambda s: [s.snapshot_id],
    "start-time": lambda s: [to_iso8601(s.start_time_ns)],
    "status": lambda s: [s.state],
    "storage-tier": lambda s: [s.storage_tier],
    "tag-key": lambda s: list(s.tags),
    "tag-value": lambda s: list(s.tags.values()),
    "transfer-type": lambda s: [s.transfer_type],
    "volume-id": lambda s: [s.volume_id],
    "volume-size": lambda s: [str(s.volume_size_gib)],
}

FILTER_NAMES = (*sorted(_FIELDS), "tag:KEY")


def check_filters(filters: Sequence[Filter]) -> None:
    """Refuse filters that DescribeSnapshots has not, and any without a value.

    Raises:
        InvalidRequest: naming the filter.
    """
    for name, values in filters:
        if name not in _FIELDS and not (name.startswith("tag:") and len(name) > len("tag:")):
            raise InvalidRequest(
                f"The filter '{name}' is invalid. Filters are: {', '.join(FILTER_NAMES)}."
            )
        if not values:
            raise InvalidRequest(f"The filter '{name}' has no values. Give at least one.")


def fits(snapshot: Snapshot, filters: Sequence[Filter]) -> bool:
    """Whether *snapshot* is one that all *filters* let through."""
    return all(_fits_one(snapshot, item) for item in filters)


def may_fit(filters: Sequence[Filter]) -> Callable[[bytes], bool]:
    """Tells of a snapshot's row, as it is stored, whether *filters* may let it through.

    A row without the text that a filter asks for cannot fit, and to find that out takes a
    fraction of what reading the row takes.  Wildcards ask for no text of their own.
    """
    needs = [need for one in filters for need in _needed_texts(one)]
    return lambda row: all(any(text in row for text in need) for need in needs)


def is_literal(item: Filter) -> bool:
    """Whether its values are texts as they are, without wildcards and escapes."""
    return not any(set(value) & set("*?\\") for value in item.values)


def _needed_texts(item: Filter) -> list[list[bytes]]:
    """Of each list one text must be in the row of a snapshot that fits."""
    needed = []
    if item.name.startswith("tag:"):
        needed.append([_stored(item.name.removeprefix("tag:"))])
    if is_literal(item) and (
        item.name.startswith("tag") or item.name in {"status", "snapshot-id", "volume-id"}
    ):
        needed.append([_stored(value) for value in item.values])
    return needed


def _stored(text: str) -> bytes:
    """*text* as the JSON of a row has it."""
    return json.dumps(text).encode()


def _fits_one(snapshot: Snapshot, item: Filter) -> bool:
    if item.name.startswith("tag:"):
        value = snapshot.tags.get(item.name.removeprefix("tag:"))
        found: Sequence[str] = [] if value is None else [value]
    else:
        found = _FIELDS[item.name](snapshot)
    return any(fits_pattern(wanted, text) for wanted in item.values for text in found)


def fits_pattern(wanted: str, text: str) -> bool:
    """Whether *text* is what *wanted* says, with its wildcards."""
    return _pattern(wanted).fullmatch(text) is not None


@lru_cache(256)
def _pattern(wanted: str) -> re.Pattern[str]:
    """*wanted*, with its wildcards, as a regular expression that cannot run away."""
    parts = []
    literal = False
    for character in wanted:
        if literal or character not in "*?\\":
            parts.append(re.escape(character))
            literal = False
        elif character == "\\":
            literal = True
        elif character == "?":
            parts.append(".")
        elif not parts or parts[-1] != ".*":
            parts.append(".*")
    if literal:
        parts.append(re.escape("\\"))
    return re.compile("".join(parts), re.DOTALL)
