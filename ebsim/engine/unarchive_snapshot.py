"""Restoring an archived snapshot to the standard tier, for some days or for good.

    1  transaction   restore in progress; a session has noted the snapshot
    2  packs sealed, transaction after transaction: finished nodes, held by the session
    3  manifest written: restored
    4  transaction   restored: its root is held; for good: its archive is to be deleted
    5  holds that are not the root's dropped; the archive deleted

A process that dies before 4 leaves it archived, and what it had stored to recovery.  What
is restored for a time keeps its archive: when the time is over, only the hold is dropped.
"""

import os
from dataclasses import replace

from ebsim.blockmap.geometry import FAN_OUT
from ebsim.catalog.records import drop_archive
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.storage_tier import Archive, Tiering, TieringStatus
from ebsim.chunkstore.archive_reader import ArchiveReader
from ebsim.chunkstore.chunk_writer import ChunkWriter
from ebsim.content.compression import LEVEL_DEFAULT
from ebsim.engine.copy_tree import TreeCopy
from ebsim.engine.direct.reading_on import reading_on
from ebsim.engine.holds import reader_of, root_holder, take_hold
from ebsim.engine.record_tier_events import (
    TierFacts,
    snapshot_restored_permanently,
    snapshot_restored_temporarily,
)
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.storage_tiers import switch_tier
from ebsim.engine.tier_change import TierChange
from ebsim.errors import Conflict, InvalidRequest
from ebsim.ids import Digest
from ebsim.metadata.transactions import Transaction
from ebsim.progress import Progress, Unwatched

DAY_NS = 24 * 3600 * 10**9
DAYS_MAX = 36500
"""A hundred years: Amazon names no limit, and a time must fit the clock."""


def unarchive_snapshot(
    region: Region, name: str, days: int | None = None, progress: Progress | None = None
) -> Snapshot:
    """Restore the account's archived snapshot *name* for *days*, or for good; return it.

    Of one that is restored for a time, the time is changed, or it is kept for good.

    Raises:
        SnapshotNotFound, InvalidRequest, NotPermitted: *name*, or *days*; or it was deleted
            meanwhile.
        Conflict: it is not archived, or being changed.
        ChunkCorrupt, ChunkMissing: its archive is damaged; it stays archived.
        StorageFull, StorageUnavailable: it stays archived.
    """
    return Unarchival(region, name, days).run(progress or Unwatched())


class Unarchival:
    """A restore that has begun; ``run`` brings it to an end."""

    def __init__(self, region: Region, name: str, days: int | None) -> None:
        """Step 1.

        Raises:
            As :func:`unarchive_snapshot`.
        """
        if days is not None and not 1 <= days <= DAYS_MAX:
            raise InvalidRequest(
                f"{days} days are not from 1 to {DAYS_MAX}. Nothing was changed. Leave the days "
                "out to restore for good."
            )
        recover(region)
        self._region = region
        self._days = days
        self._change = TierChange(region, name, self._begun)

    @property
    def snapshot(self) -> Snapshot:
        return self._change.snapshot

    def _begun(self, old: Snapshot) -> Snapshot:
        if old.archive is None:
            raise Conflict(f"{old.snapshot_id} is not archived. Nothing was changed.")
        status = (
            TieringStatus.PERMANENT_RESTORE_IN_PROGRESS
            if self._days is None
            else TieringStatus.TEMPORARY_RESTORE_IN_PROGRESS
        )
        return replace(old, tiering=Tiering(status, self._region.clock.now_ns()))

    def run(self, progress: Progress) -> Snapshot:
        """Steps 2 to 5."""
        region, snapshot = self._region, self._change.snapshot
        archive = snapshot.archive
        assert archive is not None, "checked when it was begun"
        with self._change.running():
            if snapshot.is_archived:
                self._bring_back(archive, progress)
            return switch_tier(region, snapshot.snapshot_id, self._restored, self._commit)

    def _bring_back(self, archive: Archive, progress: Progress) -> None:
        """Step 2."""
        region, snapshot = self._region, self._change.snapshot
        writer = ChunkWriter(
            region.backend,
            region.metadata,
            self._change.session,
            level=LEVEL_DEFAULT,
            read_again=lambda index: tree.read_again(index),
        )
        tree = TreeCopy(
            ArchiveReader(region.backend, archive.pack_names()),
            Digest(bytes.fromhex(archive.root)),
            metadata=region.metadata,
            writer=writer,
            holder_id=reader_of(self._change.session.session_id),
        )
        try:
            progress.begin("restore", snapshot.size_bytes)
            threads = len(os.sched_getaffinity(0))
            # Nothing holds an archive: it goes with its snapshot, which anybody may delete.
            with reading_on(region, snapshot.snapshot_id):
                tree.run(progress, FAN_OUT * snapshot.block_size, threads)
        finally:
            writer.close()
            progress.end()

    def _restored(self, old: Snapshot) -> Snapshot:
        archive, tiering = old.archive, old.tiering
        assert archive is not None, "its restore has begun"
        assert tiering is not None, "its restore has begun"
        expiry_ns = None
        if self._days is not None:
            expiry_ns = self._region.clock.now_ns() + self._days * DAY_NS
        return replace(
            old,
            root=Digest(bytes.fromhex(archive.root)),
            archive=archive if self._days is not None else None,
            tiering=tiering.completed(),
            restore_expiry_time_ns=expiry_ns,
        )

    def _commit(self, txn: Transaction, new: Snapshot) -> None:
        """Step 4."""
        archive = self._change.snapshot.archive
        assert archive is not None, "checked when it was begun"
        assert new.root is not None, "it is restored"
        if self._change.snapshot.is_archived:
            take_hold(txn, root_holder(new.snapshot_id), new.root)
        assert new.tiering is not None, "its restore has begun"
        began = new.tiering.start_time_ns
        if new.archive is None:
            drop_archive(txn, archive)
            snapshot_restored_permanently(txn, self._region, new, TierFacts(start_ns=began))
        else:
            facts = TierFacts(start_ns=began, restore_expiry_ns=new.restore_expiry_time_ns)
            snapshot_restored_temporarily(txn, self._region, new, facts)
