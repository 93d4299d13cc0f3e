"""How costs grow: with the size of the disk, the number of snapshots, the threads.

A power of the cause is fitted through the points, as a straight line through their logarithms
by least squares.  An exponent of 0 is a cost that stays, 1 one that grows in proportion.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from math import log, sqrt
from pathlib import Path
from random import Random
from statistics import median
from typing import NamedTuple

from benchmarks.many_snapshots import grown_history
from benchmarks.measurement import DISK_SIZE, Fit, Measurement
from benchmarks.results import forget_peak_memory, peak_memory_bytes
from benchmarks.scratch import scratch_folder
from benchmarks.workload_rows import seconds_of
from benchmarks.workloads import fresh_install, incompressible, random_changes
from ebsim.cli.settings import DEFAULT_ACCOUNT, DEFAULT_REGION
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.region import open_region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.store_stats import store_stats
from ebsim.ids import AccountId
from ebsim.units import GIB, KIB, MIB

_ACCOUNT = AccountId(DEFAULT_ACCOUNT)
_SMALL_BLOCK = 16 * KIB


class Scale(NamedTuple):
    """How large a run is: disks, numbers of snapshots, of threads, and workloads' disks."""

    disk_sizes: Sequence[int]
    snapshot_counts: Sequence[int]
    thread_counts: Sequence[int]
    workload_bytes: int
    rounds: int


SCALES = {
    "toy": Scale([2 * MIB, 4 * MIB, 8 * MIB], [3, 6, 12], [1, 2], 4 * MIB, 2),
    "small": Scale([16 * MIB, 64 * MIB, 256 * MIB], [10, 40, 160], [1, 2, 4], 64 * MIB, 10),
    "full": Scale(
        [GIB, 4 * GIB, 16 * GIB, 64 * GIB], [10, 100, 1000, 10_000], [1, 2, 4, 8], GIB, 60
    ),
}


def fitted(
    key: str, title: str, cause: str, places: Sequence[float], values: Sequence[float]
) -> Fit:
    """The power of *places* that fits *values* best, and its standard error."""
    xs, ys = [log(x) for x in places], [log(max(y, 1e-12)) for y in values]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    width = sum((x - x_mean) ** 2 for x in xs)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / width
    rest = sum((y - y_mean - slope * (x - x_mean)) ** 2 for x, y in zip(xs, ys, strict=True))
    error = sqrt(rest / (len(xs) - 2) / width) if len(xs) > 2 else float("inf")
    return Fit(key, title, cause, list(places), list(values), slope, error)


def disk_growth(folder: Path, seed: int, scale: Scale, runs: int) -> Iterator[Fit | Measurement]:
    """Yield what disks of rising size cost: in time, memory, and metadata."""
    titles = {
        "first": "first snapshot, seconds",
        "changed": "snapshot with 1 % of the pages changed, seconds",
        "unchanged": "snapshot of what has not changed, seconds",
        "memory": "peak memory of the first snapshot, MiB",
        "metadata": "live metadata, KiB",
        "rebuild": "store rebuild, seconds",
        "delete": "deleting everything, seconds",
    }
    found: dict[str, list[float]] = {name: [] for name in titles}
    chunks: list[int] = []
    for size_bytes in scale.disk_sizes:
        for name, value in _disk(folder, seed, size_bytes, runs).items():
            if name == "chunks":
                chunks.append(int(value))
            else:
                found[name].append(value)
    for name, title in titles.items():
        yield fitted(f"disk/{name}", title, DISK_SIZE, scale.disk_sizes, found[name])
    grown = chunks[-1] - chunks[0]
    for name, unit, factor in (
        ("metadata", "bytes", KIB),
        ("rebuild", "µs", 1e6),
        ("delete", "µs", 1e6),
    ):
        # Between the smallest disk and the largest, so that what does not grow is left out.
        each = (found[name][-1] - found[name][0]) * factor / grown
        yield Measurement(
            f"unique block/{name}",
            f"{titles[name].split(',')[0]}, for each unique block",
            unit,
            [each],
        )
    yield Measurement(
        "peak/memory", "peak memory of the largest snapshot", "MiB", [found["memory"][-1]]
    )


def _disk(folder: Path, seed: int, size_bytes: int, runs: int) -> dict[str, float]:
    """What one disk costs; times are medians of *runs*."""
    samples: dict[str, list[float]] = {}
    with scratch_folder(folder) as scratch:
        disk = scratch / "disk.img"
        incompressible(disk, size_bytes, Random(seed))
        for turn in range(runs):
            home = scratch / f"home-{turn}"
            one = _run(home, disk, size_bytes, seed + turn)
            for name, value in one.items():
                samples.setdefault(name, []).append(value)
    return {name: median(values) for name, values in samples.items()}


def _run(home: Path, disk: Path, size_bytes: int, seed: int) -> dict[str, float]:
    options = SnapshotOptions(block_size=_SMALL_BLOCK)
    found: dict[str, float] = {}
    with closing(open_region(home, DEFAULT_REGION, _ACCOUNT)) as region:
        ids = []
        for name in ("first", "changed", "unchanged"):
            if name == "changed":
                random_changes(disk, size_bytes, Random(seed))
            forget_peak_memory()
            found[name] = seconds_of(
                lambda: ids.append(create_snapshot(region, str(disk), options).snapshot_id)
            )
            if name == "first":
                found["memory"] = peak_memory_bytes() / MIB
        stats = store_stats(region)
        found["metadata"] = stats.metadata_live_bytes / KIB
        found["chunks"] = stats.block_count
    found["rebuild"] = seconds_of(lambda: rebuild_store(home, DEFAULT_REGION))
    with closing(open_region(home, DEFAULT_REGION, _ACCOUNT)) as region:
        found["delete"] = seconds_of(lambda: delete_snapshots(region, ids))
    return found


def snapshot_growth(folder: Path, seed: int, scale: Scale) -> Iterator[Fit]:
    """Yield what each verb costs as there are more and more snapshots of a volume."""
    counts = scale.snapshot_counts
    times = grown_history(folder, seed, counts, scale.rounds)
    for verb in ("create", "list", "show", "delete"):
        values = [times[count][verb] for count in counts]
        yield fitted(f"snapshots/{verb}", f"{verb}, ms", "snapshots", counts, values)


def thread_growth(folder: Path, seed: int, scale: Scale, runs: int) -> Iterator[Fit]:
    """Yield what more threads do for a first snapshot."""
    values = []
    with scratch_folder(folder) as scratch:
        disk = scratch / "disk.img"
        fresh_install(disk, scale.workload_bytes, Random(seed))
        for count in scale.thread_counts:
            times = []
            for turn in range(runs):
                home = scratch / f"home-{count}-{turn}"
                options = SnapshotOptions(thread_count=count)
                with closing(open_region(home, DEFAULT_REGION, _ACCOUNT)) as region:
                    times.append(
                        seconds_of(lambda: create_snapshot(region, str(disk), options))  # noqa: B023 (called at once)
                    )
            values.append(median(times))
    counts = [float(count) for count in scale.thread_counts]
    yield fitted("threads/first", "first snapshot, seconds", "threads", counts, values)
