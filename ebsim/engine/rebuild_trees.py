"""The trees of a rebuild: edges, reference counts, and what is reached, from the roots."""

from array import array
from collections.abc import Sequence
from functools import partial

from ebsim.blockmap.geometry import FAN_OUT
from ebsim.blockmap.node_format import Inner, Node, NodeMalformed, decode_node
from ebsim.chunkstore.chunk_index import find_numbers
from ebsim.chunkstore.chunk_reader import ChunkReader
from ebsim.chunkstore.index_rebuild import LostChunks
from ebsim.chunkstore.ledger import ReferenceTally
from ebsim.chunkstore.number_set import NumberSet
from ebsim.chunkstore.pack_format import Kind
from ebsim.chunkstore.rows import Holder, NodeRow, encode_hold, encode_node_row, number_key
from ebsim.errors import IntegrityError
from ebsim.ids import Digest
from ebsim.metadata.transactions import Metadata, Row, Table, Transaction

_ROWS_PER_STEP = 512


class TreeRebuild:
    """Walks the trees of snapshots and volumes in new metadata and writes their rows.

    Attributes:
        reached: The chunks that some snapshot or volume needs.
        damaged: Those of them that cannot be read, and why.
        has_lost_nodes: Whether a node is among them: then what it led to is not reached.
    """

    def __init__(self, metadata: Metadata, chunks: ChunkReader) -> None:
        self._metadata = metadata
        self._chunks = chunks
        self._tally = ReferenceTally()
        self._lost = LostChunks()
        self._rows: list[Row] = []
        self._holds: list[Row] = []
        self.reached = NumberSet()
        self.damaged: dict[int, str] = {}
        self.has_lost_nodes = False

    def add_root(self, holder: Holder, root: Digest) -> bool:
        """Walk what is new below *root* and hold it; ``False`` if the store has no such node."""
        number = self._metadata.read(lambda reader: find_numbers(reader, [root])).get(root)
        if number is None:
            self.has_lost_nodes = True
            return False
        self._holds.append((holder.key(), encode_hold(number, root)))
        self._tally.add((number,))
        self._walk(number, root)
        return True

    def _walk(self, number: int, root: Digest) -> None:
        waiting: list[tuple[int, Digest, int | None]] = []
        if self.reached.add(number):
            waiting.append((number, root, None))
        while waiting:
            number, digest, level = waiting.pop()
            try:
                node = self._load(digest, level)
            except IntegrityError as error:
                self.damaged[number] = str(error)
                self.has_lost_nodes = True
                continue
            children = self._children(node)
            self._tally.add(children)
            self._note_row(number, node, children)
            below = zip(children, node.children, strict=True)
            if isinstance(node, Inner):
                waiting += [
                    (child, digest, node.level - 1)
                    for child, digest in reversed(list(below))
                    if self.reached.add(child)
                ]
            else:
                for child in children:
                    self.reached.add(child)

    def _load(self, digest: Digest, level: int | None) -> Node:
        node = decode_node(bytes(self._chunks.read(digest)))
        if level is not None and node.level != level:
            raise NodeMalformed(digest, f"level {node.level} where {level} belongs")
        return node

    def _children(self, node: Node) -> Sequence[int]:
        """The numbers of a node's children; those in no pack get one."""
        numbers = self._metadata.read(lambda reader: find_numbers(reader, node.children))
        missing = [digest for digest in node.children if digest not in numbers]
        if missing:
            kind = _kind_below(node)
            numbers |= self._metadata.run(partial(self._number_lost, missing, kind))
        return array("Q", [numbers[digest] for digest in node.children])

    def _number_lost(
        self, missing: Sequence[Digest], kind: int, txn: Transaction
    ) -> dict[Digest, int]:
        found = {digest: self._lost.number_of(txn, digest, kind) for digest in missing}
        for number in found.values():
            self.damaged[number] = "it is in no pack"
        return found

    def _note_row(self, number: int, node: Node, children: Sequence[int]) -> None:
        row = NodeRow(
            Kind.INNER if isinstance(node, Inner) else Kind.LEAF,
            node.bitmap.to_bytes(FAN_OUT // 8, "little"),
            array("Q", children),
            b"",
        )
        self._rows.append((number_key(number), encode_node_row(row)))
        if len(self._rows) + len(self._holds) >= _ROWS_PER_STEP:
            self._write_rows()

    def _write_rows(self) -> None:
        rows, self._rows = sorted(self._rows), []
        holds, self._holds = sorted(self._holds), []

        def put(txn: Transaction) -> None:
            txn.put_many(Table.NODES, rows)
            txn.put_many(Table.HOLDS, holds)

        self._metadata.run(put)

    def finish(self) -> None:
        """Write what is left: edges, counts, damage."""
        self._write_rows()
        order = sorted(self._tally.pages)
        for first in range(0, len(order), _ROWS_PER_STEP):
            step = order[first : first + _ROWS_PER_STEP]
            rows = [(number_key(page), self._tally.pages[page].tobytes()) for page in step]
            self._metadata.run(lambda txn: txn.put_many(Table.COUNTS, rows))  # noqa: B023 (called at once)
        damaged = [(number_key(n), self.damaged[n].encode()) for n in sorted(self.damaged)]
        self._metadata.run(lambda txn: txn.put_many(Table.DAMAGED, damaged))


def _kind_below(node: Node) -> Kind:
    """What the children of *node* are."""
    if not isinstance(node, Inner):
        return Kind.BLOCK
    return Kind.LEAF if node.level == 1 else Kind.INNER
