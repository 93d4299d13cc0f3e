"""Checking what the rows say of nodes and blocks against the chunks themselves."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ebsim.blockmap.geometry import FAN_OUT
from ebsim.blockmap.node_format import Node, NodeMalformed, decode_node
from ebsim.chunkstore.chunk_index import find_node_rows, find_numbers
from ebsim.chunkstore.pack_format import Kind, Record
from ebsim.chunkstore.rows import NodeRow, decode_node_row
from ebsim.content.fingerprint import FINGERPRINT_SIZE, fingerprint
from ebsim.errors import UnsupportedFormat
from ebsim.ids import Digest
from ebsim.metadata.transactions import Metadata, Reader, Table

Buffer = bytes | bytearray | memoryview

_ROWS_PER_READ = 512
# Nodes are compared together once they have so many children: the scattered leaves of a
# sparse disk have one each, and looking each up by itself took most of a check's time.
_CHILDREN_PER_LOOK_UP = 4096
# Each costs some 100 bytes; a larger store has the first so many of those drawn compared.
_FINGERPRINTS_MAX = 1 << 18


class ReadNode(NamedTuple):
    """A node that was read and proved, and the number that the index has for it."""

    number: int
    record: Record
    node: Node


class ChunkComparison:
    """Takes chunks as they are read, from many threads, and compares them with the rows.

    Attributes:
        wrong_nodes: Numbers of nodes whose row is not what the node says, and why;
            complete once ``finish`` was called.
    """

    def __init__(self, metadata: Metadata, seed: int) -> None:
        self._metadata = metadata
        self._seed = seed
        self._lock = threading.Lock()
        self._fingerprints: dict[int, bytes] = {}
        self._waiting: list[ReadNode] = []
        self._children_waiting = 0
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
            self._note({number: str(error)})
            return
        with self._lock:
            self._waiting.append(ReadNode(number, record, node))
            self._children_waiting += 1 + len(node.children)
            if self._children_waiting < _CHILDREN_PER_LOOK_UP:
                return
            batch, self._waiting, self._children_waiting = self._waiting, [], 0
        self._compare(batch)

    def finish(self) -> None:
        """Compare what waits still; everything was taken."""
        batch, self._waiting, self._children_waiting = self._waiting, [], 0
        if batch:
            self._compare(batch)

    def _compare(self, batch: Sequence[ReadNode]) -> None:
        self._note(self._metadata.read(lambda reader: node_complaints(reader, batch)))

    def _note(self, complaints: dict[int, str]) -> None:
        with self._lock:
            self.wrong_nodes.update(complaints)

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


def node_complaints(reader: Reader, nodes: Sequence[ReadNode]) -> dict[int, str]:
    """What is wrong with the rows of *nodes*, by number; nothing of those that are right."""
    wanted = {one.record.digest for one in nodes}
    wanted.update(*(one.node.children for one in nodes))
    numbers = find_numbers(reader, wanted)
    # Others were freed since they were read.
    present = [one for one in nodes if numbers.get(one.record.digest) == one.number]
    rows = find_node_rows(reader, [one.number for one in present])
    complaints = {}
    for one, row in zip(present, rows, strict=True):
        # Missing rows are found where the rows are audited.
        complaint = _row_complaint(one, row, numbers) if row is not None else ""
        if complaint:
            complaints[one.number] = complaint
    return complaints


def _row_complaint(one: ReadNode, row: NodeRow, numbers: Mapping[Digest, int]) -> str:
    if row.kind != one.record.kind or (row.kind == Kind.LEAF) != (one.node.level == 0):
        return "its row, record and bytes disagree whether it is a leaf"
    if row.bitmap != one.node.bitmap.to_bytes(FAN_OUT // 8, "little"):
        return "its row has another presence bitmap"
    if [numbers.get(digest) for digest in one.node.children] != list(row.children):
        return "its row has other children"
    return ""
