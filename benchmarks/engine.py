"""The engine against the machine: every row of the table in ``benchmarks/README.md``.

    python -m benchmarks.engine [--dir DIR] [--rows start,first,...] [--runs 5]

Prints the table and writes ``results/engine.json``; ``python -m benchmarks.readme`` then
brings the README up to date.  Makes the images first if they are not there.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.copy_rows import copied_snapshot
from benchmarks.engine_table import ENGINE
from benchmarks.full_volume import full_volume_figures
from benchmarks.images import Images
from benchmarks.many_snapshots import growth_figures
from benchmarks.measured_table import Groups, Setting, measure_table
from benchmarks.memory_rows import peak_memory
from benchmarks.results import Figure
from benchmarks.speed_rows import first_snapshot, restore, start_up, unchanged_snapshot
from ebsim.units import GIB, KIB


def _start(setting: Setting) -> list[Figure]:
    return [
        start_up("version", "--version", setting.runs),
        start_up("help", "--help", setting.runs),
    ]


def _first(setting: Setting) -> list[Figure]:
    images, _, runs, threads = setting
    return [
        first_snapshot("first", images.root_after, images.folder, runs, threads),
        first_snapshot("first_data", images.data_after, images.folder, runs, threads),
    ]


def _unchanged(setting: Setting) -> list[Figure]:
    images, _, runs, threads = setting
    return unchanged_snapshot(images.disk, images.folder, runs, threads)


def _restore(setting: Setting) -> list[Figure]:
    images, _, runs, threads = setting
    return [restore(images.root_after, images.folder, runs, threads)]


def _copy(setting: Setting) -> list[Figure]:
    images, _, runs, threads = setting
    return [copied_snapshot(images.root_after, images.folder, runs, threads)]


GROUPS: Groups = {
    "start": _start,
    "first": _first,
    "unchanged": _unchanged,
    "restore": _restore,
    "copy": _copy,
    "memory": lambda setting: [peak_memory(setting.images.folder, setting.seed)],
    "volume": lambda setting: full_volume_figures(setting.images.folder, setting.seed),
    "many": lambda setting: growth_figures(setting.images.folder, setting.seed),
}

SMALL_GROUPS: Groups = {
    **GROUPS,
    "memory": lambda setting: [
        peak_memory(setting.images.folder, setting.seed, size_bytes=GIB, block_count=20)
    ],
    "volume": lambda setting: full_volume_figures(
        setting.images.folder, setting.seed, block_count=4096, leaf_count=10, block_size=4 * KIB
    ),
    "many": lambda setting: growth_figures(
        setting.images.folder, setting.seed, few=3, many=12, rounds=setting.runs
    ),
}
"""The same rows where only a small scale is asked for."""


def _used_images(images: Images) -> list[Path]:
    return [images.root_after, images.data_after, images.disk]


def main(arguments: Sequence[str]) -> None:
    measure_table(ENGINE, GROUPS, arguments, used_images=_used_images)


if __name__ == "__main__":
    main(sys.argv[1:])
