"""The nodes of a snapshot being taken, on their way into the chunk store."""

from array import array
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence

from ebsim.blockmap.geometry import FAN_OUT, FAN_OUT_BITS
from ebsim.blockmap.node_format import Inner, decode_node, slots_of
from ebsim.blockmap.stored_nodes import StoredNodes
from ebsim.chunkstore.chunk_reader import ChunkReader
from ebsim.chunkstore.chunk_writer import ChunkWriter
from ebsim.chunkstore.node_commit import NewNode
from ebsim.chunkstore.pack_format import Kind
from ebsim.chunkstore.rows import Holder
from ebsim.ids import Digest

# On each level.  The walk over the parent's leaves is a few leaves ahead of the update, and
# in a sparse map each of those may lie below another node.
_BASES_KEPT = 16


class NewNodes(StoredNodes):
    """A ``NodeStore`` that writes the nodes of one snapshot being taken.

    What it loads are nodes of the parent's map, which the snapshot's session holds: so the
    numbers of their children are good, and a new node that is made from one need not look
    up again the children that it keeps.
    """

    def __init__(self, chunks: ChunkReader, writer: ChunkWriter, owner: str) -> None:
        """*owner* holds the nodes until something else does."""
        super().__init__(chunks)
        self._writer = writer
        self._owner = owner
        self.store_count = 0
        self._bases: defaultdict[int, deque[Mapping[Digest, int]]] = defaultdict(
            lambda: deque(maxlen=_BASES_KEPT)
        )

    def load(self, digest: Digest) -> bytes:
        data = super().load(digest)
        node = decode_node(data)
        if isinstance(node, Inner):
            numbers = self._writer.children_of(digest)
            if len(numbers) == len(node.children):
                known = dict(zip(node.children, numbers, strict=True))
                self._bases[node.level].append(known)
        return data

    def store(
        self, digest: Digest, data: bytes, *, level: int, index: int, children: Sequence[Digest]
    ) -> None:
        self.store_count += 1
        bitmap = decode_node(data).bitmap
        numbers = array("Q", self._known(level, children))
        unknown = [(at, child) for at, child in enumerate(children) if not numbers[at]]
        places = [(index << FAN_OUT_BITS) + slot for slot in slots_of(bitmap)] if level else []
        self._writer.put_node(
            NewNode(
                digest=digest,
                kind=Kind.INNER if level else Kind.LEAF,
                encoded=data,
                bitmap=bitmap.to_bytes(FAN_OUT // 8, "little"),
                children=numbers,
                unknown=unknown,
                fingerprints=b"",
                holder=Holder(self._owner, level, index),
                child_indexes=[places[at] for at, _ in unknown] if level else (),
            )
        )

    def _known(self, level: int, children: Sequence[Digest]) -> Iterator[int]:
        """The number of each of *children* that a node loaded lately has; 0 for the others."""
        bases = list(self._bases[level])[::-1]
        for child in children:
            yield next((base[child] for base in bases if child in base), 0)
