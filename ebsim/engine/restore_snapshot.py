"""Restoring a snapshot to a file, a device or a stream, and verifying one."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import BinaryIO

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.stored_blocks import PresentBlock, block_map_of, leaf_blocks
from ebsim.catalog.records import find_volume
from ebsim.catalog.snapshot import Snapshot
from ebsim.content.digest import block_digest, zeros_digest
from ebsim.engine.diff_snapshots import completed_snapshot
from ebsim.engine.ordered_work import in_threads
from ebsim.engine.reading_snapshot import reading_snapshot
from ebsim.engine.region import Region
from ebsim.engine.restore_target import RestoreTarget, open_target, write_failure
from ebsim.engine.run_writer import RunWriter, RunWriters
from ebsim.errors import ChunkCorrupt, ChunkMissing, TargetUnusable
from ebsim.ids import Digest
from ebsim.progress import Progress, Unwatched
from ebsim.units import MIB

_LEAVES_AHEAD_PER_THREAD = 3
_STREAM_AHEAD_SIZE = 16 * MIB
_DAMAGE_LISTED_MAX = 1000

_LeafWork = Callable[[Sequence[PresentBlock]], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore wrote: the disk's size, and how much of it was data."""

    snapshot: Snapshot
    size_bytes: int
    data_bytes: int


def thread_count_of(asked: int | None) -> int:
    """*asked*, or one thread for each processor that this process may use."""
    return asked or len(os.sched_getaffinity(0))


def restore_snapshot(
    region: Region,
    name: str,
    target_name: str,
    *,
    force: bool = False,
    verify: bool = False,
    progress: Progress | None = None,
    thread_count: int | None = None,
) -> Restored:
    """Write the disk that a snapshot holds to the file or block device *target_name*.

    The file is sparse where the disk is, durable when this returns, and has the disk's
    exact length.  Every block is proved by its digest before it is written; *verify* reads
    the target back and proves it again.

    Raises:
        SnapshotNotFound, InvalidRequest, Conflict: *name*.
        TargetUnusable, StorageFull: the target.
        ChunkCorrupt, ChunkMissing: a block is damaged: the target is not made.
    """
    snapshot, root = completed_snapshot(region, name)
    volume = region.metadata.read(lambda reader: find_volume(reader, snapshot.volume_id))
    source = volume.location if volume else ""
    target = open_target(target_name, snapshot.size_bytes, force=force, source=source)
    restoring = _Restoring(region, snapshot, root, progress or Unwatched(), thread_count)
    with closing(target), reading_snapshot(region, snapshot):
        restoring.write(target)
        target.sync()
        if verify:
            restoring.verify(target, target_name)
        # Nothing that can fail comes after the disk has its name.
        restored = Restored(snapshot, snapshot.size_bytes, _data_bytes(region, snapshot, root))
        target.publish()
    return restored


def _data_bytes(region: Region, snapshot: Snapshot, root: Digest) -> int:
    """The bytes of the disk that lie in present blocks; the last block may reach past its end."""
    highest = block_map_of(region.chunks, root).highest()
    end = 0 if highest is None else (highest + 1) * snapshot.block_size
    return snapshot.block_count * snapshot.block_size - max(end - snapshot.size_bytes, 0)


class _Restoring:
    """One restore to something that can be written in any order."""

    def __init__(
        self,
        region: Region,
        snapshot: Snapshot,
        root: Digest,
        progress: Progress,
        thread_count: int | None,
    ) -> None:
        self._chunks = region.chunks
        self._snapshot = snapshot
        self._map = block_map_of(region.chunks, root)
        self._progress = progress
        self._threads = thread_count_of(thread_count)
        self._zeros = zeros_digest(snapshot.block_size)

    def write(self, target: RestoreTarget) -> None:
        """Write every present block, and zeros between them."""
        self._progress.begin("restore", self._snapshot.block_count * self._snapshot.block_size)
        end = 0
        runs = RunWriters(target)
        for start, stop in self._each_leaf(lambda blocks: self._write_leaf(target, runs, blocks)):
            if start > end:
                target.zero_at(end, start - end)
            end = stop
        target.zero_at(end, self._snapshot.size_bytes - end)
        self._progress.end()

    def _each_leaf(self, work: _LeafWork) -> Iterator[tuple[int, int]]:
        def run(leaf: tuple[int, Digest]) -> tuple[int, int]:
            return work(leaf_blocks(self._chunks, self._map, *leaf))

        ahead = self._threads * _LEAVES_AHEAD_PER_THREAD
        return in_threads(run, self._map.leaves(), self._threads, ahead)

    def _write_leaf(
        self, target: RestoreTarget, runs: RunWriters, blocks: Sequence[PresentBlock]
    ) -> tuple[int, int]:
        """Write one leaf's blocks and the gaps between; return the bytes' range."""
        run = runs.writer
        try:
            written = self._write_blocks(target, run, blocks)
            run.finish()
        except BaseException:
            run.cancel()
            raise
        return written

    def _write_blocks(
        self, target: RestoreTarget, run: RunWriter, blocks: Sequence[PresentBlock]
    ) -> tuple[int, int]:
        size = self._snapshot.block_size
        first = end = blocks[0].block_index * size
        for block in blocks:
            start = block.block_index * size
            if start > end:
                target.zero_at(end, start - end)
            end = min(start + size, self._snapshot.size_bytes)
            if block.digest == self._zeros:
                target.zero_at(start, end - start)
            else:
                data = block.read(self._chunks)
                run.add(memoryview(data)[: end - start], start)
            self._progress.advance(size)
        return first, end

    def verify(self, target: RestoreTarget, target_name: str) -> None:
        """Read every present block back and prove it.

        Raises:
            TargetUnusable: the target does not hold what was written.
        """
        size = self._snapshot.block_size
        self._progress.begin("verify", self._snapshot.block_count * size)

        def check(blocks: Sequence[PresentBlock]) -> tuple[int, int]:
            for block in blocks:
                count = min(size, self._snapshot.size_bytes - block.block_index * size)
                data = target.read_back(block.block_index * size, count)
                if block_digest(data.ljust(size, b"\0")) != block.digest:
                    raise TargetUnusable(
                        f"{target_name} does not hold what was written to it, at byte "
                        f"{block.block_index * size}. The snapshot is intact. Check the disk that "
                        "the target is on."
                    )
                self._progress.advance(size)
            return 0, 0

        for _ in self._each_leaf(check):
            pass
        self._progress.end()


def stream_snapshot(
    region: Region,
    name: str,
    stream: BinaryIO,
    *,
    progress: Progress | None = None,
    thread_count: int | None = None,
) -> Restored:
    """Write the disk that a snapshot holds to *stream*, front to back.

    Raises:
        SnapshotNotFound, InvalidRequest, Conflict: *name*.
        ChunkCorrupt, ChunkMissing: a block is damaged: the stream ends before it.
    """
    snapshot, root = completed_snapshot(region, name)
    progress = progress or Unwatched()
    threads = thread_count_of(thread_count)
    size = snapshot.block_size
    with reading_snapshot(region, snapshot):
        block_map = block_map_of(region.chunks, root)
        progress.begin("restore", snapshot.size_bytes)
        end = 0
        for block, data in in_threads(
            lambda block: (block, block.read(region.chunks)),
            _present_blocks(region, block_map),
            threads,
            max(_STREAM_AHEAD_SIZE // size, threads),
        ):
            start = block.block_index * size
            _write_zeros(stream, start - end, progress)
            end = min(start + size, snapshot.size_bytes)
            _write(stream, memoryview(data)[: end - start])
            progress.advance(end - start)
        _write_zeros(stream, snapshot.size_bytes - end, progress)
        progress.end()
        return Restored(snapshot, snapshot.size_bytes, _data_bytes(region, snapshot, root))


def _present_blocks(region: Region, block_map: BlockMap) -> Iterator[PresentBlock]:
    for leaf in block_map.leaves():
        yield from leaf_blocks(region.chunks, block_map, *leaf)


def _write(stream: BinaryIO, data: memoryview | bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            # A raw stream may take less than it is given.
            view = view[stream.write(view) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise write_failure("the output", error, "It was written in part.") from error


def _write_zeros(stream: BinaryIO, size_bytes: int, progress: Progress) -> None:
    zeros = bytes(MIB)
    while size_bytes > 0:
        count = min(size_bytes, MIB)
        _write(stream, zeros[:count])
        progress.advance(count)
        size_bytes -= count


@dataclass(slots=True)
class VerifyReport:
    """What verifying a snapshot found.

    Attributes:
        damaged: Block index and what is wrong, of the first thousand damaged blocks.
    """

    snapshot: Snapshot
    block_count: int = 0
    damaged_count: int = 0
    damaged: list[tuple[int, str]] = field(default_factory=list)


def verify_snapshot(
    region: Region,
    name: str,
    *,
    progress: Progress | None = None,
    thread_count: int | None = None,
) -> VerifyReport:
    """Read and prove every block of a snapshot, going on past damaged ones.

    Raises:
        SnapshotNotFound, InvalidRequest, Conflict: *name*.
        ChunkCorrupt, ChunkMissing: a node of the block map is damaged.
    """
    snapshot, root = completed_snapshot(region, name)
    progress = progress or Unwatched()
    threads = thread_count_of(thread_count)
    report = VerifyReport(snapshot)

    def check(leaf: tuple[int, Digest]) -> list[tuple[int, str]]:
        found = []
        for block in leaf_blocks(region.chunks, block_map, *leaf):
            error = _read_error(region, block)
            progress.advance(snapshot.block_size)
            found.append((block.block_index, error))
        return found

    with reading_snapshot(region, snapshot):
        block_map = block_map_of(region.chunks, root)
        progress.begin("verify", snapshot.block_count * snapshot.block_size)
        ahead = threads * _LEAVES_AHEAD_PER_THREAD
        for checked in in_threads(check, block_map.leaves(), threads, ahead):
            damaged = [(index, error) for index, error in checked if error]
            report.block_count += len(checked)
            report.damaged_count += len(damaged)
            room = _DAMAGE_LISTED_MAX - len(report.damaged)
            report.damaged.extend(damaged[:room])
        progress.end()
    return report


def _read_error(region: Region, block: PresentBlock) -> str:
    """What is wrong with a block, ``""`` if nothing is."""
    try:
        block.read(region.chunks)
    except (ChunkCorrupt, ChunkMissing) as error:
        return str(error)
    return ""
