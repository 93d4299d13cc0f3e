"""Deleting snapshots: acknowledged at once, paid for by what is freed.

    1  transaction   the snapshot is gone, its root released (or in the reclaim queue)
    2  manifest unlinked
    3  transaction   the session has nothing left to do for it
    4  the reclaim queue is emptied

The deletion is acknowledged after 2; a crash later leaves the rest to recovery, one
between 1 and 2 leaves a manifest that recovery unlinks before anything is reclaimed.

Where a rule of the recycle bin matches, the transaction marks the snapshot instead, all
that it holds stays, and its manifest is written again.  What is locked is not deleted by
anybody: every way out of the catalog, but that of a snapshot that never was completed,
leads through this module.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ebsim.catalog.direct_snapshot import find_direct, remove_direct
from ebsim.catalog.manifest import manifest_name
from ebsim.catalog.records import find_snapshot, get_snapshot, put_snapshot, remove_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.storage_tier import Archive
from ebsim.chunkstore.chunk_index import find_numbers
from ebsim.chunkstore.deletion_plan import DeletionPlan, plan_deletion
from ebsim.chunkstore.reclaim import Reclaimed
from ebsim.chunkstore.sessions import Session
from ebsim.engine.bin_stays import stay_of_snapshot
from ebsim.engine.direct.put_rows import drop_puts
from ebsim.engine.holds import drop_all_holds, drop_holds
from ebsim.engine.lock_snapshot import refuse_locked
from ebsim.engine.record_events import snapshot_deleted
from ebsim.engine.recovery import (
    forget_snapshot,
    note_snapshot,
    recover,
    write_current_manifest,
)
from ebsim.engine.region import Region
from ebsim.engine.storage_tiers import delete_dropped_archives
from ebsim.errors import Conflict
from ebsim.metadata.transactions import Reader, Transaction


def delete_snapshots(
    region: Region,
    names: Sequence[str],
    acknowledge: Callable[[Snapshot], None] | None = None,
) -> Reclaimed:
    """Delete snapshots by id or unique prefix; return what that gave back.

    All are looked up before the first is deleted.  *acknowledge* is called for each as
    soon as its deletion is certain, before space is given back; one that has come into the
    recycle bin says so.

    Raises:
        SnapshotNotFound, InvalidRequest: a name; nothing was deleted.
        NotPermitted: another account's snapshot; nothing was deleted.
        SnapshotLocked: by its owner; nothing was deleted.
        Conflict: a snapshot is still being taken; nothing was deleted.
    """
    snapshots = _resolve(region, names)
    # On a full disk the work is begun a second time.
    told: set[str] = set()

    def tell(snapshot: Snapshot) -> None:
        if acknowledge is not None and snapshot.snapshot_id not in told:
            told.add(snapshot.snapshot_id)
            acknowledge(snapshot)

    return region.reserve.use_if_full(lambda: _delete(region, snapshots, tell, _deleted))


def purge_from_bin(
    region: Region, snapshots: Sequence[Snapshot], acknowledge: Callable[[Snapshot], None]
) -> Reclaimed:
    """Delete for good those of *snapshots* whose time in the recycle bin is over."""
    return region.reserve.use_if_full(lambda: _delete(region, snapshots, acknowledge, _purged))


def plan_deletion_of(region: Region, names: Sequence[str]) -> DeletionPlan:
    """What deleting those snapshots together would free, exactly.

    What the recycle bin would keep is not freed.
    """
    snapshots = _resolve(region, names)
    now_ns = region.clock.now_ns()

    def going(reader: Reader) -> tuple[list[int], list[Archive]]:
        gone = [one for one in snapshots if stay_of_snapshot(reader, one, now_ns) is None]
        digests = [snapshot.root for snapshot in gone if snapshot.root is not None]
        numbers = find_numbers(reader, digests)
        # Two snapshots may have one root: each drops a reference of its own.
        roots = [numbers[digest] for digest in digests if digest in numbers]
        return roots, [snapshot.archive for snapshot in gone if snapshot.archive is not None]

    roots, archives = region.metadata.read(going)
    plan = plan_deletion(region.metadata, roots)
    return replace(plan, freed_bytes=plan.freed_bytes + sum(a.size_bytes for a in archives))


def _resolve(region: Region, names: Sequence[str]) -> list[Snapshot]:
    def resolve(reader: Reader) -> list[Snapshot]:
        found = {}
        for name in names:
            snapshot = get_snapshot(reader, region.account_id, name)
            is_direct = find_direct(reader, snapshot.snapshot_id) is not None
            if snapshot.state is SnapshotState.PENDING and not is_direct:
                raise Conflict(
                    f"{snapshot.snapshot_id} is still being taken. Nothing was deleted. "
                    "Stop the process that takes it, or wait."
                )
            refuse_locked(snapshot, region.clock.now_ns())
            found[snapshot.snapshot_id] = snapshot
        return list(found.values())

    return region.metadata.read(resolve)


def _delete(
    region: Region,
    snapshots: Sequence[Snapshot],
    acknowledge: Callable[[Snapshot], None],
    outcome: Callable[[Transaction, Region, Snapshot], Snapshot | None],
) -> Reclaimed:
    """Do with each what *outcome* says, given the snapshot as it is."""
    recover(region)
    with region.session() as session:
        for snapshot in snapshots:
            left = region.metadata.run(
                lambda txn: _take_out(txn, region, session, snapshot, outcome)  # noqa: B023 (called at once)
            )
            if left is None:
                region.backend.delete(manifest_name(snapshot.snapshot_id))
                drop_all_holds(region, snapshot.snapshot_id)
                drop_puts(region, snapshot.snapshot_id)
            else:
                write_current_manifest(region, snapshot.snapshot_id)
            region.metadata.run(
                lambda txn: forget_snapshot(txn, session.session_id, snapshot.snapshot_id)  # noqa: B023 (called at once)
            )
            acknowledge(left or snapshot)
        # In the session, so that a crash on the way is one that recovery knows of.
        freed = region.reclaimer().run()
        freed.freed_bytes += delete_dropped_archives(region)
        return freed


def _take_out(
    txn: Transaction,
    region: Region,
    session: Session,
    snapshot: Snapshot,
    outcome: Callable[[Transaction, Region, Snapshot], Snapshot | None],
) -> Snapshot | None:
    """Take the snapshot out of the catalog, or change it; return what is left of it."""
    current = find_snapshot(txn, snapshot.snapshot_id)
    if current is None:
        return None
    left = outcome(txn, region, current)
    if left == current:
        return current
    if left is None:
        remove_snapshot(txn, current)
        remove_direct(txn, current.snapshot_id)
        drop_holds(txn, current.snapshot_id)
    else:
        put_snapshot(txn, left)
    note_snapshot(txn, session.session_id, current.snapshot_id)
    return left


def _deleted(txn: Transaction, region: Region, snapshot: Snapshot) -> Snapshot | None:
    """What a deletion leaves: nothing, or the snapshot in the recycle bin."""
    if snapshot.bin_stay is not None:
        return snapshot
    now_ns = region.clock.now_ns()
    refuse_locked(snapshot, now_ns)
    snapshot_deleted(txn, region, snapshot)
    # What is not completed has nothing that could be brought back.
    is_whole = snapshot.state is SnapshotState.COMPLETED
    stay = stay_of_snapshot(txn, snapshot, now_ns) if is_whole else None
    return None if stay is None else replace(snapshot, bin_stay=stay)


def _purged(txn: Transaction, region: Region, snapshot: Snapshot) -> Snapshot | None:
    """What the end of its time in the recycle bin leaves: nothing, unless it was restored."""
    del txn
    stay = snapshot.bin_stay
    return None if stay is not None and stay.is_over_at(region.clock.now_ns()) else snapshot
