"""Printing what ``store stats`` counts and what ``store compact`` gives back."""

from ebsim.cli.messages import counted, printable, say
from ebsim.cli.output import print_fields, print_json
from ebsim.cli.settings import Settings
from ebsim.engine.compact_store import CompactionReport
from ebsim.engine.store_stats import StoreStats
from ebsim.errors import IntegrityError
from ebsim.units import format_size


def print_stats(settings: Settings, stats: StoreStats) -> None:
    """Print what a store holds."""
    if settings.wants_json:
        print_json(_stats_document(stats))
        return
    snapshots = counted(stats.snapshot_count, "snapshot")
    packs = counted(stats.pack_count, "pack")
    fields = {
        "holds": f"{snapshots} of {counted(stats.volume_count, 'volume')}",
        "their blocks": format_size(stats.logical_bytes),
        "compressed": f"{format_size(stats.referenced_bytes)}{_times(stats.compression_ratio)}",
        "stored once": f"{format_size(stats.live_bytes)}{_times(stats.deduplication_ratio)}",
        "on the disk": f"{format_size(stats.occupied_bytes)} in {packs}",
        "metadata": f"{format_size(stats.metadata_file_bytes)}, "
        f"{format_size(stats.metadata_live_bytes)} of it in use",
        "saved": "nothing yet" if not stats.saving_ratio else f"{stats.saving_ratio:.2f} times",
        "unique blocks": str(stats.block_count),
        "map nodes": str(stats.node_count),
    }
    if stats.archive_count:
        archived = counted(stats.archive_count, "snapshot")
        fields["archived"] = f"{archived}, {format_size(stats.archive_bytes)}"
    waiting = {
        "interrupted snapshots": stats.interrupted_upload_count,
        "damaged chunks": stats.damaged_chunk_count,
        "chunks to free": stats.queued_chunk_count,
        "manifests to write": stats.queued_manifest_count,
    }
    print_fields(fields | {name: str(count) for name, count in waiting.items() if count})


def print_compaction(settings: Settings, report: CompactionReport) -> None:
    """Print what compaction did, or would do.

    Raises:
        IntegrityError: damaged records stay where they were.
    """
    if settings.wants_json:
        print_json(_compaction_document(report))
    else:
        prefix = "would " if report.is_dry_run else ""
        moved = f"{counted(report.moved_count, 'chunk')}, {format_size(report.moved_bytes)}"
        uploads = counted(report.interrupted_upload_count, "interrupted snapshot")
        print_fields(
            {
                f"{prefix}free": format_size(report.freed_bytes),
                f"{prefix}rewrite": counted(report.rewritten_pack_count, "pack"),
                f"{prefix}move": moved,
                f"{prefix}let go": uploads,
            }
        )
    for damage in report.damage:
        say(f"{damage.pack_name}, byte {damage.offset_bytes}: {printable(damage.found)}")
    if report.damage:
        raise IntegrityError(
            f"damaged: {counted(len(report.damage), 'record')}, not moved. The others were. "
            "Run 'ebsim store check --read-data --repair'."
        )


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f", {ratio:.2f} times less"


def _stats_document(stats: StoreStats) -> dict[str, object]:
    return {
        "SnapshotCount": stats.snapshot_count,
        "VolumeCount": stats.volume_count,
        "LogicalBytes": stats.logical_bytes,
        "ReferencedBytes": stats.referenced_bytes,
        "LiveBytes": stats.live_bytes,
        "OccupiedBytes": stats.occupied_bytes,
        "WastedBytes": stats.wasted_bytes,
        "ArchivedSnapshotCount": stats.archive_count,
        "ArchivedBytes": stats.archive_bytes,
        "PackBytes": stats.pack_bytes,
        "PackCount": stats.pack_count,
        "ChunkCount": stats.chunk_count,
        "BlockCount": stats.block_count,
        "NodeCount": stats.node_count,
        "CompressionRatio": stats.compression_ratio,
        "DeduplicationRatio": stats.deduplication_ratio,
        "SavingRatio": stats.saving_ratio,
        "MetadataLiveBytes": stats.metadata_live_bytes,
        "MetadataFileBytes": stats.metadata_file_bytes,
        "MetadataBytesPerChunk": stats.metadata_bytes_per_chunk,
        "InterruptedSnapshotCount": stats.interrupted_upload_count,
        "DamagedChunkCount": stats.damaged_chunk_count,
        "QueuedChunkCount": stats.queued_chunk_count,
        "QueuedManifestCount": stats.queued_manifest_count,
    }


def _compaction_document(report: CompactionReport) -> dict[str, object]:
    return {
        "DryRun": report.is_dry_run,
        "FreedBytes": report.freed_bytes,
        "RewrittenPackCount": report.rewritten_pack_count,
        "MovedChunkCount": report.moved_count,
        "MovedBytes": report.moved_bytes,
        "InterruptedSnapshotCount": report.interrupted_upload_count,
        "OccupiedBytesBefore": report.occupied_bytes_before,
        "OccupiedBytesAfter": report.occupied_bytes_after,
        "Damage": [
            {
                "Digest": None if damage.digest is None else damage.digest.hex(),
                "Pack": damage.pack_name,
                "OffsetBytes": damage.offset_bytes,
                "Found": damage.found,
            }
            for damage in report.damage
        ],
    }
