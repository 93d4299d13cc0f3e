"""The tables that there are: every module of this package that has rows to measure.

A suite is a module with ``GROUPS`` (``measured_table.py``) and a :class:`Table`; it may have
``SMALL_GROUPS`` too, the same rows on less.
"""

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from benchmarks.measured_table import Groups
from benchmarks.measurement import Better, Measurement
from benchmarks.results import Figure
from benchmarks.table import Row, Table


class Suite(NamedTuple):
    """A table and how its rows are measured; *small* on less than its targets are for."""

    table: Table
    groups: Groups
    small: Groups


def all_suites() -> Iterator[Suite]:
    """Yield every suite, by the names of its modules."""
    folder = Path(__file__).parent
    for found in sorted(pkgutil.iter_modules([str(folder)]), key=lambda each: each.name):
        # Most modules have no rows, and some need programs that may not be there.
        if "\nGROUPS: Groups" not in (folder / f"{found.name}.py").read_text("utf-8"):
            continue
        names = vars(import_module(f"benchmarks.{found.name}"))
        groups: Groups = names["GROUPS"]
        (table,) = {id(each): each for each in names.values() if isinstance(each, Table)}.values()
        yield Suite(table, groups, names.get("SMALL_GROUPS", groups))


def as_measurement(table: Table, figure: Figure) -> Measurement:
    """A row of a table among the measurements of a report."""
    row = rows_by_key(table)[figure.key]
    return Measurement(
        f"{table.name}/{figure.key}",
        row.title,
        "",
        list(figure.values),
        _better(row.target),
        row.target,
        figure.reached,
        figure.shown,
    )


def rows_by_key(table: Table) -> Mapping[str, Row]:
    """The rows of *table*."""
    return {row.key: row for row in table.rows}


def _better(target: str) -> Better:
    if "at least" in target:
        return Better.MORE
    if "at most" in target or "under" in target:
        return Better.LESS
    return Better.NEITHER
