"""The block map of a snapshot that was written block by block: its parent's, and the puts.

The puts are read by rising index, a leaf's worth at a time, so memory is one path of the
map whatever was put.  Their chunk numbers are in the holds and those of the parent's
blocks in its leaves' rows: no digest is looked up.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.geometry import FAN_OUT, FAN_OUT_BITS
from ebsim.blockmap.map_update import MapUpdate
from ebsim.blockmap.node_format import EMPTY_LEAF, Leaf, decode_node, encode_node, slots_of
from ebsim.blockmap.node_store import empty_root
from ebsim.catalog.direct_snapshot import DirectSnapshot, puts_owner
from ebsim.catalog.snapshot import Snapshot
from ebsim.chunkstore.chunk_writer import ChunkWriter
from ebsim.chunkstore.held_blocks import HeldBlock, scan_held_blocks
from ebsim.chunkstore.node_commit import NewNode
from ebsim.chunkstore.pack_format import Kind
from ebsim.chunkstore.rows import Holder
from ebsim.chunkstore.sessions import Session
from ebsim.content.compression import LEVEL_DEFAULT
from ebsim.content.digest import node_digest
from ebsim.engine.new_nodes import NewNodes
from ebsim.engine.region import Region
from ebsim.ids import Digest, SnapshotId

_ROWS_PER_STEP = 2048


@dataclass(frozen=True, slots=True)
class DirectMap:
    """A finished map, held by the session that made it; the counts are those of the whole."""

    root: Digest
    block_count: int
    referenced_bytes: int
    stored_bytes: int


def held_puts(region: Region, snapshot_id: SnapshotId) -> Iterator[HeldBlock]:
    """Yield what was put, by rising block index."""
    owner, start = puts_owner(snapshot_id), 0
    while True:
        rows = region.metadata.read(
            lambda reader: scan_held_blocks(reader, owner, start, _ROWS_PER_STEP)  # noqa: B023 (called at once)
        )
        yield from rows
        if len(rows) < _ROWS_PER_STEP:
            return
        start = rows[-1].place + 1


def make_direct_map(
    region: Region, session: Session, owner: str, snapshot: Snapshot, record: DirectSnapshot
) -> DirectMap:
    """Make the map of what was put to *snapshot*; *owner* holds its nodes.

    Nothing may be put meanwhile.

    Raises:
        IntegrityError: a node of the parent is damaged.
        Conflict: the snapshot was deleted meanwhile.
    """
    writer = ChunkWriter(
        region.backend,
        region.metadata,
        session,
        level=LEVEL_DEFAULT,
        read_again=lambda _index: None,
    )
    try:
        making = _Making(region, writer, owner, snapshot, record)
        for leaf_index, group in groupby(
            held_puts(region, snapshot.snapshot_id), lambda put: put.place >> FAN_OUT_BITS
        ):
            making.set_leaf(leaf_index, list(group))
        return making.finish()
    finally:
        writer.close()


class _Making:
    """A map in the making."""

    def __init__(
        self,
        region: Region,
        writer: ChunkWriter,
        owner: str,
        snapshot: Snapshot,
        record: DirectSnapshot,
    ) -> None:
        nodes = NewNodes(region.chunks, writer, owner)
        base = Digest(bytes.fromhex(record.base_root)) if record.base_root else empty_root()
        self._parent = BlockMap(base, nodes)
        self._update = MapUpdate(self._parent)
        self._writer = writer
        self._owner = owner
        self._generation = snapshot.generation
        self._record = record
        self._block_count = record.base_block_count

    def set_leaf(self, leaf_index: int, puts: Sequence[HeldBlock]) -> None:
        """Put *puts*, all of one leaf, over the parent's."""
        old_digest = self._parent.leaf_digest(leaf_index)
        old = EMPTY_LEAF if old_digest is None else self._parent.leaf(old_digest)
        numbers = self._numbers(old_digest, old)
        at_slot = {put.place % FAN_OUT: put for put in puts}
        leaf = old.with_changes(
            {slot: (put.digest, self._generation) for slot, put in at_slot.items()}
        )
        assert leaf is not None, "something was put"
        self._block_count += leaf.bitmap.bit_count() - old.bitmap.bit_count()
        node = self._new_node(leaf_index, leaf, numbers, at_slot)
        self._writer.put_node(node)
        self._update.set_leaf(leaf_index, node.digest)
        self._writer.commit_ready()

    def _numbers(self, digest: Digest | None, leaf: Leaf) -> dict[int, int]:
        """The chunk numbers of a parent's leaf by slot; none where its row is lost."""
        if digest is None:
            return {}
        numbers = self._writer.children_of(digest)
        if len(numbers) != leaf.bitmap.bit_count():
            return {}
        return dict(zip(slots_of(leaf.bitmap), numbers, strict=True))

    def _new_node(
        self,
        leaf_index: int,
        leaf: Leaf,
        old_numbers: Mapping[int, int],
        puts: Mapping[int, HeldBlock],
    ) -> NewNode:
        data = encode_node(leaf)
        assert decode_node(data) == leaf, "a node reads back as it was written"
        slots = list(slots_of(leaf.bitmap))
        children = array(
            "Q", [puts[s].number if s in puts else old_numbers.get(s, 0) for s in slots]
        )
        return NewNode(
            digest=node_digest(data),
            kind=Kind.LEAF,
            encoded=data,
            bitmap=leaf.bitmap.to_bytes(FAN_OUT // 8, "little"),
            children=children,
            unknown=[(at, leaf.children[at]) for at, number in enumerate(children) if not number],
            fingerprints=b"",
            holder=Holder(self._owner, 0, leaf_index),
            added=[at for at, slot in enumerate(slots) if slot in puts],
            replaced=[number for slot, number in old_numbers.items() if slot in puts],
        )

    def finish(self) -> DirectMap:
        """Return when all nodes are durable and held."""
        root = self._update.finish()
        self._writer.flush()
        return DirectMap(
            root,
            self._block_count,
            self._record.base_referenced_bytes + self._writer.referenced_bytes,
            self._record.stored_bytes + self._writer.stored_bytes,
        )
