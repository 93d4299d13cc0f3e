"""Comparing two snapshots block by block, without reading what they share."""

from collections.abc import Iterator
from typing import NamedTuple

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.changed_blocks import changed_blocks
from ebsim.blockmap.stored_nodes import StoredNodes
from ebsim.catalog.records import get_usable_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.content.digest import zeros_digest
from ebsim.engine.holds import reading
from ebsim.engine.region import Region
from ebsim.engine.storage_tiers import refuse_archived
from ebsim.errors import Conflict, InvalidRequest
from ebsim.ids import Digest
from ebsim.units import format_size


class BlockDifference(NamedTuple):
    """A block whose bytes differ; a digest of ``None`` is a block of zeros."""

    block_index: int
    first_digest: Digest | None
    second_digest: Digest | None


class ByteRange(NamedTuple):
    """A half-open range of bytes of the disk."""

    start: int
    stop: int


def completed_snapshot(region: Region, name: str) -> tuple[Snapshot, Digest]:
    """The completed snapshot of that id or unique prefix, and its root.

    Raises:
        SnapshotNotFound, InvalidRequest: *name*.
        Conflict: it is not completed.
        SnapshotArchived: it is archived.
    """
    snapshot = region.metadata.read(
        lambda reader: get_usable_snapshot(reader, region.account_id, name)
    )
    refuse_archived(region, snapshot)
    if snapshot.state is not SnapshotState.COMPLETED or snapshot.root is None:
        raise Conflict(
            f"{snapshot.snapshot_id} is in state {snapshot.state}, expected completed. "
            "Wait until it is."
        )
    return snapshot, snapshot.root


def diff_snapshots(region: Region, first_name: str, second_name: str) -> Iterator[BlockDifference]:
    """Yield the blocks that differ between two snapshots, by rising index.

    Cost: the paths to what differs, in nodes read.  A block that is absent on one side and
    zeros on the other is no difference.

    Raises:
        InvalidRequest: the snapshots' block sizes differ.
        Conflict: one is not completed.
    """
    first, first_root = completed_snapshot(region, first_name)
    second, second_root = completed_snapshot(region, second_name)
    if first.block_size != second.block_size:
        raise InvalidRequest(
            f"{first.snapshot_id} has blocks of {format_size(first.block_size)}, "
            f"{second.snapshot_id} of {format_size(second.block_size)}: only snapshots of one "
            "block size can be compared."
        )
    with reading(region, first_root, second_root):
        nodes = StoredNodes(region.chunks)
        zeros = zeros_digest(first.block_size)
        for change in changed_blocks(BlockMap(first_root, nodes), BlockMap(second_root, nodes)):
            if {change.first, change.second} != {None, zeros}:
                yield BlockDifference(change.block_index, change.first, change.second)


def ranges_of(
    differences: Iterator[BlockDifference], block_size: int, size_bytes: int
) -> Iterator[ByteRange]:
    """Yield the byte ranges that the blocks make up, neighbours joined, none past the end."""
    current: ByteRange | None = None
    for difference in differences:
        start = difference.block_index * block_size
        stop = min(start + block_size, size_bytes)
        if current is not None and current.stop == start:
            current = ByteRange(current.start, stop)
            continue
        if current is not None:
            yield current
        current = ByteRange(start, stop)
    if current is not None:
        yield current
