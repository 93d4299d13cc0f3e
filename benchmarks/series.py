"""A real disk over a week, and the chart of it in the project's README.

    python -m benchmarks.series [--dir DIR]

Day 1 is a Debian by ``debootstrap``, day 2 the same after ``apt-get install`` of a compiler and
more (``images.py``); from then on a database is made and used, logs grow, documents go and
files come, all through the mounted file system.  Needs root, and what ``benchmarks.images``
needs if the first two images are not there.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from benchmarks.database import change_bank, make_bank
from benchmarks.images import DEFAULT_FOLDER, Images, Sizes, copy_sparse, make_images, mounted
from benchmarks.results import RESULTS
from ebsim.analysis.analyze_images import analyze_images
from ebsim.analysis.charts import growth_chart
from ebsim.analysis.image_list import ImageList
from ebsim.analysis.page import standalone_chart
from ebsim.analysis.report_page import report_page
from ebsim.units import KIB

CHART = RESULTS / "series-growth.svg"
_ROWS, _TRANSACTIONS = 400_000, 3000


def _make_database(root: Path) -> None:
    make_bank(root / "srv" / "bank.sqlite", _ROWS)


def _use_database(root: Path) -> None:
    change_bank(root / "srv" / "bank.sqlite", _TRANSACTIONS)
    _grow_logs(root)


def _grow_logs(root: Path) -> None:
    log = root / "var" / "log" / "service.log"
    random = Random(log.stat().st_size if log.exists() else 0)
    with log.open("ab") as file:
        for line in range(60_000):
            file.write(
                b"%08d request %08x took %d ms\n" % (line, random.getrandbits(32), line % 97)
            )


def _tidy_up(root: Path) -> None:
    shutil.rmtree(root / "usr" / "share" / "doc")
    _use_database(root)


def _add_files(root: Path) -> None:
    random = Random(7)
    folder = root / "srv" / "uploads"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number}.bin").write_bytes(random.randbytes(random.randrange(KIB, 400 * KIB)))
    _use_database(root)


DAYS: Sequence[Callable[[Path], None]] = (
    _make_database,
    _use_database,
    _tidy_up,
    _add_files,
    _use_database,
)
"""What happens on the third day and after."""


def make_series(images: Images, folder: Path) -> list[Path]:
    """Make the disk's states in *folder*, oldest first; those that are there are taken."""
    folder.mkdir(parents=True, exist_ok=True)
    days = [folder / f"day-{number}.img" for number in range(1, len(DAYS) + 3)]
    for target, source in zip(days, (images.root_before, images.root_after), strict=False):
        if not target.exists():
            copy_sparse(source, target)
    for number, use in enumerate(DAYS, 2):
        if days[number].exists():
            continue
        unfinished = days[number].with_suffix(".unfinished")
        copy_sparse(days[number - 1], unfinished)
        with mounted(unfinished, folder / "mount") as root:
            use(root)
        unfinished.rename(days[number])
    return days


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Make a week of a disk, and its chart.")
    parser.add_argument("--dir", type=Path, default=DEFAULT_FOLDER, help="where images are kept")
    options = parser.parse_args(arguments)
    days = make_series(make_images(options.dir, Sizes()), options.dir / "series")
    found = ImageList(keep_going=False)
    found.add_files(map(str, days), is_series=True)
    analysis = analyze_images(found.images)
    CHART.write_text(standalone_chart(growth_chart(analysis)), "utf-8")
    (options.dir / "series.html").write_text(report_page(analysis), "utf-8")
    print(CHART, options.dir / "series.html")


if __name__ == "__main__":
    main(sys.argv[1:])
