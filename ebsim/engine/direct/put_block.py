"""Putting one block of a pending snapshot."""

from ebsim.catalog.direct_snapshot import find_direct
from ebsim.catalog.records import find_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.engine.direct.block_puts import BlockPuts, Buffer
from ebsim.engine.direct.refusals import BlockRefused, SnapshotAlreadyCompleted
from ebsim.engine.direct.start_direct_snapshot import DIRECT_BLOCK_SIZE
from ebsim.engine.region import Region
from ebsim.errors import SnapshotNotFound
from ebsim.ids import SnapshotId
from ebsim.metadata.transactions import Reader


def put_block(
    region: Region,
    puts: BlockPuts,
    snapshot_id: SnapshotId,
    block_index: int,
    block: tuple[Buffer, bytes],
) -> None:
    """Put *block*, its bytes and their SHA-256; return when it survives a power cut.

    Any order; the last put at an index stays; a block of zeros is present as any other.

    Raises:
        SnapshotNotFound: the account has no such snapshot that blocks can be put to.
        SnapshotAlreadyCompleted: it is completed, or was asked to be.
        BlockRefused: the index is beyond the volume, or the bytes are not 512 KiB.
        StorageFull, StorageUnavailable: whether it was put is not known.
    """
    data, sha256 = block
    check_puttable(region, snapshot_id, block_index)
    if len(data) != DIRECT_BLOCK_SIZE:
        raise BlockRefused(
            f"Block data length {len(data)} is not valid, expected {DIRECT_BLOCK_SIZE}"
        )
    puts.put(snapshot_id, block_index, data, sha256)


def check_puttable(region: Region, snapshot_id: SnapshotId, block_index: int) -> None:
    """Refuse a put before its bytes are there, as ``put_block`` does."""
    snapshot = region.metadata.read(lambda reader: _pending(reader, region, snapshot_id))
    if not 0 <= block_index < snapshot.size_bytes // DIRECT_BLOCK_SIZE:
        raise BlockRefused(f"Block index {block_index} is beyond the volume size extent")


def _pending(reader: Reader, region: Region, snapshot_id: SnapshotId) -> Snapshot:
    snapshot = find_snapshot(reader, snapshot_id)
    if snapshot is None or snapshot.owner_id != region.account_id:
        raise SnapshotNotFound(snapshot_id)
    if snapshot.state is SnapshotState.COMPLETED:
        raise SnapshotAlreadyCompleted
    record = find_direct(reader, snapshot_id)
    if record is None:
        raise SnapshotNotFound(snapshot_id)
    if record.request is not None:
        raise SnapshotAlreadyCompleted
    return snapshot
