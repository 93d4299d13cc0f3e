"""Archiving a snapshot: storing it complete by itself, and giving back what only it needed.

    1  transaction   archival in progress; a session has noted the snapshot
    2  packs sealed in the archive, then read back: every node and block proved
    3  manifest written: archived
    4  transaction   archived: its hold on the root is dropped
    5  the reclaim queue is emptied

A process that dies before 4 leaves a snapshot as it was, whose archival failed, and packs
in the archive that recovery removes.

Source: https://docs.aws.amazon.com/ebs/latest/userguide/snapshot-archive.html
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from ebsim.blockmap.node_format import Leaf, Node, encode_node
from ebsim.blockmap.reachable_nodes import UnreadableNode, reachable_nodes
from ebsim.blockmap.stored_nodes import StoredNodes
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.storage_tier import Archive, Tiering, TieringStatus
from ebsim.chunkstore.number_set import NumberSet
from ebsim.chunkstore.pack_format import Kind
from ebsim.chunkstore.pack_writer import PackWriter
from ebsim.engine.archive_check import archive_faults
from ebsim.engine.holds import drop_holds
from ebsim.engine.ordered_work import in_threads
from ebsim.engine.reading_snapshot import reading_snapshot
from ebsim.engine.record_tier_events import TierFacts, snapshot_archived
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.storage_tiers import refuse_archived, switch_tier
from ebsim.engine.tier_change import TierChange
from ebsim.errors import Conflict, IntegrityError
from ebsim.ids import Digest
from ebsim.metadata.transactions import Transaction
from ebsim.progress import Progress, Unwatched

ARCHIVE_LEVEL = 12
"""Of zstd.  Beyond it block-sized chunks take several times as long to save some percent."""

_NODES_WAITING_PER_THREAD = 3


def archive_snapshot(region: Region, name: str, progress: Progress | None = None) -> Snapshot:
    """Archive the account's completed snapshot *name*; return it.

    It cannot be used from then on until it is restored.  Cost: every block it has is read
    twice and compressed once, whatever it shares.

    Raises:
        SnapshotNotFound, InvalidRequest, NotPermitted: *name*.
        SnapshotArchived, Conflict: it is archived, being changed, or not completed.
        ChunkCorrupt, ChunkMissing: it is damaged; it stays as it was.
        StorageFull, StorageUnavailable: it stays as it was.
    """
    return Archival(region, name).run(progress or Unwatched())


class Archival:
    """An archival that has begun; ``run`` brings it to an end."""

    def __init__(self, region: Region, name: str) -> None:
        """Step 1.

        Raises:
            As :func:`archive_snapshot`.
        """
        recover(region)
        self._region = region
        self._change = TierChange(region, name, self._begun)

    @property
    def snapshot(self) -> Snapshot:
        return self._change.snapshot

    def _begun(self, old: Snapshot) -> Snapshot:
        refuse_archived(self._region, old)
        if old.state is not SnapshotState.COMPLETED:
            raise Conflict(f"{old.snapshot_id} is {old.state}, not completed. Nothing was done.")
        if old.archive is not None:
            raise Conflict(
                f"{old.snapshot_id} is restored for a time, and archived again when that ends. "
                "Nothing was changed."
            )
        now_ns = self._region.clock.now_ns()
        return replace(old, tiering=Tiering(TieringStatus.ARCHIVAL_IN_PROGRESS, now_ns))

    def run(self, progress: Progress) -> Snapshot:
        """Steps 2 to 5."""
        with self._change.running():
            return self._archive(progress)

    def _archive(self, progress: Progress) -> Snapshot:
        region, snapshot = self._region, self._change.snapshot
        root = snapshot.root
        assert root is not None, "a completed snapshot has a root unless it is archived"
        with reading_snapshot(region, snapshot):
            archive = self._write(root, progress)
            for fault in archive_faults(region.backend, archive, 1.0, region.random):
                raise IntegrityError(
                    f"the archive of {snapshot.snapshot_id} is damaged as soon as it was "
                    f"written: {fault.where}: {fault.what}. The snapshot was not archived. "
                    "Check the disk."
                )

        def archived(old: Snapshot) -> Snapshot:
            assert old.tiering is not None, "its archival has begun"
            return replace(old, root=None, archive=archive, tiering=old.tiering.completed())

        def let_go(txn: Transaction, new: Snapshot) -> None:
            drop_holds(txn, new.snapshot_id)
            assert new.tiering is not None, "it was archived"
            snapshot_archived(txn, region, new, TierFacts(start_ns=new.tiering.start_time_ns))

        return switch_tier(region, snapshot.snapshot_id, archived, let_go)

    def _write(self, root: Digest, progress: Progress) -> Archive:
        """Step 2, all but the proof."""
        region, snapshot = self._region, self._change.snapshot
        packs = PackWriter(region.backend, self._change.session.next_archive_pack_name)
        try:
            progress.begin("archive", snapshot.block_count * snapshot.block_size)
            threads = len(os.sched_getaffinity(0))
            writing = _Writing(region, packs)
            for block_count in in_threads(
                writing.write, writing.nodes(root), threads, _NODES_WAITING_PER_THREAD * threads
            ):
                progress.advance(block_count * snapshot.block_size)
            packs.flush()
        finally:
            packs.close()
            progress.end()
        return Archive(
            archive_id=self._change.session.session_id,
            root=root.hex(),
            pack_count=len(packs.names),
            size_bytes=sum(packs.sizes),
            complete_time_ns=region.clock.now_ns(),
        )


class _NewNode(NamedTuple):
    """A node to be archived, with those of its blocks that are not in the archive yet."""

    digest: Digest
    node: Node
    blocks: list[Digest]


class _Writing:
    """Writing what is below a root, each chunk once."""

    def __init__(self, region: Region, packs: PackWriter) -> None:
        self._chunks = region.chunks
        self._packs = packs
        self._seen = NumberSet()

    def nodes(self, root: Digest) -> Iterator[_NewNode]:
        """Yield every node below *root* once; for one thread.

        Raises:
            ChunkCorrupt, ChunkMissing: one cannot be read.
        """
        store = StoredNodes(self._chunks)
        for reached in reachable_nodes([root], store, lambda digest: bool(self._new([digest]))):
            if isinstance(reached, UnreadableNode):
                raise reached.error
            node = reached.node
            blocks = self._new(node.children) if isinstance(node, Leaf) else []
            yield _NewNode(reached.digest, node, blocks)

    def _new(self, digests: Sequence[Digest]) -> list[Digest]:
        """Those of *digests* that were not seen; one that the store lacks is let through."""
        found = self._chunks.find(digests)
        return [
            digest
            for digest, place in zip(digests, found, strict=True)
            if place is None or self._seen.add(place.number)
        ]

    def write(self, new: _NewNode) -> int:
        """Append a node and its blocks; return how many blocks.  From any thread."""
        for digest in new.blocks:
            self._packs.append(Kind.BLOCK, digest, self._chunks.read(digest), ARCHIVE_LEVEL)
        kind = Kind.LEAF if isinstance(new.node, Leaf) else Kind.INNER
        self._packs.append(kind, new.digest, encode_node(new.node), ARCHIVE_LEVEL)
        return len(new.blocks)
