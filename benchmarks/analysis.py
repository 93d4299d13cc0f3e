"""``ebsim analyze`` beside reading and hashing alone: the table 'analysis'.

    python -m benchmarks.analysis [--dir DIR] [--rows hashing,memory,large] [--runs 5]

Prints the table and writes ``results/analysis.json``.
"""

import mmap
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from random import Random

from xxhash import xxh3_128_digest

from benchmarks.analysis_table import ANALYSIS, ANALYSIS_MIB_MAX, HASHING_LEAST
from benchmarks.images import Images
from benchmarks.large_analysis import large_analysis
from benchmarks.measured_table import Groups, Setting, measure_table
from benchmarks.processes import run_measured
from benchmarks.results import Figure, ratio_figure
from benchmarks.scratch import scratch_folder
from benchmarks.workloads import incompressible
from ebsim.analysis.analyze_images import analyze_images
from ebsim.analysis.image_list import ImageList
from ebsim.units import GIB, KIB, MIB

_STRETCH = 4 * MIB
_SIZE = 4 * GIB


def hash_seconds(path: Path, thread_count: int) -> float:
    """Reading *path* whole and hashing its 4 KiB blocks, and nothing more.

    In one call for 4 MiB of them, as fast as Python can; the rest of the last is left out.
    """
    stretches = path.stat().st_size // _STRETCH
    counter = count()
    descriptor = os.open(path, os.O_RDONLY)

    def worker() -> None:
        buffer = memoryview(mmap.mmap(-1, _STRETCH))
        blocks = [buffer[at : at + 4 * KIB] for at in range(0, _STRETCH, 4 * KIB)]
        while (index := next(counter)) < stretches:
            os.preadv(descriptor, [buffer], index * _STRETCH)
            b"".join(map(xxh3_128_digest, blocks))

    try:
        with ThreadPoolExecutor(thread_count) as pool:
            begun_ns = time.perf_counter_ns()
            for future in [pool.submit(worker) for _ in range(thread_count)]:
                future.result()
            return (time.perf_counter_ns() - begun_ns) / 1e9
    finally:
        os.close(descriptor)


def hashing(
    folder: Path, seed: int, runs: int, threads: int, *, size_bytes: int = _SIZE
) -> Figure:
    """The analysis of noise, so that nothing is skipped, and the loop, by turns."""
    ratios, seconds = [], {"analysis": list[float](), "loop": list[float]()}
    with scratch_folder(folder) as scratch:
        disk = scratch / "disk.img"
        incompressible(disk, size_bytes, Random(seed))
        hash_seconds(disk, threads)
        for _ in range(runs):
            seconds["loop"].append(hash_seconds(disk, threads))
            found = ImageList(keep_going=False)
            begun_ns = time.perf_counter_ns()
            found.add_files([str(disk)])
            analysis = analyze_images(found.images)
            seconds["analysis"].append((time.perf_counter_ns() - begun_ns) / 1e9)
            assert analysis.sizes[0].unique_bytes == size_bytes, "noise does not repeat"
            ratios.append(seconds["loop"][-1] / seconds["analysis"][-1])
    detail = {name: round(sorted(values)[len(values) // 2], 3) for name, values in seconds.items()}
    return ratio_figure("hashing", ratios, HASHING_LEAST, detail)


def analysis_memory(folder: Path, seed: int, *, size_bytes: int = _SIZE) -> Figure:
    """The peak of the whole command."""
    with scratch_folder(folder) as scratch:
        disk = scratch / "disk.img"
        incompressible(disk, size_bytes, Random(seed))
        usage, _ = run_measured([sys.executable, "-m", "ebsim", "--quiet", "analyze", disk])
    peak = usage.peak_bytes / MIB
    detail = {"seconds": round(usage.wall_seconds, 2), "bytes": size_bytes}
    return Figure("analysis_memory", [peak], peak < ANALYSIS_MIB_MAX, f"{peak:.0f} MiB", detail)


def _hashing(setting: Setting) -> list[Figure]:
    return [hashing(setting.images.folder, setting.seed, setting.runs, setting.threads)]


GROUPS: Groups = {
    "hashing": _hashing,
    "memory": lambda setting: [analysis_memory(setting.images.folder, setting.seed)],
    "large": lambda setting: [large_analysis(setting.images.folder, setting.seed)],
}

SMALL_GROUPS: Groups = {
    "hashing": lambda setting: [
        hashing(
            setting.images.folder, setting.seed, setting.runs, setting.threads, size_bytes=64 * MIB
        )
    ],
    "memory": lambda setting: [
        analysis_memory(setting.images.folder, setting.seed, size_bytes=64 * MIB)
    ],
    "large": lambda setting: [large_analysis(setting.images.folder, setting.seed, size_bytes=GIB)],
}
"""The same rows where only a small scale is asked for."""


def _used_images(images: Images) -> list[Path]:
    """None: each row makes its disk."""
    del images
    return []


def main(arguments: Sequence[str]) -> None:
    measure_table(ANALYSIS, GROUPS, arguments, used_images=_used_images)


if __name__ == "__main__":
    main(sys.argv[1:])
