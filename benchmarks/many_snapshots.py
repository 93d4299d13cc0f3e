"""Ten thousand snapshots of one volume: what each verb costs there and at the hundredth.

Two regions lie side by side, one with few snapshots and one with many, and every verb is
timed in both by turns: what else the machine does meanwhile hits both alike.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

from benchmarks.engine_table import GROWTH_MAX
from benchmarks.results import Figure
from benchmarks.scratch import scratch_folder
from ebsim.cli.settings import DEFAULT_ACCOUNT, DEFAULT_REGION
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.list_snapshots import list_snapshots, show_snapshot
from ebsim.engine.region import Region, open_region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.ids import AccountId, SnapshotId
from ebsim.units import KIB

FEW, MANY = 100, 10_000
_BLOCK_SIZE = 4 * KIB
_BLOCK_COUNT = 256
_PAGE_SIZE_MAX = 100
_ROUNDS = 60


@dataclass(slots=True)
class History:
    """A region with one volume and many snapshots of it, each with one block changed."""

    region: Region
    image: Path
    random: Random
    page_size: int
    snapshot_ids: list[SnapshotId] = field(default_factory=list)
    times_ms: dict[str, list[float]] = field(default_factory=dict)

    def change(self) -> None:
        """Write one block of the image."""
        with self.image.open("r+b") as file:
            file.seek(self.random.randrange(_BLOCK_COUNT) * _BLOCK_SIZE)
            file.write(self.random.randbytes(_BLOCK_SIZE))

    def create(self) -> None:
        options = SnapshotOptions(block_size=_BLOCK_SIZE, thread_count=1)
        taken = create_snapshot(self.region, str(self.image), options)
        self.snapshot_ids.append(taken.snapshot_id)

    def list_page(self) -> None:
        page = list_snapshots(self.region, max_results=self.page_size)
        assert len(page.snapshots) == self.page_size, "a full page"

    def show(self) -> None:
        name = self.random.choice(self.snapshot_ids)
        assert show_snapshot(self.region, name).snapshot_id == name, "the one asked for"

    def delete(self) -> None:
        """Delete one from the middle, whose neighbours share what it has."""
        name = self.snapshot_ids.pop(len(self.snapshot_ids) // 2)
        delete_snapshots(self.region, [name])

    def timed(self, name: str, verb: Callable[[], None]) -> None:
        begun_ns = time.perf_counter_ns()
        verb()
        self.times_ms.setdefault(name, []).append((time.perf_counter_ns() - begun_ns) / 1e6)

    def round(self) -> None:
        """Time each verb once; afterwards there are as many snapshots as before."""
        self.change()
        self.timed("create", self.create)
        self.timed("list", self.list_page)
        self.timed("show", self.show)
        self.timed("delete", self.delete)


def _history(folder: Path, seed: int, count: int, page_size: int) -> History:
    folder.mkdir()
    random = Random(seed)
    image = folder / "disk.img"
    image.write_bytes(random.randbytes(_BLOCK_COUNT * _BLOCK_SIZE))
    region = open_region(folder / "home", DEFAULT_REGION, AccountId(DEFAULT_ACCOUNT))
    history = History(region, image, random, page_size)
    for _ in range(count):
        history.change()
        history.create()
    return history


def grown_history(
    folder: Path, seed: int, counts: Sequence[int], rounds: int
) -> dict[int, dict[str, float]]:
    """The median milliseconds of each verb at each of *counts* snapshots, which rise."""
    found = {}
    with scratch_folder(folder) as scratch:
        page_size = min(_PAGE_SIZE_MAX, counts[0])
        history = _history(scratch / "grown", seed, 0, page_size)
        for count in counts:
            while len(history.snapshot_ids) < count:
                history.change()
                history.create()
            history.times_ms.clear()
            for _ in range(rounds):
                history.round()
            found[count] = {verb: median(times) for verb, times in history.times_ms.items()}
        history.region.close()
    return found


def growth_figures(
    folder: Path, seed: int, *, few: int = FEW, many: int = MANY, rounds: int = _ROUNDS
) -> list[Figure]:
    """Each verb at *many* snapshots beside *few*, by the medians."""
    with scratch_folder(folder) as scratch:
        page_size = min(_PAGE_SIZE_MAX, few)
        histories = [
            _history(scratch / str(count), seed, count, page_size) for count in (few, many)
        ]
        # Whatever is written out behind must not fall on one of the two.
        os.sync()
        for _ in range(rounds):
            for history in histories:
                history.round()
        small, large = histories
        for history in histories:
            history.region.close()
    figures = []
    for verb in ("create", "list", "show", "delete"):
        before, after = small.times_ms[verb], large.times_ms[verb]
        growth = median(after) / median(before)
        detail = {
            f"ms_at_{few}": round(median(before), 3),
            f"ms_at_{many}": round(median(after), 3),
        }
        ratios = [one / other for one, other in zip(after, before, strict=True)]
        figures.append(
            Figure(f"{verb}_growth", ratios, growth <= GROWTH_MAX, f"{growth:.2f}", detail)
        )
    return figures
