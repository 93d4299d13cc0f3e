"""The command line of a table: which rows to measure, on what, and where results go."""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.images import DEFAULT_FOLDER, SMALL, Images, Sizes, describe_image, make_images
from benchmarks.processes import use_two_processors
from benchmarks.results import RESULTS, Figure, Run, commit, machine, write_run
from benchmarks.table import Table, table_markdown

SEED = 2026


class Setting(NamedTuple):
    """What rows are measured with; *runs* is how often each is."""

    images: Images
    seed: int
    runs: int
    threads: int


Measure = Callable[[Setting], list[Figure]]
"""Measures the rows of a group."""

Groups = Mapping[str, Measure]
"""Rows that are measured together, by the name that ``--rows`` has for them."""


def measure_table(
    table: Table,
    groups: Groups,
    arguments: Sequence[str],
    *,
    used_images: Callable[[Images], Iterable[Path]] | None,
) -> None:
    """Measure the rows of *table* that *arguments* ask for; print them and keep them.

    Makes the images first if they are not there.  *used_images* are those that the results
    have to name; ``None`` is a table that needs none, for which none are made.
    """
    parser = argparse.ArgumentParser(description=f"Measure the table '{table.name}'.")
    parser.add_argument("--dir", type=Path, default=DEFAULT_FOLDER, help="where images are kept")
    parser.add_argument("--small", action="store_true", help="small images, for trying")
    parser.add_argument("--rows", default=",".join(groups), help="which rows; default all")
    parser.add_argument("--runs", type=int, default=5, help="repeats of each speed row")
    parser.add_argument("--results", type=Path, default=RESULTS / table.file_name)
    options = parser.parse_args(arguments)
    names = options.rows.split(",")
    unknown = set(names) - groups.keys()
    if unknown:
        parser.error(f"no rows are called {', '.join(sorted(unknown))}: {', '.join(groups)}")
    threads = use_two_processors()
    images = Images(options.dir)
    described = {}
    if used_images is not None:
        images = make_images(options.dir, SMALL if options.small else Sizes())
        described = {path.name: describe_image(path) for path in used_images(images)}
    options.dir.mkdir(parents=True, exist_ok=True)
    setting = Setting(images, SEED, options.runs, threads)
    for name in names:
        print(f"measuring {name}", file=sys.stderr)
        # Before, for that is the code that is measured: it may change while rows are.
        at_commit = commit()
        figures = groups[name](setting)
        run = Run(machine(), at_commit, SEED, options.runs, figures, described)
        # At once: hours of other rows may follow.
        write_run(options.results, run)
        print(table_markdown(table, [run], only_measured=True))
