"""The analysis of some images: scan them once, then count what was found."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ebsim.analysis.block_digests import BLOCK_SIZES
from ebsim.analysis.compression_estimate import (
    ALL_SAMPLED,
    Estimate,
    estimate_payload,
    sample_limits,
)
from ebsim.analysis.images import Image
from ebsim.analysis.layout import lay_out
from ebsim.analysis.neighbours import (
    NeighbourChange,
    changed_blocks,
    comparison_tasks,
    differing_bytes,
)
from ebsim.analysis.part_folder import PartFolder, part_folder, part_paths
from ebsim.analysis.parts import PartNotes, Sample
from ebsim.analysis.results import Analysis, SizeResult
from ebsim.analysis.scanning import (
    Skipped,
    default_thread_count,
    piece_tasks,
    run_all,
    scan_all,
)
from ebsim.analysis.sharing import Sharing, count_sharing
from ebsim.analysis.store_cost import recommend, store_cost
from ebsim.errors import SourceUnusable
from ebsim.progress import Progress, Unwatched

LEVELS_DEFAULT = (1, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisOptions:
    """How to analyse.

    Attributes:
        levels: The zstd levels to compress a sample at.
        executor: What scans; threads of this process, one a processor, by default.
        in_flight_max: How many pieces *executor* is given at once.
        parts: Where to keep the parts, so that an interrupted analysis goes on from them.
        compress_all: Compress every block, not a sample.
        keep_going: Leave out images that cannot be read.
        run: Tells this run from others, for images that nothing tells apart by their state.
    """

    levels: Sequence[int] = LEVELS_DEFAULT
    executor: Executor | None = None
    in_flight_max: int | None = None
    parts: Path | None = None
    compress_all: bool = False
    keep_going: bool = False
    run: str = ""


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

    def samples(self) -> Iterator[Sample]:
        for parts in self.notes:
            for part in parts:
                yield from part.samples


Then = Callable[[Sequence[Image], Sequence[Sequence[Path]]], None]
"""What else to do with the images' parts before they go: exporting them, say."""


def analyze_images(
    images: Sequence[Image],
    options: AnalysisOptions | None = None,
    *,
    progress: Progress | None = None,
    then: Then | None = None,
) -> Analysis:
    """Analyse *images*, reading each once.

    Memory: some 150 MiB, whatever the images' sizes; on the disk for temporary files 64
    bytes for each 4 KiB that is not zeros.

    Raises:
        SourceUnusable, IntegrityError, ...: an image cannot be read or changed meanwhile;
            with ``keep_going``, no image can be read.
        OSError: there is no room for the parts.
    """
    options = options or AnalysisOptions()
    progress = progress or Unwatched()
    limits = ALL_SAMPLED
    if not options.compress_all:
        limits = sample_limits(sum(image.size_bytes for image in images))
    tasks = piece_tasks(images, options.levels, limits)
    with part_folder(options.parts, options.run) as folder, _executor(options) as (pool, many):
        skipped = scan_all(
            tasks,
            folder,
            pool,
            in_flight_max=many,
            keep_going=options.keep_going,
            progress=progress,
        )
        kept = [image for image in images if image.name not in skipped]
        if not kept:
            raise SourceUnusable(next(iter(skipped.values()), "There is no image to analyse."))
        paths = part_paths(folder, tasks, kept)
        scanned = _Scanned(kept, paths, _all_notes(folder, paths))
        changes = list(_changes(scanned, pool, many, progress))
        analysis = _count(scanned, changes, options.levels, skipped, progress)
        if then is not None:
            then(kept, paths)
    return analysis


@contextmanager
def _executor(options: AnalysisOptions) -> Iterator[tuple[Executor, int]]:
    """The executor to use, and how many tasks to give it at once."""
    if options.executor is not None:
        yield options.executor, options.in_flight_max or 2 * default_thread_count()
        return
    count = default_thread_count()
    with ThreadPoolExecutor(count, "analyze") as pool:
        yield pool, count + 1


def _all_notes(folder: PartFolder, paths: Sequence[Sequence[Path]]) -> list[list[PartNotes]]:
    found = [[folder.notes(path) for path in parts] for parts in paths]
    assert all(notes is not None for parts in found for notes in parts), "all parts were made"
    return [[notes for notes in parts if notes is not None] for parts in found]


def _changes(
    scanned: _Scanned, executor: Executor, in_flight_max: int, progress: Progress
) -> Iterator[NeighbourChange]:
    """Yield how each image of a series differs from the one before it."""
    progress.begin("comparing neighbours", None)
    for before, after in _neighbours(scanned.images):
        first, second = scanned.images[before], scanned.images[after]
        changed = changed_blocks(scanned.paths[before], scanned.paths[after])
        tasks = comparison_tasks(first, second, changed)
        total = 0
        for task, count in run_all(differing_bytes, tasks, executor, in_flight_max):
            total += count
            progress.advance(task.size_bytes)
        yield NeighbourChange(
            first.name, second.name, changed.block_counts, changed.leaf_counts(), total
        )
    progress.end()


def _neighbours(images: Sequence[Image]) -> list[tuple[int, int]]:
    """The places of the images that follow each other in a series."""
    series: dict[str, list[int]] = {}
    for place, image in enumerate(images):
        if image.series:
            series.setdefault(image.series, []).append(place)
    return [pair for places in series.values() for pair in pairwise(places)]


def _count(
    scanned: _Scanned,
    changes: Sequence[NeighbourChange],
    levels: Sequence[int],
    skipped: Skipped,
    progress: Progress,
) -> Analysis:
    samples: dict[int, list[Sample]] = {size: [] for size in BLOCK_SIZES}
    for sample in scanned.samples():
        samples[sample.block_size].append(sample)
    changed_leaves = {change.second: change.leaf_counts for change in changes}
    progress.begin("counting", None)
    sharings, payloads = [], []
    for level, size in enumerate(BLOCK_SIZES):
        sharing = count_sharing(scanned.paths, size, scanned.block_counts(level))
        sharings.append(sharing)
        payloads.append(estimate_payload(samples[size], sharing.distinct_count, levels))
    sizes = [
        SizeResult(
            size,
            scanned.zero_bytes(level),
            sharings[level],
            _filled(payloads, level, sharings),
            store_cost(
                sharings[level].distinct_count,
                scanned.block_counts(level),
                [changed_leaves.get(image.name, {}).get(size) for image in scanned.images],
            ),
        )
        for level, size in enumerate(BLOCK_SIZES)
    ]
    recommendation = recommend(
        {result.block_size: result.store_bytes(levels[0]) for result in sizes},
        {result.block_size: result.sharing.distinct_count for result in sizes},
    )
    chosen = BLOCK_SIZES.index(recommendation.block_size)
    layouts = lay_out(
        scanned.images,
        scanned.paths,
        recommendation.block_size,
        sharings[chosen].block_count,
    )
    progress.end()
    return Analysis(
        scanned.images,
        sum(image.size_bytes for image in scanned.images),
        sum(part.hole_bytes for parts in scanned.notes for part in parts),
        tuple(levels),
        sizes,
        changes,
        layouts,
        recommendation,
        dict(skipped),
    )


def _filled(
    payloads: Sequence[Mapping[int, Estimate | None]], level: int, sharings: Sequence[Sharing]
) -> dict[int, Estimate]:
    """The estimates for one block size; where its few blocks were not sampled, by the ratio
    of the next smaller size that was, with no error stated."""
    found = {}
    for zstd_level, estimate in payloads[level].items():
        at = level
        while estimate is None and at > 0:
            at -= 1
            known = payloads[at][zstd_level]
            if known is not None:
                stored = sharings[at].distinct_count * BLOCK_SIZES[at]
                wanted = sharings[level].distinct_count * BLOCK_SIZES[level]
                estimate = Estimate(known.size_bytes * wanted // max(stored, 1), None, 0)
        if estimate is None:
            estimate = Estimate(sharings[level].distinct_count * BLOCK_SIZES[level], None, 0)
        found[zstd_level] = estimate
    return found
