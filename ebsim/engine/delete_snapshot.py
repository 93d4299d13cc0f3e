"""Deleting snapshots: acknowledged at once, paid for by what is freed.

    1  transaction   the snapshot is gone, its root released (or in the reclaim queue)
    2  manifest unlinked
    3  transaction   the session has nothing left to do for it
    4  the reclaim queue is emptied

The deletion is acknowledged after 2; a crash later leaves the rest to recovery, one
between 1 and 2 leaves a manifest that recovery unlinks before anything is reclaimed.
"""

from collections.abc import Callable, Sequence

from ebsim.catalog.direct_snapshot import find_direct, remove_direct
from ebsim.catalog.manifest import manifest_name
from ebsim.catalog.records import find_snapshot, get_snapshot, remove_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.chunkstore.chunk_index import find_numbers
from ebsim.chunkstore.deletion_plan import DeletionPlan, plan_deletion
from ebsim.chunkstore.reclaim import Reclaimed
from ebsim.engine.direct.put_rows import drop_puts
from ebsim.engine.holds import drop_all_holds, drop_holds
from ebsim.engine.record_events import snapshot_deleted
from ebsim.engine.recovery import forget_snapshot, note_snapshot, recover
from ebsim.engine.region import Region
from ebsim.errors import Conflict
from ebsim.metadata.transactions import Reader, Transaction


def delete_snapshots(
    region: Region,
    names: Sequence[str],
    acknowledge: Callable[[Snapshot], None] | None = None,
) -> Reclaimed:
    """Delete snapshots by id or unique prefix; return what that gave back.

    All are looked up before the first is deleted.  *acknowledge* is called for each as
    soon as its deletion is certain, before space is given back.

    Raises:
        SnapshotNotFound, InvalidRequest: a name; nothing was deleted.
        Conflict: a snapshot is still being taken; nothing was deleted.
    """
    snapshots = _resolve(region, names)
    # On a full disk the work is begun a second time.
    told: set[str] = set()

    def tell(snapshot: Snapshot) -> None:
        if acknowledge is not None and snapshot.snapshot_id not in told:
            told.add(snapshot.snapshot_id)
            acknowledge(snapshot)

    return region.reserve.use_if_full(lambda: _delete(region, snapshots, tell))


def plan_deletion_of(region: Region, names: Sequence[str]) -> DeletionPlan:
    """What deleting those snapshots together would free, exactly."""
    snapshots = _resolve(region, names)

    def roots(reader: Reader) -> list[int]:
        digests = [snapshot.root for snapshot in snapshots if snapshot.root is not None]
        numbers = find_numbers(reader, digests)
        # Two snapshots may have one root: each drops a reference of its own.
        return [numbers[digest] for digest in digests if digest in numbers]

    return plan_deletion(region.metadata, region.metadata.read(roots))


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
            found[snapshot.snapshot_id] = snapshot
        return list(found.values())

    return region.metadata.read(resolve)


def _delete(
    region: Region,
    snapshots: Sequence[Snapshot],
    acknowledge: Callable[[Snapshot], None],
) -> Reclaimed:
    recover(region)
    with region.session() as session:
        for snapshot in snapshots:
            if region.metadata.run(lambda txn: _remove(txn, region, session.session_id, snapshot)):  # noqa: B023 (called at once)
                region.backend.delete(manifest_name(snapshot.snapshot_id))
                drop_all_holds(region, snapshot.snapshot_id)
                drop_puts(region, snapshot.snapshot_id)
                region.metadata.run(
                    lambda txn: forget_snapshot(txn, session.session_id, snapshot.snapshot_id)  # noqa: B023 (called at once)
                )
            acknowledge(snapshot)
        # In the session, so that a crash on the way is one that recovery knows of.
        return region.reclaimer().run()


def _remove(txn: Transaction, region: Region, session_id: str, snapshot: Snapshot) -> bool:
    """Take the snapshot out of the catalog; return whether it was still there."""
    current = find_snapshot(txn, snapshot.snapshot_id)
    if current is None:
        return False
    remove_snapshot(txn, current)
    remove_direct(txn, current.snapshot_id)
    drop_holds(txn, current.snapshot_id)
    note_snapshot(txn, session_id, current.snapshot_id)
    snapshot_deleted(txn, region, current)
    return True
