"""All benchmarks in one command, and one page that shows them.

    python -m benchmarks.run [--scale toy|small|full] [--dir DIR] [--runs 3] [--seed N]
                             [--tables engine,volumes] [--image IMAGE]... [--out report]

Writes ``report.html`` and ``report.json``.  The disks of the scales ``toy`` and ``small`` are
made by seed; ``full`` uses the images of ``benchmarks.images``, which need root, and takes
hours.  A row whose program is not installed is named as not measured, and the others go on.
``python -m benchmarks.compare`` tells two such reports apart.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.growth import SCALES, Scale, disk_growth, snapshot_growth, thread_growth
from benchmarks.images import DEFAULT_FOLDER, Images, Sizes, join_images, make_images
from benchmarks.measured_table import SEED, Setting
from benchmarks.measurement import Fit, Measurement, Report, write_report
from benchmarks.processes import use_two_processors
from benchmarks.report_html import benchmark_page
from benchmarks.results import commit, machine
from benchmarks.scratch import scratch_folder
from benchmarks.suites import all_suites, as_measurement
from benchmarks.workload_rows import image_measurements, workload_measurements
from benchmarks.workloads import database, fresh_install, page_writes, random_changes


@dataclass(slots=True)
class _Found:
    """What was measured so far."""

    measurements: list[Measurement] = field(default_factory=list)
    fits: list[Fit] = field(default_factory=list)
    not_measured: dict[str, str] = field(default_factory=dict)

    def take(self, name: str, items: Iterator[Measurement | Fit]) -> None:
        """Measure *items*; what cannot be is named, and ends them."""
        print(f"measuring {name}", file=sys.stderr)
        try:
            for item in items:
                if isinstance(item, Fit):
                    self.fits.append(item)
                else:
                    self.measurements.append(item)
        # Whatever a row needs and does not find: hours of the others must not be lost.
        except Exception as error:  # noqa: BLE001
            self.not_measured[name] = f"{type(error).__name__}: {error}"


def made_images(folder: Path, size_bytes: int, seed: int) -> Images:
    """Images in the places of the real ones, made by seed."""
    images = Images(folder)
    pairs = (
        (images.root_before, images.root_after, fresh_install, random_changes),
        (images.data_before, images.data_after, database, page_writes),
    )
    for before, after, make, change in pairs:
        for path in (before, after):
            make(path, size_bytes, Random(seed))
        change(after, size_bytes, Random(seed + 1))
    join_images(images, images.disk, size_bytes * 2)
    return images


def measured(options: argparse.Namespace, folder: Path) -> Report:
    """Measure everything that *options* ask for, in *folder*."""
    scale: Scale = SCALES[options.scale]
    threads = use_two_processors()
    at_commit = commit()
    is_full = options.scale == "full"
    images = (
        make_images(options.dir, Sizes())
        if is_full
        else made_images(folder, scale.workload_bytes, options.seed)
    )
    setting = Setting(images, options.seed, options.runs, threads)
    found = _Found()
    wanted = options.tables.split(",") if options.tables is not None else None
    for suite in all_suites():
        if wanted is not None and suite.table.name not in wanted:
            continue
        groups = suite.groups if is_full else suite.small
        for name, measure in groups.items():
            found.take(
                f"{suite.table.name}/{name}",
                (as_measurement(suite.table, each) for each in measure(setting)),
            )
    runs, seed = options.runs, options.seed
    found.take("workloads", workload_measurements(folder, seed, scale.workload_bytes, runs))
    found.take("images", image_measurements(options.image, folder, seed, runs))
    found.take("growth with disks", disk_growth(folder, seed, scale, runs))
    found.take("growth with snapshots", snapshot_growth(folder, seed, scale))
    found.take("growth with threads", thread_growth(folder, seed, scale, runs))
    return Report(
        machine(),
        at_commit,
        seed,
        runs,
        options.scale,
        found.measurements,
        found.fits,
        found.not_measured,
    )


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Measure everything and make a page of it.")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--dir", type=Path, default=DEFAULT_FOLDER, help="where disks are made")
    parser.add_argument("--runs", type=int, default=3, help="repeats of each figure")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--tables", help="which tables; default all, an empty name for none")
    parser.add_argument("--image", type=Path, action="append", default=[], help="one of yours")
    parser.add_argument("--out", type=Path, default=Path("report"), help="without an ending")
    options = parser.parse_args(arguments)
    options.dir.mkdir(parents=True, exist_ok=True)
    with scratch_folder(options.dir) as folder:
        report = measured(options, folder)
    write_report(options.out.with_suffix(".json"), report)
    options.out.with_suffix(".html").write_text(benchmark_page(report), "utf-8")
    print(options.out.with_suffix(".html"))


if __name__ == "__main__":
    main(sys.argv[1:])
