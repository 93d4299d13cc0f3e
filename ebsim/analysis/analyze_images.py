"""The analysis of some images: scan them once, then count what was found."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ebsim.analysis.block_digests import BLOCK_SIZES
from ebsim.analysis.chunk_counting import ChunkedResult, chunk_all, count_chunks
from ebsim.analysis.compression_estimate import Estimate, estimate_payload, filled_estimates
from ebsim.analysis.compression_sample import (
    StoredBlock,
    compress_sample,
    compression_tasks,
    sample_shares,
)
from ebsim.analysis.executors import Workers
from ebsim.analysis.images import Image
from ebsim.analysis.layout import lay_out
from ebsim.analysis.neighbours import (
    NeighbourChange,
    changed_blocks,
    comparison_tasks,
    differing_bytes,
)
from ebsim.analysis.part_folder import PartFolder, part_folder, part_paths
from ebsim.analysis.parts import PartNotes
from ebsim.analysis.results import Analysis, SizeResult
from ebsim.analysis.scanning import default_thread_count, piece_tasks, run_all, scan_all
from ebsim.analysis.sharing import Sharing, count_sharing
from ebsim.analysis.store_cost import recommend, smooth_payload, store_cost
from ebsim.errors import SourceUnusable
from ebsim.progress import Progress, Unwatched

LEVELS_DEFAULT = (1,)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisOptions:
    """How to analyse.

    Attributes:
        levels: The zstd levels to compress a sample at.
        workers: What scans; threads of this process, one a processor, by default.
        parts: Where to keep the parts, so that an interrupted analysis goes on from them.
        compress_all: Compress every different block, not a sample.
        keep_going: Leave out images that cannot be read.
        cdc: Cut the images by content as well, reading each a second time.
        run: Tells this run from others, for images that nothing tells apart by their state.
    """

    levels: Sequence[int] = LEVELS_DEFAULT
    workers: Workers | None = None
    parts: Path | None = None
    compress_all: bool = False
    keep_going: bool = False
    cdc: bool = False
    run: str = ""


Then = Callable[[Sequence[Image], Sequence[Sequence[Path]]], None]
"""What else to do with the images' parts before they go: exporting them, say."""


def analyze_images(
    images: Sequence[Image],
    options: AnalysisOptions | None = None,
    *,
    progress: Progress | None = None,
    then: Then | None = None,
) -> Analysis:
    """Analyse *images*, reading each once, and a thousandth of it again to compress.

    Memory: some 200 MiB, 1 GiB for a terabyte; on the disk for temporary files 64 bytes for
    each 4 KiB that is not zeros.

    Raises:
        SourceUnusable, IntegrityError, ...: an image cannot be read or changed meanwhile;
            with ``keep_going``, no image can be read.
        OSError: there is no room for the parts.
    """
    options = options or AnalysisOptions()
    progress = progress or Unwatched()
    tasks = piece_tasks(images)
    with part_folder(options.parts, options.run) as folder, _workers(options) as workers:
        skipped = scan_all(
            tasks,
            folder,
            workers,
            keep_going=options.keep_going,
            progress=progress,
        )
        kept = [image for image in images if image.name not in skipped]
        if options.cdc:
            skipped |= chunk_all(
                kept, folder, workers, keep_going=options.keep_going, progress=progress
            )
            kept = [image for image in kept if image.name not in skipped]
        if not kept:
            raise SourceUnusable(next(iter(skipped.values()), "There is no image to analyse."))
        paths = part_paths(folder, tasks, kept)
        scanned = _Scanned(kept, paths, _all_notes(folder, paths))
        count = _Count(scanned, options, workers, progress)
        chunked = count_chunks(kept, folder) if options.cdc else []
        analysis = count.analysis(skipped, chunked)
        if then is not None:
            then(kept, paths)
    return analysis


@contextmanager
def _workers(options: AnalysisOptions) -> Iterator[Workers]:
    if options.workers is not None:
        yield options.workers
        return
    count = default_thread_count()
    with ThreadPoolExecutor(count, "analyze") as pool:
        yield Workers(pool, count + 1)


@dataclass(frozen=True, slots=True)
class _Scanned:
    """The images that were scanned, and their parts."""

    images: Sequence[Image]
    paths: Sequence[Sequence[Path]]
    notes: Sequence[Sequence[PartNotes]]

    def block_counts(self, level: int) -> list[int]:
        """Blocks that are not zeros, by image."""
        return [sum(part.blocks[level][0] for part in parts) for parts in self.notes]

    def zero_bytes(self, level: int) -> int:
        """The bytes of blocks that are zeros; a disk's last block is as long as it is."""
        size, total = BLOCK_SIZES[level], 0
        for image, parts in zip(self.images, self.notes, strict=True):
            count = sum(part.blocks[level][0] for part in parts)
            highest = max((part.blocks[level][1] for part in parts), default=-1)
            past_end = max(0, (highest + 1) * size - image.size_bytes)
            total += image.size_bytes - count * size + past_end
        return total

    def hole_bytes(self) -> int:
        """What is known to be zeros without being read."""
        return sum(part.hole_bytes for parts in self.notes for part in parts)


def _all_notes(folder: PartFolder, paths: Sequence[Sequence[Path]]) -> list[list[PartNotes]]:
    found = [[folder.notes(path) for path in parts] for parts in paths]
    assert all(notes is not None for parts in found for notes in parts), "all parts were made"
    return [[notes for notes in parts if notes is not None] for parts in found]


class _Count:
    """The counting, once all is scanned."""

    def __init__(
        self, scanned: _Scanned, options: AnalysisOptions, workers: Workers, progress: Progress
    ) -> None:
        self._scanned = scanned
        self._options = options
        self._workers = workers
        self._progress = progress

    def analysis(self, skipped: Mapping[str, str], chunked: Sequence[ChunkedResult]) -> Analysis:
        """All there is to know."""
        scanned = self._scanned
        changes = list(self._changes())
        self._progress.begin("counting", None)
        counted = {size: scanned.block_counts(level) for level, size in enumerate(BLOCK_SIZES)}
        sharings = count_sharing(scanned.paths, counted)
        self._progress.end()
        sizes = self._sizes(sharings, self._payloads(sharings), changes)
        store_bytes = smooth_payload(
            {result.block_size: result.unique_bytes for result in sizes},
            {result.block_size: result.payload[self._options.levels[0]] for result in sizes},
        )
        for result in sizes:
            store_bytes[result.block_size] += result.cost.total_bytes
        recommendation = recommend(
            store_bytes, {size: sharing.distinct_count for size, sharing in sharings.items()}
        )
        chosen = recommendation.block_size
        row_count = sharings[chosen].block_count
        return Analysis(
            scanned.images,
            sum(image.size_bytes for image in scanned.images),
            scanned.hole_bytes(),
            tuple(self._options.levels),
            sizes,
            changes,
            lay_out(scanned.images, scanned.paths, chosen, row_count),
            recommendation,
            dict(skipped),
            chunked,
        )

    def _changes(self) -> Iterator[NeighbourChange]:
        """Yield how each image of a series differs from the one before it."""
        scanned, workers = self._scanned, self._workers
        self._progress.begin("comparing neighbours", None)
        for before, after in _neighbours(scanned.images):
            first, second = scanned.images[before], scanned.images[after]
            changed = changed_blocks(scanned.paths[before], scanned.paths[after])
            tasks = comparison_tasks(first, second, changed)
            total = 0
            for task, count in run_all(differing_bytes, tasks, workers):
                total += count
                self._progress.advance(task.size_bytes)
            yield NeighbourChange(
                first.name, second.name, changed.block_counts, changed.leaf_counts(), total
            )
        self._progress.end()

    def _payloads(self, sharings: Mapping[int, Sharing]) -> dict[int, Mapping[int, Estimate]]:
        """What the different blocks of each size are compressed to."""
        levels, workers = self._options.levels, self._workers
        shares = {
            size: sample_shares(0 if self._options.compress_all else sharing.distinct_count, size)
            for size, sharing in sharings.items()
        }
        tasks = compression_tasks(self._scanned.images, self._scanned.paths, shares, levels)
        self._progress.begin("compressing", None)
        sampled: dict[int, list[StoredBlock]] = {size: [] for size in BLOCK_SIZES}
        for task, found in run_all(compress_sample, tasks, workers):
            for block in found:
                sampled[block.block_size].append(block)
            self._progress.advance(task.size_bytes)
        self._progress.end()
        estimates = {
            size: estimate_payload(sampled[size], sharing.distinct_count, levels)
            for size, sharing in sharings.items()
        }
        distinct = {size: sharing.distinct_count * size for size, sharing in sharings.items()}
        return filled_estimates(estimates, distinct)

    def _sizes(
        self,
        sharings: Mapping[int, Sharing],
        payloads: Mapping[int, Mapping[int, Estimate]],
        changes: Sequence[NeighbourChange],
    ) -> list[SizeResult]:
        changed_leaves = {change.second: change.leaf_counts for change in changes}
        return [
            SizeResult(
                size,
                self._scanned.zero_bytes(level),
                sharings[size],
                payloads[size],
                store_cost(
                    sharings[size].distinct_count,
                    self._scanned.block_counts(level),
                    [changed_leaves.get(i.name, {}).get(size) for i in self._scanned.images],
                ),
            )
            for level, size in enumerate(BLOCK_SIZES)
        ]


def _neighbours(images: Sequence[Image]) -> list[tuple[int, int]]:
    """The places of the images that follow each other in a series."""
    series: dict[str, list[int]] = {}
    for place, image in enumerate(images):
        if image.series:
            series.setdefault(image.series, []).append(place)
    return [pair for places in series.values() for pair in pairwise(places)]
