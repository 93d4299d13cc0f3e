"""Which snapshots, and which of their blocks, a damaged chunk belongs to.

Asked only when there is damage.  The rows of edges are scanned once for each level of the
tallest tree, to find the nodes above the damage; then only those are walked, from each
snapshot's root.  Rows are walked and not nodes: a damaged node still has its row.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from ebsim.blockmap.geometry import FAN_OUT_BITS
from ebsim.blockmap.node_format import slots_of
from ebsim.catalog.snapshot import Snapshot, SnapshotState, decode_snapshot
from ebsim.chunkstore.chunk_index import find_node_rows
from ebsim.chunkstore.ledger import scan_all
from ebsim.chunkstore.number_set import NumberSet
from ebsim.chunkstore.pack_format import Kind
from ebsim.chunkstore.rows import NodeRow, decode_hold, decode_node_row
from ebsim.engine.check_report import AffectedSnapshot, BlockRange, merged_ranges
from ebsim.engine.holds import root_holder
from ebsim.metadata.transactions import Metadata, Reader, Table

if TYPE_CHECKING:
    from ebsim.ids import VolumeId

# More is counted and not listed: a lost pack can take a million blocks along.
_RANGES_MAX = 1 << 16


class BlastRadius:
    """Whose blocks each of some damaged chunks are.

    Attributes:
        affects: By chunk number.
        sources: For each chunk that is a block, a volume and block index to find it at.
    """

    def __init__(self, metadata: Metadata, damaged: Collection[int]) -> None:
        self._damaged = NumberSet(damaged)
        self._ranges_left = _RANGES_MAX
        self.affects: dict[int, list[AffectedSnapshot]] = {}
        self.sources: defaultdict[int, list[tuple[VolumeId, int, int]]] = defaultdict(list)
        if damaged:
            metadata.read(self._find)

    def _find(self, reader: Reader) -> None:
        above = self._nodes_above(reader)
        self.affects, self.sources = {}, defaultdict(list)
        for _, row in scan_all(reader, Table.SNAPSHOTS):
            snapshot = decode_snapshot(row)
            if snapshot.state is SnapshotState.COMPLETED and self._ranges_left > 0:
                self._walk(reader, snapshot, above)

    def _nodes_above(self, reader: Reader) -> NumberSet:
        """The nodes below which some damage lies."""
        above = NumberSet()
        grew = True
        while grew:
            grew = False
            for key, value in scan_all(reader, Table.NODES):
                number = int.from_bytes(key, "big")
                if number in above:
                    continue
                children = decode_node_row(value).children
                if any(child in self._damaged or child in above for child in children):
                    grew |= above.add(number)
        return above

    def _walk(self, reader: Reader, snapshot: Snapshot, above: NumberSet) -> None:
        (hold,) = reader.get_many(Table.HOLDS, [root_holder(snapshot.snapshot_id).key()])
        if hold is None:
            return
        root = decode_hold(hold)[0]
        height = _height(reader, root)
        found: defaultdict[int, list[BlockRange]] = defaultdict(list)
        whole = set()
        if height is None:
            if root in self._damaged:
                whole.add(root)
                found[root] = []
        else:
            block_count = -(-snapshot.size_bytes // snapshot.block_size)
            for number, start, stop in self._damage_below(reader, root, height, above):
                found[number].append(BlockRange(start, min(stop, block_count)))
                self._ranges_left -= 1
                if stop == start + 1:
                    self.sources[number].append((snapshot.volume_id, start, snapshot.block_size))
        for number, ranges in found.items():
            self.affects.setdefault(number, []).append(
                AffectedSnapshot(snapshot.snapshot_id, merged_ranges(ranges), number in whole)
            )

    def _damage_below(
        self, reader: Reader, root: int, height: int, above: NumberSet
    ) -> Iterator[tuple[int, int, int]]:
        """Yield each damaged chunk below *root* and the blocks that it covers."""
        waiting = [(root, height, 0)]
        while waiting and self._ranges_left > 0:
            number, level, index = waiting.pop()
            shift = FAN_OUT_BITS * (level + 1)
            if number in self._damaged:
                yield number, index << shift, (index + 1) << shift
            if level < 0 or number not in above:
                continue
            (row,) = find_node_rows(reader, [number])
            if row is not None:
                for slot, child in children_of(row).items():
                    if child in self._damaged or child in above:
                        waiting.append((child, level - 1, (index << FAN_OUT_BITS) + slot))


def children_of(row: NodeRow) -> Mapping[int, int]:
    """The chunk numbers of a node's children by slot."""
    bitmap = int.from_bytes(row.bitmap, "little")
    return dict(zip(slots_of(bitmap), row.children, strict=True))


def _height(reader: Reader, root: int) -> int | None:
    """The level of the node *root* by the rows below it, ``None`` if one is missing."""
    level, number = 0, root
    while True:
        (row,) = find_node_rows(reader, [number])
        if row is None:
            return None
        if row.kind == Kind.LEAF:
            return level
        level, number = level + 1, row.children[0]
