"""Uploading: scanning leaves in several threads, and making a block map of what they find.

Leaves are scanned side by side and taken in order, so that the map is built from left to
right with one path of it in memory; finished nodes are committed as their packs become
durable.
"""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.map_update import MapUpdate
from ebsim.chunkstore.chunk_writer import ChunkWriter
from ebsim.chunkstore.node_commit import record_bytes
from ebsim.engine.leaf_scan import LeafResult, LeafTask
from ebsim.ids import Digest
from ebsim.metadata.transactions import Metadata
from ebsim.progress import Progress

_TASKS_WAITING_PER_THREAD = 3


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What an upload came to; the counts are changes against the parent's map."""

    root: Digest
    changed_block_count: int
    block_count_change: int
    referenced_bytes_change: int
    stored_bytes: int


class Upload:
    """One upload, for one ``run``: new nodes go to the store of the *parent* map."""

    def __init__(
        self,
        parent: BlockMap,
        writer: ChunkWriter,
        metadata: Metadata,
        progress: Progress,
    ) -> None:
        self._update = MapUpdate(parent)
        self._writer = writer
        self._metadata = metadata
        self._progress = progress
        self._changed_block_count = 0
        self._block_count_change = 0
        self._released_bytes = 0

    def run(
        self,
        tasks: Iterable[LeafTask],
        scan: Callable[[LeafTask], LeafResult],
        thread_count: int,
    ) -> Uploaded:
        """Scan *tasks*, build the map, and return when all of it is durable and committed."""
        waiting: deque[Future[LeafResult]] = deque()
        with ThreadPoolExecutor(thread_count, "scan") as pool:
            try:
                for task in tasks:
                    waiting.append(pool.submit(scan, task))
                    if len(waiting) > _TASKS_WAITING_PER_THREAD * thread_count:
                        self._take(waiting.popleft().result())
                while waiting:
                    self._take(waiting.popleft().result())
            except BaseException:
                for future in waiting:
                    future.cancel()
                raise
        root = self._update.finish()
        self._writer.flush()
        return Uploaded(
            root,
            self._changed_block_count,
            self._block_count_change,
            self._writer.referenced_bytes - self._released_bytes,
            self._writer.stored_bytes,
        )

    def _take(self, result: LeafResult) -> None:
        self._changed_block_count += result.changed_block_count
        self._block_count_change += result.block_count_change
        if result.replaced:
            self._released_bytes += self._metadata.read(
                lambda reader: record_bytes(reader, result.replaced)
            )
        if result.is_changed:
            self._update.set_leaf(result.leaf_index, result.digest)
        self._progress.advance(result.read_bytes)
        self._writer.commit_ready()
