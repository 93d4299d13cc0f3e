"""Speed of copying to another region, beside reading and writing the same packs."""

import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from benchmarks.engine_table import COPY_LEAST
from benchmarks.processes import sync_file_system
from benchmarks.results import Figure, ratio_figure
from benchmarks.scratch import scratch_folder
from benchmarks.speed_rows import middle_detail
from ebsim.cli.settings import DEFAULT_ACCOUNT, DEFAULT_REGION
from ebsim.engine.copy_snapshot import CopyOptions, copy_snapshot
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.region import Region, open_region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.ids import AccountId
from ebsim.units import MIB

_ACCOUNT = AccountId(DEFAULT_ACCOUNT)


def copied_snapshot(path: Path, folder: Path, runs: int, threads: int) -> Figure:
    """Copies of a snapshot of *path* into new regions, opening those included."""
    ratios, seconds = [], {"copy": list[float](), "packs": list[float]()}
    with scratch_folder(folder) as scratch:
        home = scratch / "home"
        with closing(open_region(home, DEFAULT_REGION, _ACCOUNT)) as source:
            taken = create_snapshot(source, str(path), SnapshotOptions(thread_count=threads))
            packs = sorted((source.path / "packs").glob("*.pack"))
            pack_bytes = sum(pack.stat().st_size for pack in packs)
            before = pack_seconds(packs, scratch / "packs", threads)
            for _ in range(runs):
                sync_file_system(scratch)
                used = _copy_seconds(source, taken.snapshot_id, threads)
                after = pack_seconds(packs, scratch / "packs", threads)
                # Before and after: a machine that grows slower meanwhile favours neither.
                ratios.append((before + after) / 2 / used)
                seconds["copy"].append(used)
                seconds["packs"].append(after)
                before = after
    detail = middle_detail(seconds, pack_bytes)
    return ratio_figure("copy", ratios, COPY_LEAST, detail)


def _copy_seconds(source: Region, snapshot_id: str, threads: int) -> float:
    begun_ns = time.perf_counter_ns()
    with closing(open_region(source.home, "copied", _ACCOUNT)) as region:
        done = copy_snapshot(region, source, snapshot_id, CopyOptions(thread_count=threads))
        used = (time.perf_counter_ns() - begun_ns) / 1e9
        assert not done.is_incremental, "all of it travelled"
    shutil.rmtree(source.home / "regions" / "copied")
    return used


def pack_seconds(packs: Sequence[Path], target: Path, thread_count: int) -> float:
    """Reading *packs* and writing their bytes to new, synced files in the folder *target*."""
    target.mkdir()
    begun_ns = time.perf_counter_ns()
    with ThreadPoolExecutor(thread_count) as pool:
        for _ in pool.map(lambda pack: _copy_file(pack, target / pack.name), packs):
            pass
    used = (time.perf_counter_ns() - begun_ns) / 1e9
    shutil.rmtree(target)
    return used


def _copy_file(path: Path, target: Path) -> None:
    buffer = memoryview(bytearray(MIB))
    source = os.open(path, os.O_RDONLY)
    made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        offset = 0
        while size := os.preadv(source, [buffer], offset):
            assert os.pwrite(made, buffer[:size], offset) == size, "all of it"
            offset += size
        os.fdatasync(made)
    finally:
        os.close(source)
        os.close(made)
