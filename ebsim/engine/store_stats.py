"""What a region's store holds, and what deduplication and compression save.

Cost: a row and a ``stat`` for each pack, a row for each snapshot; no chunk is looked at.

Ratios are of bytes, and multiply: what the snapshots' blocks are long, over what they
would take compressed and never shared, over what is stored.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ebsim.catalog.snapshot import SnapshotState, decode_snapshot
from ebsim.chunkstore.rows import decode_pack
from ebsim.engine.compact_store import occupied_bytes
from ebsim.engine.recovery import interrupted_uploads
from ebsim.engine.region import Region
from ebsim.metadata.lmdb_metadata import LmdbMetadata
from ebsim.metadata.transactions import Row, Table

_ROWS_PER_STEP = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """What a region's store holds, of all accounts.

    Attributes:
        pack_bytes: The lengths of all packs, holes included.
        occupied_bytes: What they take on the device.
        live_bytes: The records in them that something needs, or that wait to be freed.
        chunk_count: Blocks and nodes.
        archive_count: Snapshots that are archived, those restored for a time included.
        archive_bytes: The lengths of their packs, which are in none of the other figures.
        logical_bytes: The present blocks of all completed snapshots that are not archived,
            as long as they are when they are read.
        referenced_bytes: The records of those blocks, each as often as it is referred to.
        metadata_live_bytes: The metadata's pages in use.
        metadata_file_bytes: Its file, free pages included.
        interrupted_upload_count: Snapshots that broke off, kept for the next to go on from.
        damaged_chunk_count: Chunks known to be damaged.
        queued_chunk_count: Chunks that wait to be freed.
        queued_manifest_count: Manifests that wait to be written or unlinked.
    """

    pack_count: int
    pack_bytes: int
    occupied_bytes: int
    live_bytes: int
    chunk_count: int
    node_count: int
    snapshot_count: int
    archive_count: int
    archive_bytes: int
    volume_count: int
    logical_bytes: int
    referenced_bytes: int
    metadata_live_bytes: int
    metadata_file_bytes: int
    interrupted_upload_count: int
    damaged_chunk_count: int
    queued_chunk_count: int
    queued_manifest_count: int

    @property
    def block_count(self) -> int:
        """Unique blocks."""
        return self.chunk_count - self.node_count

    @property
    def wasted_bytes(self) -> int:
        """What packs occupy beside live records: dead ones, footers, unfilled pages."""
        return max(0, self.occupied_bytes - self.live_bytes)

    @property
    def compression_ratio(self) -> float | None:
        """How many times longer blocks are than their records; ``None`` without blocks."""
        return self.logical_bytes / self.referenced_bytes if self.referenced_bytes else None

    @property
    def deduplication_ratio(self) -> float | None:
        """How many times a stored byte is used; nodes count as stored."""
        if not self.live_bytes or not self.referenced_bytes:
            return None
        return self.referenced_bytes / self.live_bytes

    @property
    def saving_ratio(self) -> float | None:
        """Both ratios multiplied."""
        if not self.live_bytes or not self.referenced_bytes:
            return None
        return self.logical_bytes / self.live_bytes

    @property
    def metadata_bytes_per_chunk(self) -> float | None:
        """``None`` without chunks."""
        return self.metadata_live_bytes / self.chunk_count if self.chunk_count else None


def store_stats(region: Region) -> StoreStats:
    """Count what the store holds.  Others may be at work: figures are of nearly one moment."""
    metadata = region.metadata
    assert isinstance(metadata, LmdbMetadata), "an open region keeps its metadata in LMDB"
    counts = metadata.entry_counts()
    pack_bytes = live_bytes = 0
    for _, value in _rows(region, Table.PACKS):
        pack = decode_pack(value)
        pack_bytes += pack.size_bytes
        live_bytes += pack.live_bytes
    snapshot_count = logical_bytes = referenced_bytes = archive_count = archive_bytes = 0
    for _, value in _rows(region, Table.SNAPSHOTS):
        snapshot = decode_snapshot(value)
        if snapshot.state is SnapshotState.COMPLETED:
            snapshot_count += 1
        if snapshot.archive is not None:
            archive_count += 1
            archive_bytes += snapshot.archive.size_bytes
        if snapshot.is_readable:
            logical_bytes += snapshot.block_count * snapshot.block_size
            referenced_bytes += snapshot.referenced_bytes
    return StoreStats(
        pack_count=counts[Table.PACKS],
        pack_bytes=pack_bytes,
        occupied_bytes=occupied_bytes(region),
        live_bytes=live_bytes,
        chunk_count=counts[Table.CHUNKS],
        node_count=counts[Table.NODES],
        snapshot_count=snapshot_count,
        archive_count=archive_count,
        archive_bytes=archive_bytes,
        volume_count=counts[Table.VOLUMES],
        logical_bytes=logical_bytes,
        referenced_bytes=referenced_bytes,
        metadata_live_bytes=metadata.live_bytes(),
        metadata_file_bytes=metadata.file_bytes(),
        interrupted_upload_count=len(metadata.read(interrupted_uploads)),
        damaged_chunk_count=counts[Table.DAMAGED],
        queued_chunk_count=counts[Table.RECLAIM],
        queued_manifest_count=counts[Table.MANIFEST_TASKS],
    )


def _rows(region: Region, table: Table) -> Iterator[Row]:
    """Yield all rows of *table*, a bounded number of them at a time."""
    start = b""
    while True:
        rows = region.metadata.read(
            lambda reader: reader.scan(table, start, limit=_ROWS_PER_STEP)  # noqa: B023 (called at once)
        )
        yield from rows
        if len(rows) < _ROWS_PER_STEP:
            return
        start = rows[-1][0] + b"\0"
