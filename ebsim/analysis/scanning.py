"""Scanning all images, piece by piece, in whatever executor there is."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from itertools import islice
from typing import TypeVar

from ebsim.analysis.block_digests import BLOCK_SIZE_MAX
from ebsim.analysis.executors import Workers
from ebsim.analysis.images import Image, SnapshotPlace
from ebsim.analysis.part_folder import PartFolder
from ebsim.analysis.piece_scan import PieceTask, scan_piece
from ebsim.progress import Progress
from ebsim.units import MIB

T = TypeVar("T")
S = TypeVar("S")

_PIECE_SIZE_MIN, _PIECE_SIZE_MAX = 128 * MIB, 512 * MIB
_PIECES_WANTED = 512

Skipped = dict[str, str]
"""Why an image was left out, by its name."""


def piece_size(images: Sequence[Image]) -> int:
    """How large the pieces of *images* are: all alike, and not too many."""
    total_bytes = sum(image.padded_bytes for image in images)
    size = _PIECE_SIZE_MIN
    while size < _PIECE_SIZE_MAX and total_bytes // size > _PIECES_WANTED:
        size *= 2
    return size


def piece_tasks(images: Sequence[Image]) -> list[PieceTask]:
    """What to scan: every piece of every image, snapshots of one store together."""
    size = piece_size(images)
    assert size % BLOCK_SIZE_MAX == 0, "a piece is whole stretches"
    tasks = []
    for group in _groups(images):
        longest = max(image.padded_bytes for image in group)
        for start in range(0, longest, size):
            members = tuple(image for image in group if image.padded_bytes > start)
            tasks.append(PieceTask(members, start, start + size))
    return tasks


def _groups(images: Sequence[Image]) -> list[list[Image]]:
    """Images to scan together: the snapshots of one store, and each other one by itself."""
    alone, stores = [], dict[tuple[object, str], list[Image]]()
    for image in images:
        if isinstance(image.place, SnapshotPlace):
            key = (image.place.home, image.place.region_name)
            stores.setdefault(key, []).append(image)
        else:
            alone.append([image])
    return [*alone, *stores.values()]


def scan_all(
    tasks: Sequence[PieceTask],
    folder: PartFolder,
    workers: Workers,
    *,
    keep_going: bool,
    progress: Progress,
) -> Skipped:
    """Make the parts of *tasks* that *folder* lacks.

    Returns:
        The images that could not be read whole, with *keep_going*.

    Raises:
        EbsimError: the first that could not, without; what was scanned stays in *folder*.
    """
    skipped: Skipped = {}
    progress.begin("analysing", sum(map(_task_bytes, tasks)))

    def needed() -> Iterator[PieceTask]:
        for task in tasks:
            missing = tuple(
                image
                for image in task.images
                if image.name not in skipped and not folder.has(task, image)
            )
            if missing:
                yield PieceTask(missing, task.start, task.stop)
            else:
                progress.advance(_task_bytes(task))

    for task, results in run_all(scan_piece, needed(), workers):
        for result in results:
            if result.failure is None:
                folder.write(folder.part_path(task, result.image), result.parquet)
                continue
            kind, message = result.failure
            if not keep_going:
                raise kind(message)
            skipped.setdefault(result.image.name, message)
        progress.advance(_task_bytes(task))
    progress.end()
    return skipped


def run_all(work: Callable[[S], T], items: Iterable[S], workers: Workers) -> Iterator[tuple[S, T]]:
    """Yield each item and ``work(item)`` as they are done, a bounded number at once.

    Whoever stops early ends the work that has not begun.
    """
    rest = iter(items)
    running: dict[Future[T], S] = {}
    try:
        while True:
            for item in islice(rest, workers.in_flight_max - len(running)):
                running[workers.executor.submit(work, item)] = item
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()
    finally:
        for future in running:
            future.cancel()


def default_thread_count() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def _task_bytes(task: PieceTask) -> int:
    return sum(max(0, min(task.stop, image.size_bytes) - task.start) for image in task.images)
