"""Runs as the Markdown tables of ``benchmarks/README.md``."""

from collections.abc import Iterable, Sequence

from benchmarks.engine_table import ROWS
from benchmarks.results import Run

NOT_MEASURED = "*not yet measured*"
_REACHED = {True: "yes", False: "**no**", None: ""}


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; every column but the first two is of figures and set to the right."""
    rule = ["---" if at < 2 else "---:" for at in range(len(head))]
    lines = [head, rule, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def engine_markdown(run: Run | None, *, only_measured: bool = False) -> str:
    """The engine's table; rows without a figure say so, or are left out."""
    figures = {figure.key: figure for figure in run.figures} if run else {}
    rows = []
    for row in ROWS:
        figure = figures.get(row.key)
        if figure is not None:
            rows.append(
                [row.title, row.target, figure.shown, figure.spread, _REACHED[figure.reached]]
            )
        elif not only_measured:
            rows.append([row.title, row.target, NOT_MEASURED, "", ""])
    table = markdown_table(["what", "must reach", "measured", "spread", "reached"], rows)
    return f"{table}\n\n{conditions(run)}" if run else table


def conditions(run: Run) -> str:
    """What the figures hold for: machine, commit, seed, runs."""
    facts = ", ".join(f"{name}: {value}" for name, value in run.machine.items())
    return f"Measured at commit {run.commit}, seed {run.seed}, {run.run_count} runs; {facts}."
