"""Storing chunks: blocks and nodes go in from many threads, nodes are committed behind.

The life of a node: its blocks are put, then the node itself, which then waits until all
packs that its new records lie in are durable, and is committed with all the others that
are ready (``node_commit.py``).  Only chunks of nodes that wait are kept in memory.
"""

import threading
from collections.abc import Callable, Sequence

from ebsim.backends.backend import Backend
from ebsim.chunkstore.chunk_index import find_node_rows, find_numbers
from ebsim.chunkstore.node_commit import (
    ChunksFreed,
    Committed,
    NewNode,
    PackInProgress,
    commit_nodes,
)
from ebsim.chunkstore.pack_format import Kind, Record
from ebsim.chunkstore.pack_writer import PackWriter, Placed
from ebsim.chunkstore.rows import number_key
from ebsim.chunkstore.sessions import Session
from ebsim.content.digest import block_digest
from ebsim.errors import Conflict
from ebsim.ids import Digest
from ebsim.metadata.transactions import Metadata, Reader, Table

Buffer = bytes | bytearray | memoryview

# A commit ends after this many nodes, or as many chunks that must be looked up: each may
# change a page of the index, and those are in memory until they are written.
_NODES_PER_COMMIT = 1024
_LOOKUPS_PER_COMMIT = 3072

# A node that waits takes about 10 KiB.  Where little is stored beside the nodes, so that
# thousands of them fit into one pack, the pack is sealed before it is full.
_NODES_WAITING_MAX = 1024


class ChunkWriter:
    """Stores chunks for one owner.  ``put_…`` from any thread, the rest from one."""

    def __init__(
        self,
        backend: Backend,
        metadata: Metadata,
        session: Session,
        *,
        level: int,
        read_again: Callable[[int], Buffer | None],
    ) -> None:
        """*read_again* gives the bytes at a block index once more, ``None`` if it cannot."""
        self._metadata = metadata
        self._packs = PackWriter(backend, session.next_pack_name)
        self._level = level
        self._read_again = read_again
        self._lock = threading.Lock()
        # None while another thread is writing the chunk.
        self._placed: dict[Digest, Placed | None] = {}
        self._waiting: list[NewNode] = []
        self._pack_numbers: dict[int, int] = {}
        self._sealed_at_last_commit = 0
        self.chunk_count = 0
        self.stored_bytes = 0
        self.referenced_bytes = 0

    def put_blocks(self, blocks: Sequence[tuple[Digest, Buffer]]) -> None:
        """Store those of *blocks* that the store has not; one look-up for all of them."""
        unplaced = [digest for digest, _ in blocks if digest not in self._placed]
        stored = self.stored(unplaced) if unplaced else set()
        for digest, block in blocks:
            if digest not in stored:
                self._write(Kind.BLOCK, digest, block)

    def claim(self, digests: Sequence[Digest]) -> list[Digest]:
        """Those of *digests* that the store has not and nobody writes: the caller's to put.

        Claimed before they are looked up, so that of two threads one writes each.
        """
        with self._lock:
            claimed = [d for d in dict.fromkeys(digests) if d not in self._placed]
            self._placed.update(dict.fromkeys(claimed))
        stored = self.stored(claimed) if claimed else set()
        with self._lock:
            for digest in stored:
                del self._placed[digest]
        return [digest for digest in claimed if digest not in stored]

    def put_record(self, record: Record, payload: Buffer) -> None:
        """Store a claimed chunk as it lies in another store's pack; the caller proved it."""
        placed = self._packs.append_encoded(record, payload)
        with self._lock:
            self._placed[record.digest] = placed

    def put_node(self, node: NewNode) -> None:
        """Store a node whose blocks or children were put before it."""
        if node.digest not in self._placed and not self.stored([node.digest]):
            self._write(node.kind, node.digest, node.encoded)
        with self._lock:
            self._waiting.append(node)

    def children_of(self, digest: Digest) -> Sequence[int]:
        """The chunk numbers of a stored node's children, in order; none if it has no row.

        They stay theirs as long as somebody holds the node.
        """

        def look(reader: Reader) -> Sequence[int]:
            number = find_numbers(reader, [digest]).get(digest, 0)
            (row,) = find_node_rows(reader, [number])
            return row.children if row is not None else ()

        return self._metadata.read(look)

    def _write(self, kind: int, digest: Digest, chunk: Buffer) -> None:
        with self._lock:
            if digest in self._placed:
                return
            self._placed[digest] = None
        placed = self._packs.append(kind, digest, chunk, self._level)
        with self._lock:
            self._placed[digest] = placed

    def stored(self, digests: Sequence[Digest]) -> set[Digest]:
        """Those of *digests* that the store has, not known to be damaged."""

        def look(reader: Reader) -> set[Digest]:
            numbers = find_numbers(reader, digests)
            keys = [number_key(number) for number in numbers.values()]
            damages = reader.get_many(Table.DAMAGED, keys) if keys else []
            found = zip(numbers, damages, strict=True)
            return {digest for digest, damage in found if damage is None}

        return self._metadata.read(look)

    def commit_ready(self) -> None:
        """Commit the nodes whose packs are durable.  Cheap when nothing was sealed since.

        Waits for the disk where too many nodes are waiting.
        """
        if len(self._waiting) >= _NODES_WAITING_MAX:
            self._packs.flush()
        sealed = self._packs.sealed_count
        if sealed > self._sealed_at_last_commit:
            self._sealed_at_last_commit = sealed
            self._commit(sealed)

    def flush(self) -> None:
        """Make everything durable and commit all nodes.

        Raises:
            Conflict: a chunk relied on was deleted meanwhile and cannot be read again.
        """
        while self._waiting:
            self._packs.flush()
            self._commit(self._packs.sealed_count)

    def close(self) -> None:
        """Give up what is not committed."""
        self._packs.close()

    def _commit(self, sealed_count: int) -> None:
        with self._lock:
            ready: list[NewNode] = []
            later: list[NewNode] = []
            for node in self._waiting:
                (ready if self._is_ready(node, sealed_count) else later).append(node)
            self._waiting = later
        while ready:
            count = _batch_size(ready)
            batch, ready = ready[:count], ready[count:]
            try:
                self._commit_batch(batch)
            except ChunksFreed as freed:
                self._store_again(batch, freed.digests)
                with self._lock:
                    # In order: a parent must not be committed before its children.
                    self._waiting = [*batch, *ready, *self._waiting]
                return

    def _is_ready(self, node: NewNode, sealed_count: int) -> bool:
        for digest in (node.digest, *(digest for _, digest in node.unknown)):
            if digest in self._placed:
                placed = self._placed[digest]
                if placed is None or placed.pack_index >= sealed_count:
                    return False
        return True

    def _commit_batch(self, batch: list[NewNode]) -> None:
        digests = {node.digest for node in batch}
        for node in batch:
            digests.update(digest for _, digest in node.unknown)
        with self._lock:
            found = ((digest, self._placed.get(digest)) for digest in digests)
            placed = {digest: place for digest, place in found if place is not None}
        packs = {
            index: PackInProgress(
                self._packs.names[index],
                self._packs.sizes[index],
                self._pack_numbers.get(index, 0),
            )
            for index in {place.pack_index for place in placed.values()}
        }
        done = self._metadata.run(lambda txn: commit_nodes(txn, batch, placed, packs))
        self._note(done)
        with self._lock:
            for digest in placed:
                del self._placed[digest]

    def _note(self, done: Committed) -> None:
        self._pack_numbers.update(done.pack_numbers)
        self.chunk_count += done.chunk_count
        self.stored_bytes += done.stored_bytes
        self.referenced_bytes += done.referenced_bytes

    def _store_again(self, batch: list[NewNode], digests: set[Digest]) -> None:
        """Write chunks that were in the store when they were put, and were freed since."""
        for node in batch:
            if node.digest in digests:
                self._write(node.kind, node.digest, node.encoded)
            for _, digest in node.unknown:
                if digest in digests and digest in node.block_indexes:
                    self._write_block_again(digest, node.block_indexes[digest])

    def _write_block_again(self, digest: Digest, block_index: int) -> None:
        block = self._read_again(block_index)
        if block is None or block_digest(block) != digest:
            raise Conflict(
                f"block {block_index} relied on a chunk that was deleted meanwhile, and the "
                "source no longer has the same bytes there. No snapshot was made. Run the "
                "command again."
            )
        self._write(Kind.BLOCK, digest, block)


def _batch_size(nodes: list[NewNode]) -> int:
    """How many of *nodes* to commit at once, at least one."""
    lookups = 0
    for count, node in enumerate(nodes[:_NODES_PER_COMMIT]):
        lookups += 1 + len(node.unknown)
        if lookups > _LOOKUPS_PER_COMMIT and count:
            return count
    return min(len(nodes), _NODES_PER_COMMIT)
