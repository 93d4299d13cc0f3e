"""The engine against the machine: every row of the table in ``benchmarks/README.md``.

    python -m benchmarks.engine [--dir DIR] [--rows speed,memory,...] [--runs 5]

Prints the table and writes ``results/engine.json``; ``python -m benchmarks.readme`` then
brings the README up to date.  Makes the images first if they are not there.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.full_volume import full_volume_figures
from benchmarks.images import DEFAULT_FOLDER, SMALL, Images, Sizes, describe_image, make_images
from benchmarks.many_snapshots import growth_figures
from benchmarks.markdown import engine_markdown
from benchmarks.memory_rows import peak_memory
from benchmarks.processes import use_two_processors
from benchmarks.results import RESULTS, Figure, Run, commit, machine, write_run
from benchmarks.speed_rows import first_snapshot, restore, start_up, unchanged_snapshot

SEED = 2026

Measure = Callable[[Images, int, int], list[Figure]]
"""Measures some rows: the images, how many runs, how many threads."""

GROUPS: dict[str, Measure] = {
    "start": lambda _, runs, __: [
        start_up("version", "--version", runs),
        start_up("help", "--help", runs),
    ],
    "first": lambda images, runs, threads: [
        first_snapshot("first", images.root_after, images.folder, runs, threads),
        first_snapshot("first_data", images.data_after, images.folder, runs, threads),
    ],
    "unchanged": lambda images, runs, threads: unchanged_snapshot(
        images.disk, images.folder, runs, threads
    ),
    "restore": lambda images, runs, threads: [
        restore(images.root_after, images.folder, runs, threads)
    ],
    "memory": lambda images, *_: [peak_memory(images.folder, SEED)],
    "volume": lambda images, *_: full_volume_figures(images.folder, SEED),
    "many": lambda images, *_: growth_figures(images.folder, SEED),
}
"""Rows that are measured together, by the name that ``--rows`` has for them."""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Measure the engine against its limits.")
    parser.add_argument("--dir", type=Path, default=DEFAULT_FOLDER, help="where images are kept")
    parser.add_argument("--small", action="store_true", help="small images, for trying")
    parser.add_argument("--rows", default=",".join(GROUPS), help="which rows; default all")
    parser.add_argument("--runs", type=int, default=5, help="repeats of each speed row")
    parser.add_argument("--results", type=Path, default=RESULTS / "engine.json")
    options = parser.parse_args(arguments)
    names = options.rows.split(",")
    unknown = set(names) - GROUPS.keys()
    if unknown:
        parser.error(f"no rows are called {', '.join(sorted(unknown))}: {', '.join(GROUPS)}")
    threads = use_two_processors()
    images = make_images(options.dir, SMALL if options.small else Sizes())
    described = {
        path.name: describe_image(path)
        for path in (images.root_after, images.data_after, images.disk)
    }
    run = None
    for name in names:
        print(f"measuring {name}", file=sys.stderr)
        figures = GROUPS[name](images, options.runs, threads)
        run = Run(machine(), commit(), SEED, options.runs, figures, described)
        # At once: hours of other rows may follow.
        write_run(options.results, run)
        print(engine_markdown(run, only_measured=True))


if __name__ == "__main__":
    main(sys.argv[1:])
