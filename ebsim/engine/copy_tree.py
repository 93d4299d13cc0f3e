"""Copying a block map from one store to another: only what the other has not travels.

The source's tree is walked from its root.  A subtree that the destination has is held
there and not entered, so that the cost follows what is missing and not the size of the
disk.  A missing leaf is loaded, those of its blocks that are missing are read as they lie
in the source's packs, proved by their digests, and appended unchanged; then the leaf
itself, and inner nodes after all that is below them.

Leaves are done side by side and their nodes handed over in order: one path of the tree
and a few leaves are in memory.  What is handed over is committed as its packs become
durable (``chunk_writer.py``); there a block that the destination had, and that somebody
freed since, is noticed and sent after all.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.geometry import FAN_OUT, FAN_OUT_BITS
from ebsim.blockmap.node_format import Inner, Leaf, Node, encode_node, slots_of
from ebsim.blockmap.stored_nodes import StoredNodes
from ebsim.chunkstore.chunk_source import ChunkSource
from ebsim.chunkstore.chunk_writer import ChunkWriter
from ebsim.chunkstore.node_commit import NewNode
from ebsim.chunkstore.pack_format import HEADER_SIZE, Kind
from ebsim.chunkstore.rows import Holder
from ebsim.engine.holds import hold_present_nodes
from ebsim.engine.ordered_work import in_threads
from ebsim.errors import ChunkMissing
from ebsim.ids import Digest
from ebsim.metadata.transactions import Metadata, Table
from ebsim.progress import Progress

_LEAVES_WAITING_PER_THREAD = 3


class _Step(NamedTuple):
    """A node to be sent, once all below it were."""

    digest: Digest
    level: int
    place: int
    inner: Inner | None


class TreeCopy:
    """One copy of one tree, for one ``run``."""

    def __init__(
        self,
        source: ChunkSource,
        root: Digest,
        *,
        metadata: Metadata,
        writer: ChunkWriter,
        holder_id: str,
    ) -> None:
        """*metadata* and *writer* are the destination's; *holder_id* holds what is finished."""
        self._source = source
        self._map = BlockMap(root, StoredNodes(source))
        self._metadata = metadata
        self._writer = writer
        self._holder_id = holder_id
        # A subtree that the destination has may be damaged below: then all is looked at,
        # and what is damaged is sent.
        self._may_skip = not metadata.read(lambda reader: reader.scan(Table.DAMAGED, limit=1))
        self.is_incremental = False
        self.sent_count = 0
        self.sent_bytes = 0

    def run(self, progress: Progress, leaf_size: int, thread_count: int) -> None:
        """Return when all of it is durable in the destination, committed and held.

        *leaf_size* is how much of the disk a leaf covers; progress is told as the place on
        the disk that was reached.

        Raises:
            ChunkCorrupt, ChunkMissing: the source is damaged.
            StorageFull, StorageUnavailable: either store; what is finished stays held.
        """
        waiting_max = _LEAVES_WAITING_PER_THREAD * thread_count
        reached = 0
        for node in in_threads(self._send, self._steps(), thread_count, waiting_max):
            self._writer.put_node(node)
            if node.kind == Kind.LEAF:
                progress.advance((node.holder.place + 1) * leaf_size - reached)
                reached = (node.holder.place + 1) * leaf_size
            self._writer.commit_ready()
        self._writer.flush()

    def read_again(self, block_index: int) -> bytes | None:
        """A block once more, from the source."""
        block = self._map.get(block_index)
        return None if block is None else bytes(self._source.read(block.digest))

    def _steps(self) -> Iterator[_Step]:
        """Yield what has to be sent, children before their parents, from the left."""
        root, node = self._map.root, self._map.root_node
        if not self._present(node.level, {0: root}):
            yield from self._steps_below(root, node, 0)

    def _steps_below(self, digest: Digest, node: Node, index: int) -> Iterator[_Step]:
        if isinstance(node, Leaf):
            yield _Step(digest, 0, index, None)
            return
        first = index << FAN_OUT_BITS
        children = {first + slot: child for slot, child in node.entries().items()}
        present = self._present(node.level - 1, children)
        for place, child in children.items():
            if place in present:
                continue
            if node.level == 1:
                yield _Step(child, 0, place, None)
            else:
                below = self._map.inner(child, node.level - 1)
                yield from self._steps_below(child, below, place)
        yield _Step(digest, node.level, index, node)

    def _present(self, level: int, nodes: Mapping[int, Digest]) -> set[int]:
        """The places of those *nodes* that the destination has; they are held there now."""
        if not self._may_skip or not self._writer.stored(list(nodes.values())):
            return set()
        wanted = {Holder(self._holder_id, level, place): d for place, d in nodes.items()}
        held = self._metadata.run(lambda txn: hold_present_nodes(txn, wanted))
        self.is_incremental = self.is_incremental or bool(held)
        return {holder.place for holder in held}

    def _send(self, step: _Step) -> NewNode:
        """Send what is missing of a leaf's blocks; return the node, to be committed in order."""
        if step.inner is not None:
            return self._new_node(step, step.inner)
        leaf = self._map.leaf(step.digest)
        self._send_blocks(self._writer.claim(leaf.children))
        return self._new_node(step, leaf)

    def _send_blocks(self, digests: Sequence[Digest]) -> None:
        for digest, found in zip(digests, self._source.find(digests), strict=True):
            if found is None:
                raise ChunkMissing(digest)
            record, payload = self._source.read_as_stored(found)
            self._writer.put_record(record, payload)
            self.sent_count += 1
            self.sent_bytes += HEADER_SIZE + len(payload)

    def _new_node(self, step: _Step, node: Inner | Leaf) -> NewNode:
        first = step.place << FAN_OUT_BITS
        places = [first + slot for slot in slots_of(node.bitmap)]
        is_leaf = isinstance(node, Leaf)
        return NewNode(
            digest=step.digest,
            kind=Kind.LEAF if is_leaf else Kind.INNER,
            encoded=encode_node(node),
            bitmap=node.bitmap.to_bytes(FAN_OUT // 8, "little"),
            children=array("Q", bytes(8 * len(places))),
            unknown=list(enumerate(node.children)),
            fingerprints=b"",
            holder=Holder(self._holder_id, step.level, step.place),
            child_indexes=() if is_leaf else places,
            block_indexes=dict(zip(node.children, places, strict=True)) if is_leaf else {},
        )
