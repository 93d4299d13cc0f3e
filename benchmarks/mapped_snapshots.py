"""Snapshots of very many blocks, made without their bytes.

All blocks of such a snapshot are one chunk.  For what walks block maps that is no
difference: the nodes are as many and as large as those of blocks that all differ.
"""

from collections.abc import Iterable, Iterator

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.map_update import updated_map
from ebsim.blockmap.node_store import empty_root
from ebsim.catalog.manifest import write_manifest
from ebsim.catalog.records import find_volume, put_snapshot, put_volume
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.volume import UNKNOWN_VOLUME
from ebsim.chunkstore.chunk_writer import ChunkWriter
from ebsim.content.digest import block_digest
from ebsim.engine.holds import drop_all_holds, root_holder, take_hold
from ebsim.engine.new_nodes import NewNodes
from ebsim.engine.region import Region, next_generation
from ebsim.ids import Digest, new_snapshot_id
from ebsim.metadata.transactions import Transaction
from ebsim.units import GIB, KIB

BLOCK_SIZE = 512 * KIB
_BLOCK = b"one for all".ljust(BLOCK_SIZE, b".")
_BLOCKS_PER_COMMIT = 1 << 14


def mapped_snapshot(
    region: Region, parent: Snapshot | None, indexes: Iterable[int], block_count: int
) -> Snapshot:
    """A completed snapshot in which the blocks at *indexes*, rising, were written.

    *block_count* is how many it has then, with those of its *parent*.
    """
    snapshot_id = new_snapshot_id(region.random)
    now_ns = region.clock.now_ns()
    generation = region.metadata.run(lambda txn: next_generation(txn, now_ns))
    with region.session() as session:
        writer = ChunkWriter(
            region.backend, region.metadata, session, level=1, read_again=lambda _index: _BLOCK
        )
        try:
            digest = block_digest(_BLOCK)
            writer.put_blocks([(digest, _BLOCK)])
            nodes = NewNodes(region.chunks, writer, snapshot_id)
            base = parent.root if parent is not None and parent.root else empty_root()
            changes = _changes(indexes, (digest, generation), writer)
            root = updated_map(BlockMap(base, nodes), changes)
            writer.flush()
        finally:
            writer.close()
        snapshot = Snapshot(
            snapshot_id=snapshot_id,
            volume_id=UNKNOWN_VOLUME.volume_id,
            owner_id=region.account_id,
            state=SnapshotState.COMPLETED,
            start_time_ns=now_ns,
            completion_time_ns=now_ns,
            size_bytes=-(-block_count * BLOCK_SIZE // GIB) * GIB,
            block_size=BLOCK_SIZE,
            generation=generation,
            root=root,
            block_count=block_count,
            lineage=parent.lineage if parent is not None else snapshot_id,
        )
        write_manifest(region.backend, snapshot, UNKNOWN_VOLUME)
        region.metadata.run(lambda txn: _complete(txn, snapshot, root))
        drop_all_holds(region, snapshot_id, keep=root_holder(snapshot_id))
    return snapshot


def _changes(
    indexes: Iterable[int], entry: tuple[Digest, int], writer: ChunkWriter
) -> Iterator[tuple[int, tuple[Digest, int]]]:
    for count, index in enumerate(indexes, 1):
        yield index, entry
        if not count % _BLOCKS_PER_COMMIT:
            writer.commit_ready()


def _complete(txn: Transaction, snapshot: Snapshot, root: Digest) -> None:
    put_snapshot(txn, snapshot)
    if find_volume(txn, UNKNOWN_VOLUME.volume_id) is None:
        put_volume(txn, UNKNOWN_VOLUME)
    take_hold(txn, root_holder(snapshot.snapshot_id), root)
