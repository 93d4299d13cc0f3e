"""Content-defined chunks of all images: cutting them, and counting what they have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ebsim.analysis.content_chunks import (
    AVERAGE_SIZES,
    ChunkNotes,
    SpanTask,
    chunk_span,
    read_chunk_notes,
)
from ebsim.analysis.executors import Workers
from ebsim.analysis.images import Image
from ebsim.analysis.part_folder import PartFolder
from ebsim.analysis.scanning import Skipped, run_all
from ebsim.analysis.sharing import DIGEST_COLUMNS, digest_ranges, rows_of, rows_per_range
from ebsim.analysis.store_cost import StoreCost, store_cost
from ebsim.progress import Progress
from ebsim.units import GIB

SPAN_SIZE = 16 * GIB
"""What is cut at once of an image: 20 MiB of rows, if all of it is data."""


@dataclass(frozen=True, slots=True)
class ChunkedResult:
    """What holds for content-defined chunks of one average.

    Attributes:
        average_size: What was asked for; see ``mean_size``.
        chunk_count: Chunks that are not zeros, of all images.
        distinct_count: Different ones among them.
        zero_bytes: Bytes in chunks that are all zeros, holes included.
        repeated_within_bytes: Chunks that their own image has already.
        repeated_across_bytes: Chunks that are new to their own image, and that another has.
        unique_bytes: The different chunks, each once, not compressed.
        cost: What a store needs beside that.
    """

    average_size: int
    chunk_count: int
    distinct_count: int
    zero_bytes: int
    repeated_within_bytes: int
    repeated_across_bytes: int
    unique_bytes: int
    cost: StoreCost

    @property
    def mean_size(self) -> int:
        """How long the chunks are that are not zeros: FastCDC exceeds what it is asked for."""
        kept_bytes = self.repeated_within_bytes + self.repeated_across_bytes + self.unique_bytes
        return kept_bytes // max(1, self.chunk_count)

    @property
    def uncompressed_bytes(self) -> int:
        """What a store with a list of chunks for each image would need, without compression."""
        return self.unique_bytes + self.cost.list_total_bytes


def chunk_all(
    images: Sequence[Image],
    folder: PartFolder,
    workers: Workers,
    *,
    keep_going: bool,
    progress: Progress,
    span_size: int = SPAN_SIZE,
) -> Skipped:
    """Cut what of *images* has no chunks in *folder* yet: first all their first spans.

    A span begins where the one before it ended, so those of one image follow each other.

    Returns, Raises:
        As ``scan_all``.
    """
    skipped: Skipped = {}
    progress.begin("cutting by content", sum(image.size_bytes for image in images))

    longest = max((image.size_bytes for image in images), default=0)
    starts = {image.name: (0,) * len(AVERAGE_SIZES) for image in images}
    for start in range(0, longest, span_size):
        tasks = []
        for image in images:
            if image.size_bytes <= start or image.name in skipped:
                continue
            stop = min(start + span_size, image.size_bytes)
            notes = _notes(folder.chunks_path(image, start, stop))
            if notes is None:
                tasks.append(SpanTask(image, starts[image.name], stop))
                continue
            starts[image.name] = tuple(notes.ends)
            progress.advance(stop - start)
        for task, result in run_all(chunk_span, tasks, workers):
            if result.failure is None:
                path = folder.chunks_path(task.image, start, task.stop)
                folder.write(path, result.parquet)
                starts[task.image.name] = tuple(_whole_notes(path).ends)
            else:
                kind, message = result.failure
                if not keep_going:
                    raise kind(message)
                skipped[task.image.name] = message
            progress.advance(task.stop - start)
    progress.end()
    return skipped


def _notes(path: Path) -> ChunkNotes | None:
    return read_chunk_notes(path) if path.exists() else None


def _whole_notes(path: Path) -> ChunkNotes:
    notes = read_chunk_notes(path)
    assert notes is not None, "the chunks were written"
    return notes


def count_chunks(
    images: Sequence[Image], folder: PartFolder, *, span_size: int = SPAN_SIZE
) -> list[ChunkedResult]:
    """Count the chunks of *images*, by rising average.

    Memory and cost: as ``count_sharing``, by the number of chunks.
    """
    paths = [
        [
            folder.chunks_path(image, start, min(start + span_size, image.size_bytes))
            for start in range(0, image.size_bytes, span_size)
        ]
        for image in images
    ]
    notes = [list(map(_whole_notes, own)) for own in paths]
    return [
        _counted(
            paths,
            average_size,
            [sum(span.counts[place] for span in own) for own in notes],
            sum(span.zero_bytes[place] for own in notes for span in own),
        )
        for place, average_size in enumerate(AVERAGE_SIZES)
    ]


def _counted(
    paths: Sequence[Sequence[Path]],
    average_size: int,
    chunk_counts: Sequence[int],
    zero_bytes: int,
) -> ChunkedResult:
    row_count = sum(chunk_counts)
    all_bytes = own_bytes = unique_bytes = distinct_count = 0
    for digests in digest_ranges(row_count, rows_per_range(row_count)):
        rows = [
            rows_of(own_paths, [average_size], digests).select(
                *DIGEST_COLUMNS,
                pl.col("size_bytes").cast(pl.Int64),
                pl.lit(place, dtype=pl.UInt32).alias("image"),
            )
            for place, own_paths in enumerate(paths)
        ]
        own = (
            pl.concat(rows)
            .group_by(*DIGEST_COLUMNS, "image")
            .agg(pl.col("size_bytes").first(), pl.len().cast(pl.Int64).alias("count"))
            .collect(engine="streaming")
        )
        distinct = own.group_by(DIGEST_COLUMNS).agg(pl.col("size_bytes").first())
        all_bytes += int((own["size_bytes"] * own["count"]).sum())
        own_bytes += int(own["size_bytes"].sum())
        unique_bytes += int(distinct["size_bytes"].sum())
        distinct_count += distinct.height
    return ChunkedResult(
        average_size,
        row_count,
        distinct_count,
        zero_bytes,
        all_bytes - own_bytes,
        own_bytes - unique_bytes,
        unique_bytes,
        store_cost(distinct_count, chunk_counts, [None] * len(chunk_counts)),
    )
