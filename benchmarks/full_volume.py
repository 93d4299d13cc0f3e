"""A full volume of two million blocks: what changing, comparing and deleting cost there.

The disk is synthetic and comes in as a stream, since 1 TiB does not fit here; what ebsim
makes of it is what it makes of any disk: a chunk, an index row and a fingerprint for each
of two million different blocks, all through the verbs that the command calls.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

from benchmarks.counted_region import CountedChunks, CountedMetadata, Work, counted
from benchmarks.engine_table import (
    ACKNOWLEDGE_MS_MAX,
    CHUNK_BYTES_MAX,
    DIFF_MS_MAX,
    FILE_SHARE_MAX,
    GROWTH_MAX,
    LEAF_US_MAX,
    METADATA_KIB_MAX,
    PATHS_MAX,
)
from benchmarks.results import (
    Figure,
    forget_peak_memory,
    peak_memory_bytes,
    significant,
)
from benchmarks.scratch import scratch_folder
from benchmarks.synthetic_disk import BLOCK_SIZE, SyntheticDisk
from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.geometry import FAN_OUT, FAN_OUT_BITS
from ebsim.blockmap.node_format import Inner, decode_node
from ebsim.blockmap.stored_nodes import StoredNodes
from ebsim.catalog.manifest import manifest_name
from ebsim.catalog.snapshot import Snapshot
from ebsim.chunkstore.chunk_reader import ChunkReader
from ebsim.chunkstore.reclaim import Reclaimed
from ebsim.cli.settings import DEFAULT_ACCOUNT, DEFAULT_REGION
from ebsim.engine.create_snapshot import create_snapshot_of_stream
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.diff_snapshots import diff_snapshots
from ebsim.engine.region import Region, open_region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.ids import AccountId, Digest
from ebsim.metadata.lmdb_metadata import LmdbMetadata
from ebsim.metadata.transactions import Table
from ebsim.units import KIB, MIB

BLOCK_COUNT = 2**21
LEAF_COUNT_CHANGED = 2000
_DIFF_RUNS = 20


@dataclass(slots=True)
class Taken:
    """A snapshot of the volume, and what taking it took."""

    snapshot: Snapshot
    work: Work
    reads: list[Digest]
    wall_seconds: float
    peak_bytes: int
    live_bytes_before: int
    live_bytes: int
    manifest_bytes: int


@dataclass(slots=True)
class Removed:
    """A deletion: when it was acknowledged, and what it came to."""

    acknowledged_seconds: float
    wall_seconds: float
    work: Work
    reclaimed: Reclaimed

    @property
    def rows_per_chunk(self) -> float:
        return self.work.row_count / self.reclaimed.chunk_count


@dataclass(slots=True)
class FullVolume:
    """The volume under test, in an open region with counters in it."""

    region: Region
    metadata: CountedMetadata
    chunks: CountedChunks
    store: LmdbMetadata
    block_count: int
    block_size: int
    volume_id: str | None = None
    versions: dict[int, int] = field(default_factory=dict)

    def snapshot(self) -> Taken:
        """Take a snapshot of the disk as it is now."""
        disk = SyntheticDisk(self.block_count, self.versions, self.block_size)
        live_bytes_before = self.store.live_bytes()
        self.metadata.take_work()
        self.chunks.take_reads()
        forget_peak_memory()
        begun_ns = time.perf_counter_ns()
        options = SnapshotOptions(block_size=self.block_size)
        snapshot = create_snapshot_of_stream(self.region, disk, self.volume_id, options)
        wall_seconds = (time.perf_counter_ns() - begun_ns) / 1e9
        self.volume_id = snapshot.volume_id
        return Taken(
            snapshot,
            self.metadata.take_work(),
            self.chunks.take_reads(),
            wall_seconds,
            peak_memory_bytes(),
            live_bytes_before,
            self.store.live_bytes(),
            self.region.backend.size_bytes(manifest_name(snapshot.snapshot_id)) or 0,
        )

    def write(self, block_indexes: list[int]) -> None:
        """Change those blocks."""
        for index in block_indexes:
            self.versions[index] = self.versions.get(index, 0) + 1

    def remove(self, *taken: Taken) -> Removed:
        """Delete snapshots; the slowest acknowledgement counts."""
        acknowledged: list[int] = []
        names = [each.snapshot.snapshot_id for each in taken]
        self.metadata.take_work()
        begun_ns = time.perf_counter_ns()
        reclaimed = delete_snapshots(
            self.region, names, lambda _: acknowledged.append(time.perf_counter_ns())
        )
        wall_seconds = (time.perf_counter_ns() - begun_ns) / 1e9
        starts = [begun_ns, *acknowledged[:-1]]
        slowest_ns = max(end - start for start, end in zip(starts, acknowledged, strict=True))
        return Removed(slowest_ns / 1e9, wall_seconds, self.metadata.take_work(), reclaimed)


def full_volume_figures(
    folder: Path,
    seed: int,
    *,
    block_count: int = BLOCK_COUNT,
    leaf_count: int = LEAF_COUNT_CHANGED,
    block_size: int = BLOCK_SIZE,
) -> list[Figure]:
    """All rows about the full volume."""
    random = Random(seed)
    with scratch_folder(folder) as scratch:
        plain = open_region(scratch / "home", DEFAULT_REGION, AccountId(DEFAULT_ACCOUNT))
        region, metadata, chunks = counted(plain)
        assert isinstance(plain.metadata, LmdbMetadata), "the region keeps its rows in LMDB"
        volume = FullVolume(region, metadata, chunks, plain.metadata, block_count, block_size)
        try:
            full = volume.snapshot()
            figures = _index_figures(volume, full)
            changed_block = random.randrange(block_count)
            volume.write([changed_block])
            one = volume.snapshot()
            figures += _one_changed_figures(volume, full, one, changed_block)
            figures.append(_diff_figure(volume, full, one))
            leaves = random.sample(range(block_count // FAN_OUT), leaf_count)
            volume.write([leaf * FAN_OUT + random.randrange(FAN_OUT) for leaf in leaves])
            scattered = volume.snapshot()
            figures += _scattered_figures(one, scattered, leaf_count)
            some = volume.remove(scattered)
            everything = volume.remove(one, full)
            figures += _removal_figures(some, everything)
            return figures
        finally:
            region.close()


def _index_figures(volume: FullVolume, full: Taken) -> list[Figure]:
    store = volume.store
    chunk_count = store.entry_counts()[Table.CHUNKS]
    per_chunk = store.live_bytes() / chunk_count
    share = store.file_bytes() / store.live_bytes()
    detail = {
        "chunks": chunk_count,
        "live_bytes": store.live_bytes(),
        "file_bytes": store.file_bytes(),
        "snapshot_seconds": round(full.wall_seconds, 1),
        "snapshot_transaction_seconds": round(full.work.wall_seconds, 1),
        "snapshot_peak_mib": round(full.peak_bytes / MIB, 1),
    }
    return [
        Figure(
            "index",
            [per_chunk],
            per_chunk <= CHUNK_BYTES_MAX,
            f"{significant(per_chunk)} bytes",
            detail,
        ),
        Figure("index_file", [share], share <= FILE_SHARE_MAX, f"{share:.2f}", detail),
    ]


def _one_changed_figures(
    volume: FullVolume, full: Taken, one: Taken, block_index: int
) -> list[Figure]:
    assert one.snapshot.changed_block_count == 1, "one block was changed"
    growth = max(one.live_bytes - one.live_bytes_before, 0)
    added = one.snapshot.stored_bytes + one.manifest_bytes + growth
    detail = {
        "stored_bytes, nodes and the block": one.snapshot.stored_bytes,
        "manifest_bytes": one.manifest_bytes,
        "live_metadata_growth_bytes": growth,
        "rows_written": one.work.row_count,
        "row_bytes_written": one.work.row_bytes,
        "transactions": one.work.transaction_count,
        "transaction_ms": round(one.work.wall_seconds * 1000, 2),
        "snapshot_seconds": round(one.wall_seconds, 1),
        "peak_mib": round(one.peak_bytes / MIB, 1),
    }
    reads = _reads_by_reason(volume, full, one, block_index)
    # A path to a leaf has as many nodes as the tree has levels.
    paths = reads["beyond the scan"] / reads["levels"]
    return [
        Figure(
            "one_changed",
            [added / KIB],
            added <= METADATA_KIB_MAX * KIB,
            f"{added / KIB:.1f} KiB",
            detail,
        ),
        Figure("one_changed_paths", [paths], paths <= PATHS_MAX, significant(paths), reads),
    ]


def _reads_by_reason(
    volume: FullVolume, full: Taken, one: Taken, block_index: int
) -> dict[str, int]:
    """Sort the nodes read while *one* was taken by why they were read.

    The scan reads every inner node of the parent once, to know its leaves, and the leaf of
    each block whose fingerprint is put to the test.
    """
    plain = ChunkReader(volume.region.backend, volume.store)
    parent = BlockMap(_root(full), StoredNodes(plain))
    changed_leaf = parent.leaf_digest(block_index >> FAN_OUT_BITS)
    inner_nodes = {
        digest
        for digest in set(one.reads)
        if isinstance(decode_node(bytes(plain.read(digest))), Inner)
    }
    sampled = [d for d in one.reads if d not in inner_nodes and d != changed_leaf]
    return {
        "nodes read": len(one.reads),
        "inner nodes walked by the scan": len(inner_nodes),
        "leaves read to test fingerprints": len(sampled),
        "beyond the scan": len(one.reads) - len(inner_nodes) - len(sampled),
        "levels": parent.root_node.level + 1,
    }


def _root(taken: Taken) -> Digest:
    assert taken.snapshot.root is not None, "the snapshot is completed"
    return taken.snapshot.root


def _diff_figure(volume: FullVolume, full: Taken, one: Taken) -> Figure:
    """The comparison; its two transactions, which hold the roots meanwhile, by themselves."""
    names = full.snapshot.snapshot_id, one.snapshot.snapshot_id
    walk_ms, transaction_ms, node_count = [], [], 0
    for _ in range(_DIFF_RUNS):
        volume.chunks.take_reads()
        volume.metadata.take_work()
        begun_ns = time.perf_counter_ns()
        differences = list(diff_snapshots(volume.region, *names))
        whole_ms = (time.perf_counter_ns() - begun_ns) / 1e6
        transaction_ms.append(volume.metadata.take_work().wall_seconds * 1000)
        walk_ms.append(whole_ms - transaction_ms[-1])
        node_count = len(volume.chunks.take_reads())
        assert len(differences) == 1, "one block differs"
    middle = median(walk_ms)
    detail = {"nodes_read": node_count, "transactions_ms": round(median(transaction_ms), 2)}
    shown = f"{significant(middle)} ms, {node_count} nodes"
    return Figure("diff", walk_ms, middle < DIFF_MS_MAX, shown, detail)


def _scattered_figures(one: Taken, scattered: Taken, leaf_count: int) -> list[Figure]:
    """What many changed leaves cost beyond one: transactions a leaf, and memory."""
    assert scattered.snapshot.changed_block_count == leaf_count, "a block in each leaf"
    processor_us = scattered.work.processor_seconds * 1e6 / leaf_count
    wall_us = scattered.work.wall_seconds * 1e6 / leaf_count
    growth = scattered.peak_bytes / one.peak_bytes
    detail = {
        "wall_us_per_leaf": round(wall_us, 1),
        "transactions": scattered.work.transaction_count,
        "rows_written": scattered.work.row_count,
        "snapshot_seconds": round(scattered.wall_seconds, 1),
        "peak_mib": round(scattered.peak_bytes / MIB, 1),
    }
    return [
        Figure(
            "scattered",
            [processor_us],
            processor_us <= LEAF_US_MAX,
            f"{significant(processor_us)} µs",
            detail,
        ),
        Figure("scattered_memory", [growth], growth <= GROWTH_MAX, f"{growth:.2f}", detail),
    ]


def _removal_figures(some: Removed, everything: Removed) -> list[Figure]:
    acknowledged_ms = everything.acknowledged_seconds * 1000
    growth = everything.rows_per_chunk / some.rows_per_chunk
    detail: dict[str, float] = {}
    for name, removed in (("some", some), ("everything", everything)):
        detail |= {
            f"{name}: acknowledged_ms": round(removed.acknowledged_seconds * 1000, 1),
            f"{name}: seconds": round(removed.wall_seconds, 2),
            f"{name}: chunks_freed": removed.reclaimed.chunk_count,
            f"{name}: nodes_freed": removed.reclaimed.node_count,
            f"{name}: rows": removed.work.row_count,
            f"{name}: transactions": removed.work.transaction_count,
        }
    return [
        Figure(
            "remove",
            [acknowledged_ms],
            acknowledged_ms < ACKNOWLEDGE_MS_MAX,
            f"{significant(acknowledged_ms)} ms",
            detail,
        ),
        Figure("remove_work", [growth], growth <= GROWTH_MAX, f"{growth:.2f}", detail),
    ]
