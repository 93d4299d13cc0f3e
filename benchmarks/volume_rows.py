"""Volumes: how soon they can be used, how fast they are, what a snapshot costs who writes."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from random import Random
from socket import AF_UNIX, socket
from statistics import median, quantiles

from benchmarks.images import copy_sparse
from benchmarks.memory_rows import write_scattered
from benchmarks.nbd_load import Load, Writers
from benchmarks.nbd_servers import (
    Server,
    ebsim_volume,
    nbdkit_memory,
    qemu_nbd,
    socket_folder,
    streaming_overlay,
)
from benchmarks.processes import ebsim_command, run_measured, sync_file_system
from benchmarks.results import Figure, ratio_figure
from benchmarks.scratch import scratch_folder
from benchmarks.speed_rows import snapshot_id_of
from benchmarks.volume_table import (
    COLD_MAX,
    HYDRATION_LEAST,
    OPEN_GROWTH_MAX,
    OPEN_MS_MAX,
    PAUSE_MS_MAX,
    READ_LEAST,
    SEQUENTIAL_LEAST,
    SERVING_MIB_MAX,
    SET_PAUSE_MS_MAX,
    STREAM_LEAST,
    WRITE_LEAST,
)
from ebsim.attach.nbd_server import Export, NbdServer
from ebsim.cli.settings import DEFAULT_ACCOUNT, DEFAULT_REGION
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.holds import reading
from ebsim.engine.list_snapshots import show_snapshot
from ebsim.engine.open_volume import open_volume
from ebsim.engine.region import Region, open_region
from ebsim.engine.remove_volume import remove_volume
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.ids import AccountId
from ebsim.sources.nbd_client import NbdClient
from ebsim.units import GIB, KIB, MIB, TIB
from ebsim.volumes.origin import Origin

HUGE = 16 * TIB - 4 * KIB
_LARGE_GIB = 16 * TIB // GIB
_PAGE = 4 * KIB
_BLOCK = 512 * KIB
_SETTLE_SECONDS = 0.5
_WRITTEN = 64 * MIB
"""What is written again and again, of all volumes together: each snapshot uploads it."""
_SNAPSHOTS_SECONDS = 120
"""No snapshot is begun later.  One of eight volumes has a tenth of the machine, beside 16
processes that are never idle: it may take seconds."""


@contextmanager
def _region(home: Path) -> Iterator[Region]:
    with closing(open_region(home, DEFAULT_REGION, AccountId(DEFAULT_ACCOUNT))) as region:
        yield region


# How soon


def first_byte(folder: Path, seed: int, runs: int, *, huge: int = HUGE) -> list[Figure]:
    """Volumes of two sizes, by turns: made, opened, served, connected to, read from."""
    seconds: dict[int, list[float]] = {GIB: [], huge: []}
    with scratch_folder(folder) as scratch, _region(scratch / "home") as region:
        snapshots = {size: _scattered(region, scratch, size, seed) for size in seconds}
        for _ in range(runs):
            for size, (snapshot_id, place) in snapshots.items():
                seconds[size].append(_first_byte_seconds(region, snapshot_id, place))
    small, large = (median(taken) * 1000 for taken in seconds.values())
    detail = {"at 1 GiB, ms": round(small, 2), "at 16 TiB, ms": round(large, 2)}
    milliseconds = [taken * 1000 for taken in seconds[huge]]
    growth = [one / other for one, other in zip(seconds[huge], seconds[GIB], strict=True)]
    middle = median(growth)
    return [
        Figure("open", milliseconds, large < OPEN_MS_MAX, f"{large:.1f} ms", detail),
        Figure("open_growth", growth, middle <= OPEN_GROWTH_MAX, f"{middle:.2f} times", detail),
    ]


def _scattered(region: Region, scratch: Path, size: int, seed: int) -> tuple[str, int]:
    """A snapshot of a sparse disk of *size* bytes, and where it has data."""
    path = scratch / f"sparse-{size}.img"
    places = write_scattered(path, size, 500, seed)
    snapshot_id = create_snapshot(region, str(path)).snapshot_id
    path.unlink()
    return snapshot_id, places[len(places) // 2] * _BLOCK


def _first_byte_seconds(region: Region, snapshot_id: str, place: int) -> float:
    page = bytearray(_PAGE)
    with socket_folder() as folder, ExitStack() as stack:
        begun_ns = time.perf_counter_ns()
        volume_id = create_volume(region, VolumeOptions(snapshot_id)).volume_id
        opened = stack.enter_context(open_volume(region, volume_id, "attach", hydrates=True))
        export = Export(volume_id, "", opened.device, False, opened.device.block_size)
        server = NbdServer(lambda: [export])
        stack.callback(server.stop)
        server.listen_unix(folder / "s")
        server.start()
        with _client(folder / "s") as client:
            client.read_into(memoryview(page), place)
        seconds = (time.perf_counter_ns() - begun_ns) / 1e9
    assert any(page), "it is the data"
    remove_volume(region, volume_id)
    return seconds


@contextmanager
def _client(path: Path | str) -> Iterator[NbdClient]:
    with socket(AF_UNIX) as sock:
        sock.connect(str(path))
        yield NbdClient(sock)


# How fast


def transfers(image: Path, folder: Path, runs: int, seconds: float = 5) -> list[Figure]:
    """A volume that is all here, beside servers of the same bytes that do nothing else."""
    with scratch_folder(folder) as scratch:
        home, copy = scratch / "home", scratch / "copy.img"
        volume_id = _made(home, image)
        run_measured(ebsim_command(home, "volume", "initialize", volume_id, "--wait"))
        copy_sparse(image, copy)
        size_bytes = image.stat().st_size // MIB * MIB
        # The sequential row reads the volume through, and what the page cache has of a file
        # that was read in sequence is dear to write to in pages: the other's file, too.
        _read_through(copy)

        def ours() -> AbstractContextManager[Server]:
            return ebsim_volume(home, volume_id)

        def theirs() -> AbstractContextManager[Server]:
            return qemu_nbd(copy)

        def compared(key: str, load: Load, least: float, other: _Start) -> Figure:
            speeds: dict[str, list[float]] = {"ebsim": [], "other": []}
            for _ in range(runs):
                for name, start in (("ebsim", ours), ("other", other)):
                    with start() as server:
                        # Once unmeasured: connections and caches warm.
                        load.requests_per_second(server, size_bytes, min(seconds, _SETTLE_SECONDS))
                        speed = load.requests_per_second(server, size_bytes, seconds)
                    speeds[name].append(speed)
            detail = {f"{name}, requests/s": round(median(s)) for name, s in speeds.items()}
            ratios = [a / b for a, b in zip(*speeds.values(), strict=True)]
            return ratio_figure(key, ratios, least, detail)

        sequential, reads = Load("read", MIB), Load("randread", _PAGE)
        writes = Load("randwrite", _PAGE, flush_every=64)
        return [
            compared("sequential", sequential, SEQUENTIAL_LEAST, lambda: nbdkit_memory(image)),
            compared("random_read", reads, READ_LEAST, theirs),
            compared("random_write", writes, WRITE_LEAST, theirs),
        ]


def _read_through(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(MIB):
            pass


_Start = Callable[[], AbstractContextManager[Server]]


def _made(home: Path, image: Path) -> str:
    """A volume of a snapshot of *image*; its id."""
    _, output = run_measured(ebsim_command(home, "snapshot", "create", image))
    return _volume_of(home, snapshot_id_of(output))


def _volume_of(home: Path, snapshot_id: str) -> str:
    _, output = run_measured(ebsim_command(home, "volume", "create", "--snapshot", snapshot_id))
    return output.strip()


def cold_reads(image: Path, folder: Path, seed: int, runs: int, count: int = 400) -> Figure:
    """Blocks read one after the other by a client, and the same chunks read directly."""
    ratios, detail = [], {}
    with scratch_folder(folder) as scratch:
        home = scratch / "home"
        _, output = run_measured(ebsim_command(home, "snapshot", "create", image))
        snapshot_id = snapshot_id_of(output)
        with _region(home) as region:
            root = show_snapshot(region, snapshot_id).root
            assert root is not None, "a completed snapshot"
            with reading(region, root):
                blocks = _stored_blocks(Origin(root, region.chunks), image, seed, count)
                _direct_seconds(Origin(root, region.chunks), blocks)
                for _ in range(runs):
                    direct = _direct_seconds(Origin(root, region.chunks), blocks)
                    served = _served_seconds(home, snapshot_id, blocks)
                    ratios.append(served / direct)
                    detail = {
                        "direct, ms a block": round(direct / len(blocks) * 1000, 3),
                        "served, ms a block": round(served / len(blocks) * 1000, 3),
                    }
    middle = median(ratios)
    return Figure("cold_read", ratios, middle <= COLD_MAX, f"{middle:.2f} times", detail)


def _stored_blocks(origin: Origin, image: Path, seed: int, count: int) -> list[int]:
    """Some of the blocks that the snapshot has, in no order."""
    blocks = [index for index in range(image.stat().st_size // _BLOCK) if origin.has_block(index)]
    random = Random(seed)
    return random.sample(blocks, min(count, len(blocks)))


def _direct_seconds(origin: Origin, blocks: Sequence[int]) -> float:
    begun_ns = time.perf_counter_ns()
    for index in blocks:
        origin.read(index)
    return (time.perf_counter_ns() - begun_ns) / 1e9


def _served_seconds(home: Path, snapshot_id: str, blocks: Sequence[int]) -> float:
    page = memoryview(bytearray(_PAGE))
    with (
        ebsim_volume(home, _volume_of(home, snapshot_id), loads=False) as server,
        _client(server.uri.partition("socket=")[2]) as client,
    ):
        begun_ns = time.perf_counter_ns()
        for index in blocks:
            client.read_into(page, index * _BLOCK)
        return (time.perf_counter_ns() - begun_ns) / 1e9


def hydration(image: Path, folder: Path, runs: int) -> list[Figure]:
    """All of a volume loaded, beside a restore and qemu's streaming of the same disk."""
    seconds: dict[str, list[float]] = {"initialize": [], "restore": [], "block-stream": []}
    with scratch_folder(folder) as scratch:
        home, target, packed = (scratch / name for name in ("home", "restored.img", "packed"))
        _, output = run_measured(ebsim_command(home, "snapshot", "create", image))
        snapshot_id = snapshot_id_of(output)
        options = ["-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd"]
        subprocess.run(["qemu-img", "convert", *options, image, packed], check=True)
        for _ in range(runs):
            seconds["restore"].append(_restore_seconds(home, snapshot_id, target))
            seconds["initialize"].append(_load_seconds(home, snapshot_id))
            seconds["block-stream"].append(_stream_seconds(packed, scratch / "overlay"))
    detail = {f"{name}, seconds": round(median(taken), 2) for name, taken in seconds.items()}
    loads = seconds["initialize"]
    restored = [a / b for a, b in zip(seconds["restore"], loads, strict=True)]
    streamed = [a / b for a, b in zip(seconds["block-stream"], loads, strict=True)]
    return [
        ratio_figure("hydration", restored, HYDRATION_LEAST, detail),
        ratio_figure("hydration_stream", streamed, STREAM_LEAST, detail),
    ]


def _restore_seconds(home: Path, snapshot_id: str, target: Path) -> float:
    usage, _ = run_measured(ebsim_command(home, "restore", snapshot_id, target), sync=home)
    target.unlink()
    sync_file_system(home)
    return usage.wall_seconds


def _load_seconds(home: Path, snapshot_id: str) -> float:
    volume_id = _volume_of(home, snapshot_id)
    load = ebsim_command(home, "volume", "initialize", volume_id, "--wait")
    usage, _ = run_measured(load, sync=home)
    run_measured(ebsim_command(home, "volume", "rm", volume_id), sync=home)
    return usage.wall_seconds


def _stream_seconds(packed: Path, overlay: Path) -> float:
    with streaming_overlay(packed, overlay) as streamer:
        begun_ns = time.perf_counter_ns()
        streamer.stream()
        sync_file_system(packed.parent)
        seconds = (time.perf_counter_ns() - begun_ns) / 1e9
    overlay.unlink()
    return seconds


# What a snapshot costs, and serving


def pauses(key: str, folder: Path, *, volume_count: int, snapshot_count: int = 100) -> Figure:
    """Snapshots of volumes, again and again, while fio writes to all of them."""
    writers, taken = Writers(), list[float]()
    with scratch_folder(folder) as scratch, _region(scratch / "home") as region:
        ids = [
            create_volume(region, VolumeOptions(size_gib=1)).volume_id for _ in range(volume_count)
        ]
        with ExitStack() as stack:
            servers = [
                stack.enter_context(ebsim_volume(scratch / "home", volume_id)) for volume_id in ids
            ]
            with writers.writing(servers, _WRITTEN // volume_count, seconds=3600):
                time.sleep(_SETTLE_SECONDS * volume_count)  # until all of them write
                deadline = time.monotonic() + _SNAPSHOTS_SECONDS
                while len(taken) < snapshot_count and time.monotonic() < deadline:
                    pause = create_snapshot_set(region, ids).pause_seconds
                    taken.append(pause * 1000)
    worst = quantiles(taken, n=100, method="inclusive")[98]
    limit = PAUSE_MS_MAX if volume_count == 1 else SET_PAUSE_MS_MAX
    detail = {
        "snapshots": len(taken),
        "median, ms": round(median(taken), 2),
        "the slowest write of all, ms": round(writers.slowest_ms, 1),
    }
    return Figure(key, taken, worst < limit, f"{worst:.1f} ms", detail)


def serving_memory(folder: Path, seed: int, seconds: float = 5, *, huge: int = HUGE) -> Figure:
    """The peak of a process that serves a huge volume to clients of every kind."""
    loads = [
        Load("randread", _PAGE), Load("randwrite", _PAGE), Load("randwrite", MIB),
        Load("read", MIB), Load("randread", 4 * MIB),
    ]  # fmt: skip
    with scratch_folder(folder) as scratch, _region(scratch / "home") as region:
        snapshot_id, _ = _scattered(region, scratch, huge, seed)
        size_gib = min(_LARGE_GIB, 2 * -(-huge // GIB))
        made = create_volume(region, VolumeOptions(snapshot_id, size_gib))
        detail = {}
        with ebsim_volume(scratch / "home", made.volume_id, loads=False) as server:
            for load in loads:
                load.requests_per_second(server, made.size_bytes, seconds)
                name = f"{load.kind} of {load.block_bytes // KIB} KiB: MiB"
                detail[name] = round(server.peak_bytes / MIB, 1)
            create_snapshot_set(region, [made.volume_id])
            peak = server.peak_bytes / MIB
    return Figure("serving", [peak], peak <= SERVING_MIB_MAX, f"{peak:.0f} MiB", detail)
