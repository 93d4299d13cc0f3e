"""Tables of the README: which rows they have, what each must reach, what was measured."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.markdown import NOT_MEASURED, markdown_table
from benchmarks.results import Figure, Run, short_commit

_REACHED = {True: "yes", False: "**no**", None: ""}


class Row(NamedTuple):
    """A row: what is measured, and its target as the table states it."""

    key: str
    title: str
    target: str


class Table(NamedTuple):
    """A table; *name* is that of its section in the README and of its file of results."""

    name: str
    rows: Sequence[Row]

    @property
    def file_name(self) -> str:
        return f"{self.name}.json"


def table_markdown(table: Table, runs: Sequence[Run], *, only_measured: bool = False) -> str:
    """*table* as *runs*, newest last, have it, and what each figure holds for.

    Rows without a figure say so, or are left out.
    """
    found = {figure.key: (figure, run) for run in runs for figure in run.figures}
    lines = []
    for row in table.rows:
        if row.key in found:
            lines.append([row.key, row.title, row.target, *_measured(*found[row.key])])
        elif not only_measured:
            lines.append([row.key, row.title, row.target, NOT_MEASURED, "", "", ""])
    head = ["row", "what", "must reach", "measured", "spread", "reached", "commit"]
    text = markdown_table(head, lines, left_count=3)
    notes = list(_conditions(table, runs))
    return "\n\n".join([text, *(["\n".join(notes)] if notes else [])])


def _measured(figure: Figure, run: Run) -> Iterator[str]:
    yield figure.shown
    yield figure.spread
    yield _REACHED[figure.reached]
    yield short_commit(run.commit)


def _conditions(table: Table, runs: Sequence[Run]) -> Iterator[str]:
    """A line for each run, newest first: its rows, commit, machine, seed and repeats."""
    newest = runs[-1].commit if runs else ""
    for run in reversed(runs):
        measured = {figure.key for figure in run.figures}
        names = ", ".join(f"`{row.key}`" for row in table.rows if row.key in measured)
        age = "the newest commit measured" if run.commit == newest else "an older commit"
        machine = ", ".join(f"{name}: {value}" for name, value in run.machine.items())
        yield (
            f"- At {age}, {short_commit(run.commit)}: {names}. "
            f"Seed {run.seed}, runs: {run.run_count}; {machine}."
        )
