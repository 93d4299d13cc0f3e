"""The nodes of a snapshot being taken, on their way into the chunk store."""

from array import array
from collections.abc import Sequence

from ebsim.blockmap.geometry import FAN_OUT, FAN_OUT_BITS
from ebsim.blockmap.node_format import decode_node, slots_of
from ebsim.blockmap.stored_nodes import StoredNodes
from ebsim.chunkstore.chunk_reader import ChunkReader
from ebsim.chunkstore.chunk_writer import ChunkWriter
from ebsim.chunkstore.node_commit import NewNode
from ebsim.chunkstore.pack_format import Kind
from ebsim.chunkstore.rows import Holder
from ebsim.ids import Digest, SnapshotId


class NewNodes(StoredNodes):
    """A ``NodeStore`` that writes the nodes of one snapshot being taken."""

    def __init__(self, chunks: ChunkReader, writer: ChunkWriter, snapshot_id: SnapshotId) -> None:
        super().__init__(chunks)
        self._writer = writer
        self._snapshot_id = snapshot_id
        self.store_count = 0

    def store(
        self, digest: Digest, data: bytes, *, level: int, index: int, children: Sequence[Digest]
    ) -> None:
        self.store_count += 1
        bitmap = decode_node(data).bitmap
        first_child = index << FAN_OUT_BITS
        self._writer.put_node(
            NewNode(
                digest=digest,
                kind=Kind.INNER if level else Kind.LEAF,
                encoded=data,
                bitmap=bitmap.to_bytes(FAN_OUT // 8, "little"),
                children=array("Q", bytes(8 * len(children))),
                unknown=list(enumerate(children)),
                fingerprints=b"",
                holder=Holder(self._snapshot_id, level, index),
                child_indexes=[first_child + slot for slot in slots_of(bitmap)] if level else (),
            )
        )
