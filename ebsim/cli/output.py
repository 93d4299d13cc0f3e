"""How data is printed: rows as an aligned table, documents as JSON.

Tables are plain text at any width: never cut, no lines drawn, a header, two spaces
between columns, so that ``awk``, ``grep`` and people can all read them.  Put a column of
free text last.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import click

from ebsim.cli.messages import printable


class Column(NamedTuple):
    """A column of a table; numbers are aligned at their right ends."""

    header: str
    is_number: bool = False


def print_json(document: Mapping[str, object]) -> None:
    """Print *document*, its names and shapes as Amazon has them, on standard output."""
    click.echo(json.dumps(document, indent=2))


def print_json_stream(
    head: Mapping[str, object], name: str, items: Iterable[Mapping[str, object]]
) -> None:
    """Print an object of *head* and, under *name*, the list of *items*, one at a time."""
    click.echo("{")
    for member, value in head.items():
        click.echo(f"  {json.dumps(member)}: {json.dumps(value)},")
    click.echo(f"  {json.dumps(name)}: [", nl=False)
    separator = "\n    "
    for item in items:
        click.echo(separator + json.dumps(item), nl=False)
        separator = ",\n    "
    click.echo("]\n}" if separator[0] == "\n" else "\n  ]\n}")


def print_stream(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print *rows* as they come, however many: numbers in columns of 20, nothing else known."""
    widths = [max(20, len(column.header)) for column in columns]
    click.secho(_line(columns, [column.header for column in columns], widths), bold=True)
    for row in rows:
        click.echo(_line(columns, row, widths))


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print *rows* under a header on standard output; the header alone where there are none."""
    assert all(len(row) == len(columns) for row in rows), "a cell for every column"
    cells = [[printable(cell) or "-" for cell in row] for row in rows]
    headers = [column.header for column in columns]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    click.secho(_line(columns, headers, widths), bold=True)
    for row in cells:
        click.echo(_line(columns, row, widths))


def print_fields(fields: Mapping[str, str]) -> None:
    """Print one thing on standard output, a line for each field."""
    width = max(map(len, fields), default=0)
    for name, text in fields.items():
        click.echo(f"{name:{width}}  {printable(text) or '-'}")


def _line(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(
        cell.rjust(width) if column.is_number else cell.ljust(width)
        for column, cell, width in zip(columns, cells, widths, strict=True)
    ).rstrip()
