"""The leaves that an interrupted snapshot had finished, for the next one to go on from."""

from collections.abc import Iterable, Iterator

from ebsim.blockmap.geometry import FAN_OUT_BITS
from ebsim.blockmap.node_format import Inner, decode_node
from ebsim.chunkstore.chunk_reader import ChunkReader
from ebsim.chunkstore.rows import Holder, decode_hold, decode_holder, hold_prefix
from ebsim.ids import Digest, SnapshotId
from ebsim.metadata.transactions import Reader, Table

# More than this is not looked up: it costs compression again, and bounds the memory.
_INTERRUPTED_MAX = 1 << 16


def held_nodes(reader: Reader, owner: SnapshotId) -> list[tuple[Holder, Digest]]:
    """The nodes that an interrupted snapshot had finished."""
    prefix = hold_prefix(owner)
    rows = reader.scan(Table.HOLDS, prefix, prefix + b"\xff" * 10, limit=_INTERRUPTED_MAX)
    return [(decode_holder(key), Digest(decode_hold(value)[1])) for key, value in rows]


def leaves_below(
    chunks: ChunkReader, nodes: Iterable[tuple[Holder, Digest]]
) -> Iterator[tuple[int, Digest]]:
    """Yield index and digest of the leaves that *nodes* are or lead to."""
    for holder, digest in nodes:
        if holder.level == 0:
            yield holder.place, digest
            continue
        node = decode_node(bytes(chunks.read(digest)))
        assert isinstance(node, Inner), "a hold above the leaves is on an inner node"
        first = holder.place << FAN_OUT_BITS
        children = [
            (Holder(holder.owner, holder.level - 1, first + slot), child)
            for slot, child in node.entries().items()
        ]
        yield from leaves_below(chunks, children)
