"""What the verbs that read and write blocks share in one process, for one region."""

from functools import lru_cache, partial
from typing import NamedTuple

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.geometry import GEOMETRY
from ebsim.blockmap.node_format import EMPTY_LEAF, Leaf
from ebsim.blockmap.node_store import empty_root, load_leaf
from ebsim.blockmap.stored_nodes import StoredNodes
from ebsim.catalog.audience import may_use
from ebsim.catalog.records import find_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.engine.direct.block_puts import BlockPuts
from ebsim.engine.direct.block_scale import BlockScale
from ebsim.engine.direct.refusals import SnapshotUnusable
from ebsim.engine.direct.token_key import load_token_key
from ebsim.engine.region import Region
from ebsim.errors import SnapshotNotFound
from ebsim.ids import Digest, SnapshotId
from ebsim.metadata.transactions import Reader

BLOCK_TOKEN_SECONDS = 7 * 24 * 60 * 60
PAGE_TOKEN_SECONDS = 60 * 60
MAX_RESULTS_MIN, MAX_RESULTS_MAX = 100, 10_000

# Leaves are some 5 KiB each: 128 GiB of blocks that are read again and again.
_LEAVES_CACHED = 2048
_MAPS_CACHED = 32


class Readable(NamedTuple):
    """A snapshot whose blocks may be read, its map, and how that is read in blocks of 512 KiB."""

    snapshot: Snapshot
    block_map: BlockMap
    scale: BlockScale


class BlockAccess:
    """One process's access to the blocks of a region.  Safe to use from many threads.

    What it caches is named by digest, so it is never out of date; a node of a snapshot that
    was deleted may still be in it, and no snapshot leads there.
    """

    def __init__(self, region: Region, *, listing_lag_seconds: float = 0) -> None:
        """*listing_lag_seconds*: for so long after its completion a snapshot is not found."""
        self.token_key = load_token_key(region)
        self.puts = BlockPuts(region)
        self._listing_lag_ns = round(listing_lag_seconds * 1e9)
        self.nodes = StoredNodes(region.chunks)
        self._block_map = lru_cache(_MAPS_CACHED)(partial(_map_of, store=self.nodes))
        self._leaf = lru_cache(_LEAVES_CACHED)(partial(load_leaf, self.nodes))

    def close(self) -> None:
        """Nothing is put any more; the small packs of puts are merged."""
        self.puts.close()

    def readable(self, region: Region, snapshot_id: SnapshotId) -> Readable:
        """The snapshot, if the region's account may read its blocks.

        Raises:
            SnapshotNotFound: it is not there, not completed, or kept from the account.
            SnapshotUnusable: it is another account's, and public, or archived.
        """
        snapshot = region.metadata.read(lambda reader: _usable(reader, region, snapshot_id))
        if snapshot.is_archived_at(region.clock.now_ns()):
            raise SnapshotUnusable("Archived snapshots are not supported")
        if snapshot.root is None or snapshot.state is not SnapshotState.COMPLETED:
            raise SnapshotNotFound(snapshot_id)
        completed_ns = snapshot.completion_time_ns or 0
        if self._listing_lag_ns and region.clock.now_ns() < completed_ns + self._listing_lag_ns:
            raise SnapshotNotFound(snapshot_id)
        scale = BlockScale(snapshot.block_size)
        return Readable(snapshot, self._block_map(snapshot.root), scale)

    def block_digest(self, block_map: BlockMap, block_index: int) -> Digest | None:
        """The digest of a block; ``None`` where it is absent."""
        leaf_index, slot = GEOMETRY.split(block_index)
        leaf_digest = block_map.leaf_digest(leaf_index)
        if leaf_digest is None:
            return None
        entry = self._leaf_of(leaf_digest).get(slot)
        return None if entry is None else entry[0]

    def _leaf_of(self, digest: Digest) -> Leaf:
        return EMPTY_LEAF if digest == empty_root() else self._leaf(digest)


def _usable(reader: Reader, region: Region, snapshot_id: SnapshotId) -> Snapshot:
    """The snapshot, if it is the account's own or was shared with it by name."""
    snapshot = find_snapshot(reader, snapshot_id)
    if snapshot is None or not may_use(reader, snapshot, region.account_id):
        raise SnapshotNotFound(snapshot_id)
    if region.account_id not in (snapshot.owner_id, *snapshot.shared_with):
        raise SnapshotUnusable("Public snapshots are not supported")
    return snapshot


def _map_of(root: Digest, *, store: StoredNodes) -> BlockMap:
    return BlockMap(root, store)
