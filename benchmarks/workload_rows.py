"""Each workload, or image that is given, through all that is done with a disk."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from benchmarks.images import copy_sparse
from benchmarks.measurement import Measurement
from benchmarks.scratch import scratch_folder
from benchmarks.workloads import WORKLOADS, Workload
from ebsim.cli.settings import DEFAULT_ACCOUNT, DEFAULT_REGION
from ebsim.content.digest import block_digest
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.region import Region, open_region
from ebsim.engine.restore_snapshot import restore_snapshot
from ebsim.ids import AccountId
from ebsim.units import MIB

if TYPE_CHECKING:
    from ebsim.catalog.snapshot import Snapshot

_STEPS = {
    "first": "first snapshot",
    "changed": "snapshot after the change",
    "unchanged": "snapshot of what has not changed",
    "restore": "restore",
    "delete": "delete the first snapshot",
}


def workload_measurements(
    folder: Path, seed: int, size_bytes: int, runs: int
) -> Iterator[Measurement]:
    """Yield the figures of every workload, on disks of *size_bytes*."""
    for workload in WORKLOADS:
        with scratch_folder(folder) as scratch:
            disk = scratch / "disk.img"
            workload.make(disk, size_bytes, Random(seed))
            yield from _measured(
                workload.name, workload.title, disk, runs, _change(workload, seed)
            )


def image_measurements(
    images: list[Path], folder: Path, seed: int, runs: int
) -> Iterator[Measurement]:
    """Yield the figures of images that were given, with 1 % of their pages changed."""
    for image in images:
        with scratch_folder(folder) as scratch:
            disk = scratch / "disk.img"
            copy_sparse(image, disk)
            workload = WORKLOADS[0]
            yield from _measured(
                f"image {image.name}",
                f"{image.name}, then 1 % of its pages anew",
                disk,
                runs,
                _change(workload, seed),
            )


def _change(workload: Workload, seed: int) -> Callable[[Path, int], None]:
    def change(disk: Path, turn: int) -> None:
        workload.change(disk, disk.stat().st_size, Random(seed + turn + 1))

    return change


def _measured(
    name: str, title: str, disk: Path, runs: int, change: Callable[[Path, int], None]
) -> Iterator[Measurement]:
    seconds: dict[str, list[float]] = {step: [] for step in _STEPS}
    sizes: dict[str, list[float]] = {"first": [], "changed": []}
    data_mib = disk.stat().st_blocks * 512 / MIB
    original = disk.with_name("original.img")
    copy_sparse(disk, original)
    for turn in range(runs):
        disk.unlink()
        copy_sparse(original, disk)
        home = disk.with_name(f"home-{turn}")
        with closing(open_region(home, DEFAULT_REGION, AccountId(DEFAULT_ACCOUNT))) as region:
            _one_run(region, disk, lambda disk: change(disk, 0), seconds, sizes)
    for step, what in _STEPS.items():
        yield Measurement(
            f"workload {name}/{step}", f"{title}: {what}", "ms", [s * 1e3 for s in seconds[step]]
        )
    for step, values in sizes.items():
        yield Measurement(
            f"workload {name}/{step} stored",
            f"{title}: stored by the {_STEPS[step]}, of {data_mib:.0f} MiB",
            "MiB",
            [value / MIB for value in values],
        )


def _one_run(
    region: Region,
    disk: Path,
    change: Callable[[Path], None],
    seconds: dict[str, list[float]],
    sizes: dict[str, list[float]],
) -> None:
    taken: dict[str, Snapshot] = {}

    def take(step: str) -> None:
        taken[step] = create_snapshot(region, str(disk))

    for step in ("first", "changed", "unchanged"):
        if step == "changed":
            change(disk)
        seconds[step].append(seconds_of(lambda: take(step)))  # noqa: B023 (called at once)
        if step in sizes:
            sizes[step].append(float(taken[step].stored_bytes))
    first, changed = taken["first"].snapshot_id, taken["changed"].snapshot_id
    target = disk.with_name("restored.img")
    seconds["restore"].append(seconds_of(lambda: restore_snapshot(region, changed, str(target))))
    assert _digest(target) == _digest(disk), "the restored disk is the disk"
    target.unlink()
    seconds["delete"].append(seconds_of(lambda: delete_snapshots(region, [first])))


def seconds_of(work: Callable[[], object]) -> float:
    """How long *work* takes."""
    begun_ns = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - begun_ns) / 1e9


def _digest(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [block_digest(piece) for piece in iter(lambda: file.read(MIB), b"")]
