"""Filters over rows of an answer, with the wildcards that EC2's filters have."""

from collections.abc import Callable, Mapping, Sequence

from ebsim.api.faults import ApiError
from ebsim.api.params import Answer
from ebsim.catalog.snapshot_filter import Filter, fits_pattern

Fields = Mapping[str, Callable[[Answer], Sequence[str]]]
"""What a filter of each name looks at in a row."""


def matching(rows: Sequence[Answer], filters: Sequence[Filter], fields: Fields) -> list[Answer]:
    """The *rows* that all *filters* let through.

    A row that has ``Tags`` can be filtered by ``tag:KEY``, ``tag-key`` and ``tag-value``.

    Raises:
        ApiError: a filter that is not among *fields*.
    """
    looks = [(_look(one.name, fields), one.values) for one in filters]
    return [
        row
        for row in rows
        if all(
            any(fits_pattern(wanted, text) for wanted in values for text in look(row))
            for look, values in looks
        )
    ]


def _look(name: str, fields: Fields) -> Callable[[Answer], Sequence[str]]:
    if name in fields:
        return fields[name]
    if name.startswith("tag:") and len(name) > len("tag:"):
        key = name.removeprefix("tag:")
        return lambda row: [tag["Value"] for tag in row.get("Tags", ()) if tag["Key"] == key]
    if name == "tag-key":
        return lambda row: [tag["Key"] for tag in row.get("Tags", ())]
    if name == "tag-value":
        return lambda row: [tag["Value"] for tag in row.get("Tags", ())]
    raise ApiError("InvalidParameterValue", f"The filter '{name}' is invalid")
