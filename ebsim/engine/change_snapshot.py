"""Changing what a snapshot's record says, its manifest included.

    1  transaction   the changed row; the session notes that it works on the snapshot
    2  manifest written
    3  transaction   the session has nothing left to do for it

A crash after 1 leaves an old manifest, which recovery writes again.
"""

from collections.abc import Callable

from ebsim.catalog.records import find_snapshot, put_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.engine.record_access_events import access_changed
from ebsim.engine.recovery import forget_snapshot, note_snapshot, write_current_manifest
from ebsim.engine.region import Region
from ebsim.metadata.transactions import Reader, Transaction


def change_snapshot(region: Region, change: Callable[[Reader], Snapshot]) -> Snapshot:
    """Write what *change* makes of a snapshot that it finds; return that.

    *change* is called more than once, and raises what forbids the change.
    """
    # What makes no sense is refused before anything is written, a session's file included.
    region.metadata.read(change)
    with region.session() as session:

        def put(txn: Transaction) -> tuple[Snapshot, bool]:
            new = change(txn)
            old = find_snapshot(txn, new.snapshot_id)
            if old == new:
                return new, False
            put_snapshot(txn, new)
            if old is not None:
                access_changed(txn, region, old, new)
            # A pending snapshot is the business of the session that takes it alone.
            has_manifest = new.state is SnapshotState.COMPLETED
            if has_manifest:
                note_snapshot(txn, session.session_id, new.snapshot_id)
            return new, has_manifest

        snapshot, has_manifest = region.metadata.run(put)
        if has_manifest:
            write_current_manifest(region, snapshot.snapshot_id)
            region.metadata.run(
                lambda txn: forget_snapshot(txn, session.session_id, snapshot.snapshot_id)
            )
    return snapshot
