"""Checking what the rows say of nodes and blocks against the chunks themselves."""

import threading
from collections.abc import Iterator

from ebsim.blockmap.geometry import FAN_OUT
from ebsim.blockmap.node_format import Node, NodeMalformed, decode_node
from ebsim.chunkstore.chunk_index import find_node_rows, find_numbers
from ebsim.chunkstore.pack_format import Kind, Record
from ebsim.chunkstore.rows import NodeRow, decode_node_row
from ebsim.content.fingerprint import FINGERPRINT_SIZE, fingerprint
from ebsim.errors import UnsupportedFormat
from ebsim.metadata.transactions import Metadata, Reader, Table

Buffer = bytes | bytearray | memoryview

_ROWS_PER_READ = 512
# Each costs some 100 bytes; a larger store has the first so many of those drawn compared.
_FINGERPRINTS_MAX = 1 << 18


class ChunkComparison:
    """Takes chunks as they are read, from many threads, and compares them with the rows.

    Attributes:
        wrong_nodes: Numbers of nodes whose row is not what the node says, and why.
    """

    def __init__(self, metadata: Metadata, seed: int) -> None:
        self._metadata = metadata
        self._seed = seed
        self._lock = threading.Lock()
        self._fingerprints: dict[int, bytes] = {}
        self.wrong_nodes: dict[int, str] = {}

    def take(self, number: int, record: Record, chunk: Buffer) -> None:
        """Compare a chunk that was read and proved."""
        if record.kind == Kind.BLOCK:
            if len(self._fingerprints) < _FINGERPRINTS_MAX:
                self._fingerprints[number] = fingerprint(chunk, self._seed)
            return
        try:
            node = decode_node(bytes(chunk))
        except (NodeMalformed, UnsupportedFormat) as error:
            complaint = str(error)
        else:
            complaint = self._metadata.read(
                lambda reader: node_complaint(reader, number, record, node)
            )
        if complaint:
            with self._lock:
                self.wrong_nodes[number] = complaint

    def wrong_fingerprints(self) -> Iterator[int]:
        """Yield the leaves in whose rows a block taken has another fingerprint."""
        if not self._fingerprints:
            return
        start = b""
        while True:
            rows = self._metadata.read(
                lambda reader: reader.scan(Table.NODES, start, limit=_ROWS_PER_READ)  # noqa: B023 (called at once)
            )
            for key, value in rows:
                if not self._fits(decode_node_row(value)):
                    yield int.from_bytes(key, "big")
            if len(rows) < _ROWS_PER_READ:
                return
            start = rows[-1][0] + b"\0"

    def _fits(self, row: NodeRow) -> bool:
        if not row.fingerprints:
            return True
        known = self._fingerprints
        return all(
            known[child] == row.fingerprints[at : at + FINGERPRINT_SIZE]
            for child, at in zip(
                row.children, range(0, len(row.fingerprints), FINGERPRINT_SIZE), strict=True
            )
            if child in known
        )


def node_complaint(reader: Reader, number: int, record: Record, node: Node) -> str:
    """What is wrong with the row of the node *number*, or nothing."""
    if find_numbers(reader, [record.digest]).get(record.digest) != number:
        return ""  # Freed since it was read.
    (row,) = find_node_rows(reader, [number])
    if row is None:
        return ""  # Missing rows are found where the rows are audited.
    if row.kind != record.kind or (record.kind == Kind.LEAF) != (node.level == 0):
        return "its row, record and bytes disagree whether it is a leaf"
    if row.bitmap != node.bitmap.to_bytes(FAN_OUT // 8, "little"):
        return "its row has another presence bitmap"
    numbers = find_numbers(reader, node.children)
    if [numbers.get(digest) for digest in node.children] != list(row.children):
        return "its row has other children"
    return ""
