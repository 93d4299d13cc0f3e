"""Completing snapshots that were written block by block, and ending those left idle.

    1  transaction   the session is the finisher
    2  the puts are counted, their checksums added up; a mismatch fails the snapshot
    3  transactions  nodes of the block map, held by the session
    4  manifest written
    5  transaction   completed: the root is held, the record is gone
    6  manifest written again: what was changed meanwhile; puts and nodes let go

A process that dies before 5 leaves a snapshot that is to be completed still: whoever
comes next begins again at 1.  After 5 recovery does the rest.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ebsim.catalog.direct_snapshot import (
    DirectSnapshot,
    find_direct,
    put_direct,
    remove_direct,
    scan_checksums,
    scan_direct,
)
from ebsim.catalog.manifest import manifest_name, write_manifest
from ebsim.catalog.records import find_snapshot, find_volume, put_snapshot, put_volume
from ebsim.catalog.snapshot import Snapshot, SnapshotState, completed_from
from ebsim.catalog.volume import UNKNOWN_VOLUME
from ebsim.chunkstore.sessions import Session
from ebsim.engine.direct.direct_map import make_direct_map
from ebsim.engine.direct.put_rows import drop_puts
from ebsim.engine.holds import drop_all_holds, reader_of, root_holder, take_hold
from ebsim.engine.record_events import snapshot_created
from ebsim.engine.recovery import (
    forget_snapshot,
    note_snapshot,
    recover,
    write_current_manifest,
)
from ebsim.engine.region import Region
from ebsim.errors import EbsimError
from ebsim.ids import SnapshotId
from ebsim.metadata.transactions import Reader, Transaction

COUNT_MISMATCH = "Changed blocks count mismatch for snapshot"
CHECKSUM_MISMATCH = "Checksum mismatch for snapshot"
TIMED_OUT = "Snapshot timed out"

_ROWS_PER_STEP = 2048
_RECORDS_PER_STEP = 256


@dataclass(slots=True)
class Settled:
    """What became of pending snapshots; *failures* stay pending and are tried again."""

    completed: list[SnapshotId] = field(default_factory=list)
    failed: list[SnapshotId] = field(default_factory=list)
    failures: list[tuple[SnapshotId, EbsimError]] = field(default_factory=list)


def settle_direct_snapshots(region: Region) -> Settled:
    """Complete those that were asked to be, and end those whose time is over.

    Cost if there are none: one look.
    """
    settled = Settled()
    after: SnapshotId | None = None
    while True:
        rows = region.metadata.read(lambda reader: scan_direct(reader, after, _RECORDS_PER_STEP))  # noqa: B023 (called at once)
        for snapshot_id, record in rows:
            try:
                snapshot = _settle(region, snapshot_id, record)
            except EbsimError as error:
                settled.failures.append((snapshot_id, error))
                continue
            if snapshot is not None and snapshot.state is SnapshotState.COMPLETED:
                settled.completed.append(snapshot_id)
            elif snapshot is not None:
                settled.failed.append(snapshot_id)
        if len(rows) < _RECORDS_PER_STEP:
            return settled
        after = rows[-1][0]


def _settle(region: Region, snapshot_id: SnapshotId, record: DirectSnapshot) -> Snapshot | None:
    if record.request is not None:
        return finish_direct_snapshot(region, snapshot_id)
    if record.expiry_time_ns > region.clock.now_ns():
        return None

    def is_due(current: DirectSnapshot) -> bool:
        return current.request is None and current.expiry_time_ns <= region.clock.now_ns()

    return _fail(region, snapshot_id, TIMED_OUT, is_due)


def finish_direct_snapshot(region: Region, snapshot_id: SnapshotId) -> Snapshot | None:
    """Complete a snapshot that was asked to be, or fail it if it is not what was said.

    Returns ``None`` where there is nothing to do, or somebody else is at it.
    Cost: a look at every put, a node for each leaf that was put to.

    Raises:
        IntegrityError: the parent is damaged; the snapshot stays pending.
        StorageFull, StorageUnavailable: likewise.
    """
    recover(region)
    record = region.metadata.read(lambda reader: find_direct(reader, snapshot_id))
    if record is None or record.request is None:
        return None
    if record.finisher and region.sessions.is_alive(record.finisher):
        return None
    mismatch = _mismatch(region, snapshot_id, record)
    if mismatch:
        return _fail(region, snapshot_id, mismatch, lambda current: current == record)
    with region.session() as session:
        claimed = replace(record, finisher=session.session_id)

        def claim(txn: Transaction) -> Snapshot | None:
            if find_direct(txn, snapshot_id) != record:
                return None
            note_snapshot(txn, session.session_id, snapshot_id)
            put_direct(txn, snapshot_id, claimed)
            return find_snapshot(txn, snapshot_id)

        pending = region.metadata.run(claim)
        return None if pending is None else _finish(region, session, pending, claimed)


def _mismatch(region: Region, snapshot_id: SnapshotId, record: DirectSnapshot) -> str:
    """In what the puts are not what was said of them."""
    assert record.request is not None, "completion was asked for"
    count, total, start = 0, hashlib.sha256(), 0
    while True:
        rows = region.metadata.read(
            lambda reader: scan_checksums(reader, snapshot_id, start, _ROWS_PER_STEP)  # noqa: B023 (called at once)
        )
        count += len(rows)
        for _, sha256 in rows:
            total.update(sha256)
        if len(rows) < _ROWS_PER_STEP:
            break
        start = rows[-1][0] + 1
    if count != record.request.changed_block_count:
        return COUNT_MISMATCH
    if record.request.checksum not in (None, total.hexdigest()):
        return CHECKSUM_MISMATCH
    return ""


def _finish(
    region: Region, session: Session, pending: Snapshot, record: DirectSnapshot
) -> Snapshot | None:
    """Steps 3 to 6."""
    assert record.request is not None, "completion was asked for"
    owner = reader_of(session.session_id)
    made = make_direct_map(region, session, owner, pending, record)
    snapshot = replace(
        pending,
        state=SnapshotState.COMPLETED,
        root=made.root,
        completion_time_ns=region.clock.now_ns(),
        block_count=made.block_count,
        changed_block_count=record.request.changed_block_count,
        stored_bytes=made.stored_bytes,
        referenced_bytes=made.referenced_bytes,
    )
    write_manifest(region.backend, snapshot, UNKNOWN_VOLUME)
    completed = region.metadata.run(lambda txn: _complete(txn, region, snapshot, record))
    _let_go(region, session, pending.snapshot_id)
    return completed


def _complete(
    txn: Transaction, region: Region, snapshot: Snapshot, record: DirectSnapshot
) -> Snapshot | None:
    """Step 5; ``None`` if it was deleted meanwhile."""
    pending = find_snapshot(txn, snapshot.snapshot_id)
    if pending is None or find_direct(txn, snapshot.snapshot_id) != record:
        return None
    assert snapshot.root is not None, "a completed snapshot has a root"
    completed = completed_from(pending, snapshot)
    put_snapshot(txn, completed)
    if find_volume(txn, UNKNOWN_VOLUME.volume_id) is None:
        put_volume(txn, UNKNOWN_VOLUME)
    take_hold(txn, root_holder(snapshot.snapshot_id), snapshot.root)
    remove_direct(txn, snapshot.snapshot_id)
    snapshot_created(txn, region, completed)
    return completed


def _fail(
    region: Region,
    snapshot_id: SnapshotId,
    message: str,
    is_due: Callable[[DirectSnapshot], bool],
) -> Snapshot | None:
    """Let the snapshot end in ``error`` if it *is_due* still; give its room back."""
    with region.session() as session:

        def fail(txn: Transaction) -> Snapshot | None:
            record, pending = find_direct(txn, snapshot_id), find_snapshot(txn, snapshot_id)
            if record is None or pending is None or not is_due(record):
                return None
            failed = replace(pending, state=SnapshotState.ERROR, state_message=message)
            put_snapshot(txn, failed)
            remove_direct(txn, snapshot_id)
            note_snapshot(txn, session.session_id, snapshot_id)
            snapshot_created(txn, region, failed, message)
            return failed

        failed = region.metadata.run(fail)
        if failed is not None:
            _let_go(region, session, snapshot_id)
        return failed


def _let_go(region: Region, session: Session, snapshot_id: SnapshotId) -> None:
    """The last steps; what fails in them is recovery's to make good."""
    settle_manifest(region, snapshot_id)
    drop_puts(region, snapshot_id)
    drop_all_holds(region, reader_of(session.session_id))
    region.metadata.run(lambda txn: forget_snapshot(txn, session.session_id, snapshot_id))
    region.reclaimer(ended=[session.session_id]).run()


def settle_manifest(region: Region, snapshot_id: SnapshotId) -> None:
    """Write the manifest of a snapshot that is completed, and unlink that of another."""

    def is_completed(reader: Reader) -> bool:
        snapshot = find_snapshot(reader, snapshot_id)
        return snapshot is not None and snapshot.state is SnapshotState.COMPLETED

    if region.metadata.read(is_completed):
        write_current_manifest(region, snapshot_id)
    else:
        region.backend.delete(manifest_name(snapshot_id))
