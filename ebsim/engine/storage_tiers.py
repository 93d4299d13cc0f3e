"""Moving a snapshot's record between the tiers, so that a crash leaves it in one of them.

    1  manifest written as it is to be: the bytes are in both tiers by now
    2  transaction   the row says the same, the root is held or let go
    3  what is no longer needed is given back

A crash between 1 and 2 leaves a manifest that is ahead of its row, which recovery writes
again; without the row, after a rebuild, what it says is true as well.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from ebsim.catalog.manifest import manifest_name, write_manifest
from ebsim.catalog.records import find_snapshot, find_volume, put_snapshot
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.storage_tier import ARCHIVE_FOLDER
from ebsim.chunkstore.reclaim import session_of
from ebsim.engine.holds import drop_holds
from ebsim.engine.record_tier_events import TierFacts, temporary_restore_expired
from ebsim.engine.region import Region
from ebsim.errors import SnapshotArchived, SnapshotNotFound
from ebsim.ids import SnapshotId
from ebsim.metadata.transactions import Reader, Table, Transaction

_ROWS_PER_STEP = 256


def refuse_archived(region: Region, snapshot: Snapshot) -> None:
    """Refuse to use a snapshot that is archived, or whose temporary restore is over."""
    if snapshot.is_archived_at(region.clock.now_ns()):
        raise SnapshotArchived(snapshot.snapshot_id)


def switch_tier(
    region: Region,
    snapshot_id: SnapshotId,
    change: Callable[[Snapshot], Snapshot],
    commit: Callable[[Transaction, Snapshot], None],
) -> Snapshot:
    """Steps 1 and 2: make the snapshot what *change* makes of it; return that.

    *commit* is done in the transaction, given the new record.  Both are called again when
    somebody changes the snapshot meanwhile.

    Raises:
        SnapshotNotFound: it was deleted.
    """

    def look(reader: Reader) -> Snapshot | None:
        return find_snapshot(reader, snapshot_id)

    while True:
        old = region.metadata.read(look)
        if old is None:
            region.backend.delete(manifest_name(snapshot_id))
            raise SnapshotNotFound(snapshot_id)
        volume_id = old.volume_id
        volume = region.metadata.read(lambda reader: find_volume(reader, volume_id))  # noqa: B023 (called at once)
        new = change(old)
        if volume is not None:
            write_manifest(region.backend, new, volume)

        def put(txn: Transaction) -> bool:
            if find_snapshot(txn, snapshot_id) != old:  # noqa: B023 (called at once)
                return False
            put_snapshot(txn, new)  # noqa: B023 (called at once)
            commit(txn, new)  # noqa: B023 (called at once)
            return True

        if region.metadata.run(put):
            return new


def has_ended_restores(region: Region) -> bool:
    """Whether something was restored for a time that is over."""
    return bool(_ended_restores(region, 1))


def end_temporary_restores(region: Region) -> None:
    """Let go of what was restored for a time that is over.

    Safe to be done by several at once, and again after a crash.
    """
    for snapshot_id in _ended_restores(region, _ROWS_PER_STEP):
        _end_temporary_restore(region, snapshot_id)


def _ended_restores(region: Region, limit: int) -> list[SnapshotId]:
    # Those that end at this very moment as well.
    stop = (region.clock.now_ns() + 1).to_bytes(8, "big")
    rows = region.metadata.read(
        lambda reader: reader.scan(Table.RESTORE_EXPIRIES, b"", stop, limit=limit)
    )
    return [SnapshotId(key[8:].decode()) for key, _ in rows]


def _end_temporary_restore(region: Region, snapshot_id: SnapshotId) -> None:
    def is_over(snapshot: Snapshot) -> bool:
        expiry, tiering = snapshot.restore_expiry_time_ns, snapshot.tiering
        if tiering is not None and tiering.status.is_in_progress:
            return False  # It is being made to last longer.
        return expiry is not None and expiry <= region.clock.now_ns()

    over: list[int] = []

    def archived(old: Snapshot) -> Snapshot:
        # Otherwise somebody else has ended it, or made it last longer.
        over[:] = [old.restore_expiry_time_ns or 0] if is_over(old) else []
        return replace(old, root=None, restore_expiry_time_ns=None) if over else old

    def let_go(txn: Transaction, new: Snapshot) -> None:
        if over:
            drop_holds(txn, snapshot_id)
            began = new.tiering.start_time_ns if new.tiering is not None else over[0]
            facts = TierFacts(start_ns=began, restore_expiry_ns=over[0])
            temporary_restore_expired(txn, region, new, facts)

    try:
        switch_tier(region, snapshot_id, archived, let_go)
    except SnapshotNotFound:
        return


def delete_dropped_archives(region: Region) -> int:
    """Delete the packs of archives that nobody needs; return the bytes given back."""
    rows = region.metadata.read(
        lambda reader: reader.scan(Table.ARCHIVES_DROPPED, limit=_ROWS_PER_STEP)
    )
    if not rows:
        return 0
    dropped = {key.decode() for key, _ in rows}
    freed_bytes = delete_archive_packs(region, dropped)
    keys = [key for key, _ in rows]
    region.metadata.run(lambda txn: txn.delete_many(Table.ARCHIVES_DROPPED, keys))
    return freed_bytes


def delete_archive_packs(region: Region, archive_ids: set[str]) -> int:
    """Delete the packs of those archives; return the bytes given back."""
    freed_bytes = 0
    for name in list(region.backend.names(ARCHIVE_FOLDER)):
        if session_of(name) in archive_ids:
            freed_bytes += region.backend.allocated_bytes(name) or 0
            region.backend.delete(name)
    return freed_bytes


def unneeded_archives(reader: Reader, archive_ids: Iterable[str]) -> set[str]:
    """Those of *archive_ids* that no snapshot has."""
    return {
        archive_id
        for archive_id in archive_ids
        if not reader.scan(
            Table.ARCHIVES, f"{archive_id}/".encode(), f"{archive_id}0".encode(), limit=1
        )
    }
