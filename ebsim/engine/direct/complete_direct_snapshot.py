"""Asking for a snapshot that was written block by block to be completed."""

from dataclasses import replace

from ebsim.catalog.direct_snapshot import CompletionRequest, find_direct, put_direct
from ebsim.catalog.records import find_snapshot
from ebsim.catalog.snapshot import SnapshotState
from ebsim.engine.region import Region
from ebsim.errors import SnapshotNotFound
from ebsim.ids import SnapshotId
from ebsim.metadata.transactions import Transaction


def complete_direct_snapshot(
    region: Region, snapshot_id: SnapshotId, request: CompletionRequest
) -> SnapshotState:
    """Note that the snapshot is to be completed; return the state it is in now.

    Nothing can be put from then on.  What *request* says is checked when the work is done,
    by ``finish_direct_snapshot``; of a snapshot that is over it is not looked at.

    Raises:
        SnapshotNotFound: the account has no such snapshot, or a disk is being read for it.
    """

    def note(txn: Transaction) -> SnapshotState:
        snapshot = find_snapshot(txn, snapshot_id)
        if snapshot is None or snapshot.owner_id != region.account_id:
            raise SnapshotNotFound(snapshot_id)
        if snapshot.state is not SnapshotState.PENDING:
            return snapshot.state
        record = find_direct(txn, snapshot_id)
        if record is None:
            raise SnapshotNotFound(snapshot_id)
        if record.request is None:
            put_direct(txn, snapshot_id, replace(record, request=request))
        return snapshot.state

    return region.metadata.run(note)
