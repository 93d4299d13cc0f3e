"""What ``ebsim analyze`` needs for a disk that is far larger than this machine could hold.

The disk is a sparse file, and the folder for ``--parts`` has what a scan would have found: a row
for each block of every size, made by seed and encoded as scans do.  So the command itself scans
nothing, and counts as many blocks as a full disk of that size has.  Every piece has an eighth of
its content in common with all others, and what is counted is compared with that.

On the disk: 14 GiB for a terabyte.
"""

import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.analysis_table import LARGE_MIB_MAX
from benchmarks.processes import run_measured
from benchmarks.results import Figure
from benchmarks.scratch import scratch_folder
from ebsim.analysis.block_digests import BLOCK_SIZES
from ebsim.analysis.image_list import ImageList
from ebsim.analysis.part_folder import part_folder, part_paths
from ebsim.analysis.parts import Column, Part, encode_part
from ebsim.analysis.scanning import piece_tasks
from ebsim.units import GIB, MIB

LARGE_SIZE = 256 * GIB
_COMMON = 8
"""The share of a piece that all pieces have, as one in so many."""


def large_analysis(folder: Path, seed: int, *, size_bytes: int = LARGE_SIZE) -> Figure:
    """The peak of the whole command, whose counts are proved."""
    with scratch_folder(folder) as scratch:
        disk, parts = scratch / "disk.img", scratch / "parts"
        with disk.open("wb") as file:
            file.truncate(size_bytes)
        expected = _make_parts(disk, parts, seed)
        options = ["--quiet", "--output", "json"]
        usage, output = run_measured(
            [sys.executable, "-m", "ebsim", *options, "analyze", disk, "--parts", parts]
        )
    found = [size["UniqueBlocks"] for size in json.loads(output)["BlockSizes"]]
    assert found == expected, "the analysis counts what there is"
    peak = usage.peak_bytes / MIB
    detail = {
        "seconds": round(usage.wall_seconds, 1),
        "processor seconds": round(usage.processor_seconds, 1),
        "bytes": size_bytes,
        "blocks": sum(size_bytes // size for size in BLOCK_SIZES),
    }
    return Figure("large_memory", [peak], peak < LARGE_MIB_MAX, f"{peak:.0f} MiB", detail)


def _make_parts(disk: Path, parts: Path, seed: int) -> list[int]:
    """Make the parts of *disk*; return how many different blocks of each size they have."""
    found = ImageList(keep_going=False)
    found.add_files([str(disk)])
    tasks = piece_tasks(found.images)
    piece_size = tasks[0].stop - tasks[0].start
    common = [_digests(seed, 0, piece_size // size // _COMMON) for size in BLOCK_SIZES]
    with part_folder(parts, "") as folder:
        (paths,) = part_paths(folder, tasks, found.images)
        for number, (task, path) in enumerate(zip(tasks, paths, strict=True), 1):
            own = [
                _digests(seed, number, piece_size // size - len(shared))
                for size, shared in zip(BLOCK_SIZES, common, strict=True)
            ]
            rows = [
                _rows(task.start // size, np.concatenate([shared, other]))
                for size, shared, other in zip(BLOCK_SIZES, common, own, strict=True)
            ]
            folder.write(path, encode_part(Part(0, rows)))
    return [
        len(shared) + len(tasks) * len(other) for shared, other in zip(common, own, strict=True)
    ]


def _digests(seed: int, number: int, count: int) -> Column:
    """Digests of *count* blocks as two halves each; as good as all different."""
    random = np.random.default_rng([seed, number, count])
    return random.integers(0, 1 << 64, (count, 2), dtype=np.uint64)


def _rows(first: int, digests: Column) -> tuple[Column, Column, Column]:
    order = np.argsort(digests[:, 0])
    return first + order.astype(np.uint64), digests[order, 0], digests[order, 1]
