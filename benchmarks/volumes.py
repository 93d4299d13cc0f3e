"""Volumes against NBD servers that do less: the table 'volumes' in ``benchmarks/README.md``.

    python -m benchmarks.volumes [--dir DIR] [--rows open,transfers,...] [--runs 5]

Prints the table and writes ``results/volumes.json``; ``python -m benchmarks.readme`` then
brings the README up to date.  Makes the images first if they are not there.  Needs fio,
nbdkit, libnbd-bin, qemu-utils and qemu-system-common.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.images import Images
from benchmarks.measured_table import Groups, Setting, measure_table
from benchmarks.results import Figure
from benchmarks.volume_rows import (
    cold_reads,
    first_byte,
    hydration,
    pauses,
    serving_memory,
    transfers,
)
from benchmarks.volume_table import VOLUMES
from ebsim.units import GIB


def _cold(setting: Setting) -> list[Figure]:
    images, seed, runs, _ = setting
    return [cold_reads(images.root_after, images.folder, seed, runs)]


_OPENED_A_RUN = 4
"""It takes milliseconds, most of them the disk's."""

GROUPS: Groups = {
    "open": lambda setting: first_byte(
        setting.images.folder, setting.seed, setting.runs * _OPENED_A_RUN
    ),
    "transfers": lambda setting: transfers(
        setting.images.root_after, setting.images.folder, setting.runs
    ),
    "cold": _cold,
    "hydration": lambda setting: hydration(
        setting.images.root_after, setting.images.folder, setting.runs
    ),
    "pause": lambda setting: [pauses("pause", setting.images.folder, volume_count=1)],
    "set": lambda setting: [pauses("pause_set", setting.images.folder, volume_count=8)],
    "serving": lambda setting: [serving_memory(setting.images.folder, setting.seed)],
}

_SMALL_DISK = 2 * GIB

SMALL_GROUPS: Groups = {
    **GROUPS,
    "open": lambda setting: first_byte(
        setting.images.folder, setting.seed, setting.runs, huge=_SMALL_DISK
    ),
    "pause": lambda setting: [
        pauses("pause", setting.images.folder, volume_count=1, snapshot_count=10)
    ],
    "set": lambda setting: [
        pauses("pause_set", setting.images.folder, volume_count=8, snapshot_count=3)
    ],
    "serving": lambda setting: [
        serving_memory(setting.images.folder, setting.seed, 1, huge=_SMALL_DISK)
    ],
}
"""The same rows where only a small scale is asked for."""


def _used_images(images: Images) -> list[Path]:
    return [images.root_after]


def main(arguments: Sequence[str]) -> None:
    measure_table(VOLUMES, GROUPS, arguments, used_images=_used_images)


if __name__ == "__main__":
    main(sys.argv[1:])
