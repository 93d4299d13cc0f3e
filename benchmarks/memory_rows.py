"""The peak memory of every command, on a huge and sparse image.

The image has one page of data in each of many blocks, scattered over 16 TiB (one page
less: ext4 has no larger files).  It is snapshotted with the default block of 512 KiB, of
which a restore would write 100 GB; so restoring and verifying are shown on a second
volume, with blocks of 64 KiB, which has as many blocks and leaves.
"""

import os
from pathlib import Path
from random import Random

from benchmarks.engine_table import PEAK_MIB_MAX
from benchmarks.processes import CommandFailed, ebsim_command, run_measured
from benchmarks.results import Figure
from benchmarks.scratch import scratch_folder
from benchmarks.speed_rows import snapshot_id_of, touch
from ebsim.units import KIB, MIB, TIB

IMAGE_SIZE = 16 * TIB - 4 * KIB
BLOCK_COUNT = 200_000
_PAGE_SIZE = 4 * KIB
_BLOCK_SIZE = 512 * KIB
_CHANGED_SHARE = 100


def write_scattered(path: Path, size_bytes: int, block_count: int, seed: int) -> list[int]:
    """Make a sparse image with a page of data in each of *block_count* blocks; return where."""
    random = Random(seed)
    places = sorted(random.sample(range(size_bytes // _BLOCK_SIZE), block_count))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(descriptor, size_bytes)
        for place in places:
            os.pwrite(descriptor, random.randbytes(_PAGE_SIZE), place * _BLOCK_SIZE)
    finally:
        os.close(descriptor)
    return places


def change_some(path: Path, places: list[int], seed: int) -> int:
    """Write other data to one in a hundred of the blocks; return to how many."""
    random = Random(seed + 1)
    changed = random.sample(places, max(len(places) // _CHANGED_SHARE, 1))
    descriptor = os.open(path, os.O_RDWR)
    try:
        for place in changed:
            os.pwrite(descriptor, random.randbytes(_PAGE_SIZE), place * _BLOCK_SIZE)
    finally:
        os.close(descriptor)
    return len(changed)


class _Peaks:
    """Runs commands on a store and notes the peak memory of each."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.detail: dict[str, float | int | str] = {}
        self.greatest_bytes = 0
        self.is_complete = True

    def of(self, name: str, *words: str | Path) -> str:
        """Run a command and return what it printed; *name* is it, for the reader."""
        usage, output = run_measured(ebsim_command(self._home, *words))
        self.greatest_bytes = max(self.greatest_bytes, usage.peak_bytes)
        self.detail[f"{name}: MiB"] = round(usage.peak_bytes / MIB, 1)
        self.detail[f"{name}: seconds"] = round(usage.wall_seconds, 2)
        return output

    def of_unbuilt(self, name: str, *words: str | Path) -> None:
        """The same for a command that ebsim may refuse as not built yet."""
        try:
            self.of(name, *words)
        except CommandFailed as failure:
            if "is not built yet" not in str(failure):
                raise
            self.detail[f"{name}: MiB"] = "not built yet"
            self.is_complete = False


def peak_memory(
    folder: Path, seed: int, size_bytes: int = IMAGE_SIZE, block_count: int = BLOCK_COUNT
) -> Figure:
    """The peak of each command, of which the greatest counts."""
    with scratch_folder(folder) as scratch:
        peaks, image = _Peaks(scratch / "home"), scratch / "sparse.img"
        places = write_scattered(image, size_bytes, block_count, seed)
        first = snapshot_id_of(peaks.of("create, first", "snapshot", "create", image))
        touch(image)
        peaks.of("create, unchanged", "snapshot", "create", image)
        change_some(image, places, seed)
        second = snapshot_id_of(peaks.of("create, changed", "snapshot", "create", image))
        peaks.of("create --rehash", "snapshot", "create", image, "--rehash")
        peaks.of("ls --unique", "snapshot", "ls", "--unique")
        peaks.of("show", "snapshot", "show", first)
        peaks.of("diff", "snapshot", "diff", first, second)
        peaks.of("diff --blocks", "snapshot", "diff", "--blocks", first, second)
        peaks.of("tag", "snapshot", "tag", first, "kept=no")
        peaks.of("untag", "snapshot", "untag", first, "kept")
        peaks.of("volume ls", "volume", "ls")
        peaks.of("copy", "snapshot", "copy", first, "--to-region", "eu-north-1")
        peaks.of("archive", "snapshot", "archive", second)
        peaks.of("unarchive", "snapshot", "unarchive", second)
        small = _restore_small_blocks(peaks, image, scratch)
        peaks.of("rm --dry-run", "snapshot", "rm", "--dry-run", first, second)
        for name in ("stats", "check", "compact"):
            peaks.of_unbuilt(f"store {name}", "store", name)
        peaks.of_unbuilt("store check --read-data", "store", "check", "--read-data")
        peaks.of("rm", "snapshot", "rm", first, second, small)
        peaks.of_unbuilt("store rebuild", "store", "rebuild")
    greatest = peaks.greatest_bytes / MIB
    is_reached = greatest <= PEAK_MIB_MAX and peaks.is_complete
    return Figure("memory", [greatest], is_reached, f"{greatest:.0f} MiB", peaks.detail)


def _restore_small_blocks(peaks: _Peaks, image: Path, scratch: Path) -> str:
    """Snapshot the image in blocks of 64 KiB, verify, restore; return the snapshot's id."""
    other, target = scratch / "sparse-64k.img", scratch / "restored.img"
    os.link(image, other)
    output = peaks.of("create, 64 KiB blocks", "snapshot", "create", other, "--block-size", "64K")
    snapshot_id = snapshot_id_of(output)
    peaks.of("verify, 64 KiB blocks", "snapshot", "verify", snapshot_id)
    peaks.of("restore, 64 KiB blocks", "restore", snapshot_id, target)
    target.unlink()
    return snapshot_id
