"""Speed: snapshots and restores by the real command, each beside its limit in the same run."""

import os
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.engine_table import (
    FIRST_LEAST,
    RESTORE_LEAST,
    START_SECONDS_MAX,
    UNCHANGED_LEAST,
)
from benchmarks.limits import (
    compress_seconds,
    decompress_seconds,
    load_image,
    payloads_of,
    read_seconds,
    write_seconds,
)
from benchmarks.processes import ebsim_command, run_measured, sync_file_system
from benchmarks.results import Detail, Figure, ratio_figure
from benchmarks.scratch import scratch_folder
from ebsim.cli.settings import DEFAULT_ACCOUNT, DEFAULT_REGION
from ebsim.content.digest import block_digest
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.region import open_region
from ebsim.ids import AccountId
from ebsim.sources.raw_file import RawFile
from ebsim.units import MIB

_START_RUNS_MIN = 10


def touch(path: Path) -> None:
    """Give *path* a new time, as any use of a disk does: nobody may take it for unchanged."""
    os.utime(path)


def snapshot_id_of(output: str) -> str:
    """The id that ``snapshot create`` printed."""
    return output.split()[0]


def middle_detail(seconds: dict[str, list[float]], data_bytes: int) -> dict[str, float]:
    """The medians of *seconds*, and the speeds they mean, in MB/s."""
    detail: dict[str, float] = {"data_bytes": data_bytes}
    for name, values in seconds.items():
        detail[f"{name}_seconds"] = round(median(values), 4)
        detail[f"{name}_mb_per_second"] = round(data_bytes / median(values) / 1e6)
    return detail


def first_snapshot(key: str, path: Path, folder: Path, runs: int, threads: int) -> Figure:
    """A first snapshot into a new store, and compressing the same blocks in memory."""
    image = load_image(path)
    ratios, seconds = [], {"command": list[float](), "compress": list[float]()}
    detail: dict[str, float] = {}
    before = compress_seconds(image.unique, threads)
    for _ in range(runs):
        with scratch_folder(folder) as scratch:
            home = scratch / "home"
            sync_file_system(scratch)
            usage, _ = run_measured(ebsim_command(home, "snapshot", "create", path), sync=scratch)
            detail["command_processor_seconds"] = round(usage.processor_seconds, 3)
        used = time.process_time()
        after = compress_seconds(image.unique, threads)
        detail["compress_processor_seconds"] = round(time.process_time() - used, 3)
        # Before and after: a machine that grows slower meanwhile must not favour one.
        ratios.append((before + after) / 2 / usage.wall_seconds)
        seconds["command"].append(usage.wall_seconds)
        seconds["compress"].append(after)
        before = after
    detail |= middle_detail(seconds, image.data_bytes)
    detail["compressed_bytes"] = sum(map(len, image.unique))
    return ratio_figure(key, ratios, FIRST_LEAST, detail)


def unchanged_snapshot(path: Path, folder: Path, runs: int, threads: int) -> list[Figure]:
    """Snapshots of an image that has not changed, and reading it and nothing more."""
    source = RawFile(path, point_in_time=False)
    extents = list(source.extents())
    source.close()
    data_bytes = sum(stop - start for start, stop in extents)
    seconds = {"command": list[float](), "verb": list[float](), "read": list[float]()}
    with scratch_folder(folder) as scratch:
        create = ebsim_command(scratch / "home", "snapshot", "create", path)
        run_measured(create, sync=scratch)
        read_seconds(path, extents, threads)
        for _ in range(runs):
            touch(path)
            usage, _ = run_measured(create, sync=scratch)
            seconds["command"].append(usage.wall_seconds)
            # Between the two, so that it is next to both.
            seconds["read"].append(read_seconds(path, extents, threads))
            touch(path)
            seconds["verb"].append(_verb_seconds(scratch / "home", path))
    detail = middle_detail(seconds, data_bytes)
    whole = [one / other for one, other in zip(seconds["read"], seconds["command"], strict=True)]
    verb = [one / other for one, other in zip(seconds["read"], seconds["verb"], strict=True)]
    return [
        ratio_figure("unchanged", whole, UNCHANGED_LEAST, detail),
        ratio_figure("unchanged_verb", verb, None, detail),
    ]


def _verb_seconds(home: Path, path: Path) -> float:
    """One snapshot in this process: opening the region counts, starting Python does not."""
    begun_ns = time.perf_counter_ns()
    region = open_region(home, DEFAULT_REGION, AccountId(DEFAULT_ACCOUNT))
    snapshot = create_snapshot(region, str(path))
    region.close()
    seconds = (time.perf_counter_ns() - begun_ns) / 1e9
    assert snapshot.changed_block_count == 0, "nothing had changed"
    return seconds


def restore(path: Path, folder: Path, runs: int, threads: int) -> Figure:
    """Restores to a new file, and the two limits: decoding and writing."""
    image = load_image(path)
    payloads = payloads_of(image.unique)
    digest = _file_digest(path)
    seconds = {"command": list[float](), "decompress": list[float](), "write": list[float]()}
    ratios = []
    with scratch_folder(folder) as scratch:
        home, target = scratch / "home", scratch / "restored.img"
        _, output = run_measured(ebsim_command(home, "snapshot", "create", path), sync=scratch)
        command = ebsim_command(home, "restore", snapshot_id_of(output), target)
        for turn in range(runs):
            decompress = decompress_seconds(payloads, threads)
            sync_file_system(scratch)
            write = write_seconds(image, target, threads)
            target.unlink()
            sync_file_system(scratch)
            usage, _ = run_measured(command, sync=scratch)
            if turn == 0:
                assert _file_digest(target) == digest, "the restored file is the image"
            target.unlink()
            ratios.append(max(decompress, write) / usage.wall_seconds)
            seconds["command"].append(usage.wall_seconds)
            seconds["decompress"].append(decompress)
            seconds["write"].append(write)
    return ratio_figure("restore", ratios, RESTORE_LEAST, middle_detail(seconds, image.data_bytes))


def _file_digest(path: Path) -> list[bytes]:
    """The digests of a file's data: holes and zeros are the same."""
    source = RawFile(path, point_in_time=False)
    buffer = bytearray(MIB)
    zeros = block_digest(bytes(MIB))
    found = []
    for offset in range(0, source.size_bytes, MIB):
        source.read_into(memoryview(buffer), offset)
        digest = block_digest(buffer)
        found.append(b"" if digest == zeros else digest)
    source.close()
    return found


def start_up(key: str, option: str, runs: int) -> Figure:
    """The processor time of ``ebsim`` with nothing but *option*."""
    command = [sys.executable, "-m", "ebsim", option]
    run_measured(command)
    usages = [run_measured(command)[0] for _ in range(max(runs, _START_RUNS_MIN))]
    used = [usage.processor_seconds for usage in usages]
    detail: Detail = {"wall_seconds": round(median(usage.wall_seconds for usage in usages), 4)}
    middle = median(used)
    shown = f"{middle * 1000:.0f} ms"
    return Figure(key, used, middle <= START_SECONDS_MAX, shown, detail)
