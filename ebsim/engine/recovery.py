"""Clearing up after sessions whose process is gone.

What a session may leave, and what becomes of it here:

    unsealed packs and manifests          removed
    sealed packs that no row names        removed
    packs with nothing live               removed
    a snapshot written block by block     stays pending; what its finisher made is removed
    one that somebody was told of         marked as failed; nothing that it stored is kept
    another pending snapshot              removed from the catalog; its finished nodes
                                          stay held under its id as the volume's
                                          *interrupted upload*, for the next snapshot of
                                          the volume to go on from
    a manifest without a snapshot         removed (written, and never acknowledged)
    a manifest to be written or unlinked  written or unlinked
    holds of a reader                     dropped
    volumes' folders and records          settled (``volume_recovery.py``)
    kept settings and rules               written again (``kept_settings.py``)
    a snapshot being archived or restored as it was; the change has failed
    packs of an archive never completed   removed
    the reclaim queue                     emptied

Every step may be done twice, and by whoever comes first; the session's file goes last.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from ebsim.catalog.direct_snapshot import find_direct
from ebsim.catalog.manifest import manifest_name, write_manifest
from ebsim.catalog.records import find_snapshot, find_volume, put_snapshot, remove_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.volume import Volume
from ebsim.chunkstore.reclaim import session_of
from ebsim.chunkstore.rows import PackRow, decode_pack
from ebsim.engine.direct.put_rows import drop_puts
from ebsim.engine.holds import drop_all_holds, reader_of, root_holder
from ebsim.engine.kept_settings import settle_kept_rows
from ebsim.engine.record_access_events import lock_failed
from ebsim.engine.record_events import snapshot_interrupted
from ebsim.engine.record_tier_events import tiering_failed
from ebsim.engine.region import Region
from ebsim.engine.storage_tiers import (
    delete_archive_packs,
    delete_dropped_archives,
    end_temporary_restores,
    has_ended_restores,
    unneeded_archives,
)
from ebsim.engine.volume_recovery import settle_volumes
from ebsim.ids import SnapshotId
from ebsim.metadata.transactions import Reader, Table, Transaction

_INTERRUPTED = b"interrupted/"
_ROWS_PER_STEP = 512


def note_snapshot(txn: Transaction, session_id: str, snapshot_id: SnapshotId) -> None:
    """Note that the session works on a snapshot, so that recovery looks at it."""
    txn.put_many(Table.SESSIONS, [(_session_key(session_id, snapshot_id), b"")])


def forget_snapshot(txn: Transaction, session_id: str, snapshot_id: SnapshotId) -> None:
    """The session has nothing left to do for the snapshot."""
    txn.delete_many(Table.SESSIONS, [_session_key(session_id, snapshot_id)])


def _session_key(session_id: str, snapshot_id: SnapshotId) -> bytes:
    return f"{session_id}/{snapshot_id}".encode()


def upload_of(snapshot: Snapshot) -> str:
    """What finds the upload that *snapshot* leaves when it breaks off: its volume, or source."""
    return snapshot.copied_from or snapshot.volume_id


def interrupted_upload(reader: Reader, upload: str) -> SnapshotId | None:
    """The id under which nodes of an interrupted snapshot are held."""
    (row,) = reader.get_many(Table.STORE, [_INTERRUPTED + upload.encode()])
    return None if row is None else SnapshotId(row.decode())


def claim_interrupted_upload(txn: Transaction, session_id: str, upload: str) -> SnapshotId | None:
    """Make an interrupted upload the session's own, to go on from and then let go.

    Nobody else finds it from then on.  If the session dies, what it went on from is let go
    and what it made of it is the interrupted upload.
    """
    snapshot_id = interrupted_upload(txn, upload)
    if snapshot_id is not None:
        txn.delete_many(Table.STORE, [_INTERRUPTED + upload.encode()])
        note_snapshot(txn, session_id, snapshot_id)
    return snapshot_id


def interrupted_uploads(reader: Reader) -> list[tuple[str, SnapshotId]]:
    """All interrupted uploads of the region: what they were of, and who holds them."""
    rows = reader.scan(Table.STORE, _INTERRUPTED, _INTERRUPTED + b"\xff", limit=1 << 16)
    return [
        (key.removeprefix(_INTERRUPTED).decode(), SnapshotId(row.decode())) for key, row in rows
    ]


def drop_interrupted_upload(region: Region, upload: str) -> None:
    """Let go of what an interrupted snapshot had stored."""
    with region.session() as session:
        claimed = region.metadata.run(
            lambda txn: claim_interrupted_upload(txn, session.session_id, upload)
        )
        if claimed is not None:
            let_go_of_claimed(region, session.session_id, claimed)


def let_go_of_claimed(region: Region, session_id: str, claimed: SnapshotId) -> None:
    """Let go of an interrupted upload that the session has claimed."""
    drop_all_holds(region, claimed)
    region.metadata.run(lambda txn: forget_snapshot(txn, session_id, claimed))


def recover(region: Region) -> list[str]:
    """Clear up after every dead session; return their ids.  Costs next to nothing if none is.

    What is due by the clock is done as well: temporary restores that are over.

    Raises:
        Conflict: a rebuild has put the region's metadata aside since it was opened.  By that
            metadata, packs that were written since are nobody's.
    """
    region.refuse_old_metadata()
    with ExitStack() as claims:
        cleared = [
            session_id
            for session_id in region.sessions.dead()
            if claims.enter_context(region.sessions.clearing(session_id))
        ]
        if cleared:
            # No rebuild can begin while dead sessions are claimed.
            region.refuse_old_metadata()
            _clear(region, cleared)
    if has_ended_restores(region):
        # In a session, so that a crash on the way is one that recovery knows of.
        with region.session():
            end_temporary_restores(region)
            region.reclaimer().run()
    delete_dropped_archives(region)
    return cleared


def _clear(region: Region, session_ids: Sequence[str]) -> None:
    for session_id in session_ids:
        drop_all_holds(region, reader_of(session_id))
        for snapshot_id in region.metadata.read(lambda reader: _snapshots_of(reader, session_id)):  # noqa: B023 (called at once)
            _settle(region, session_id, snapshot_id)
    region.backend.discard_unsealed()
    settle_volumes(region)
    settle_kept_rows(region)
    # While they are claimed, these sessions look alive to everybody, and to us.
    region.reclaimer(ended=session_ids).run()
    _delete_useless_packs(region, session_ids)
    _delete_useless_archives(region, session_ids)


def _snapshots_of(reader: Reader, session_id: str) -> list[SnapshotId]:
    start = f"{session_id}/".encode()
    rows = reader.scan(Table.SESSIONS, start, start + b"\xff", limit=1 << 16)
    return [SnapshotId(key.removeprefix(start).decode()) for key, _ in rows]


def _settle(region: Region, session_id: str, snapshot_id: SnapshotId) -> None:
    """Bring a snapshot that a dead session worked on to a state that lasts."""
    snapshot = region.metadata.read(lambda reader: find_snapshot(reader, snapshot_id))
    direct = region.metadata.read(lambda reader: find_direct(reader, snapshot_id))
    if direct is not None:
        # Puts go on, or somebody finishes it anew, whose manifest it may then be.
        if direct.finisher == session_id:
            region.backend.delete(manifest_name(snapshot_id))
    elif snapshot is not None and snapshot.state is SnapshotState.COMPLETED:
        region.metadata.run(lambda txn: _fail_tiering(txn, region, session_id, snapshot_id))
        write_current_manifest(region, snapshot_id)
        drop_all_holds(region, snapshot_id, keep=root_holder(snapshot_id))
        drop_puts(region, snapshot_id)
    elif snapshot is not None and _is_to_go(snapshot):
        _interrupt(region, session_id, snapshot)
    else:
        if snapshot is not None and snapshot.state is SnapshotState.PENDING:
            region.metadata.run(lambda txn: _fail(txn, region, snapshot_id))
        # It is gone, or it failed and stays listed as such: nothing that it stored is needed.
        region.backend.delete(manifest_name(snapshot_id))
        drop_all_holds(region, snapshot_id)
        drop_puts(region, snapshot_id)
    region.metadata.run(lambda txn: forget_snapshot(txn, session_id, snapshot_id))


def _fail_tiering(
    txn: Transaction, region: Region, session_id: str, snapshot_id: SnapshotId
) -> None:
    """What the session was at, archiving or restoring the snapshot, has failed."""
    snapshot = find_snapshot(txn, snapshot_id)
    tiering = snapshot.tiering if snapshot is not None else None
    if snapshot is not None and tiering is not None and tiering.session_id == session_id:
        why = "the process that was at it ended before it was done"
        failed = replace(snapshot, tiering=tiering.failed(why))
        put_snapshot(txn, failed)
        tiering_failed(txn, region, failed)


def _delete_useless_archives(region: Region, ended: Sequence[str]) -> None:
    """Delete packs of archives that were never completed."""
    useless = region.metadata.read(lambda reader: unneeded_archives(reader, ended))
    delete_archive_packs(region, useless)


def _is_to_go(snapshot: Snapshot) -> bool:
    """Whether it is pending, and nobody was told of it, or the next copy goes on from it."""
    is_kept = bool(snapshot.copied_from) or not snapshot.is_announced
    return snapshot.state is SnapshotState.PENDING and is_kept


def _fail(txn: Transaction, region: Region, snapshot_id: SnapshotId) -> None:
    """Mark a pending snapshot that somebody was told of as failed: it stays listed."""
    snapshot = find_snapshot(txn, snapshot_id)
    if snapshot is not None and snapshot.state is SnapshotState.PENDING:
        message = "The snapshot was interrupted."
        failed = replace(snapshot, state=SnapshotState.ERROR, state_message=message)
        put_snapshot(txn, failed)
        snapshot_interrupted(txn, region, failed)
        lock_failed(txn, region, failed)


def write_current_manifest(
    region: Region,
    snapshot_id: SnapshotId,
    *,
    written: tuple[Snapshot, Volume] | None = None,
) -> None:
    """Make the manifest what the metadata says, whoever changes that meanwhile.

    *written* is what the caller has just written.

    What was written is compared with the metadata again: of two processes that tag a
    snapshot at once the later row wins, and one that is deleted leaves no manifest.
    """

    def look(reader: Reader) -> tuple[Snapshot, Volume] | None:
        snapshot = find_snapshot(reader, snapshot_id)
        volume = find_volume(reader, snapshot.volume_id) if snapshot else None
        return (snapshot, volume) if snapshot and volume else None

    while (current := region.metadata.read(look)) != written:
        if current is None:
            region.backend.delete(manifest_name(snapshot_id))
        else:
            write_manifest(region.backend, *current)
        written = current


def _interrupt(region: Region, session_id: str, snapshot: Snapshot) -> None:
    """Take a pending snapshot out of the catalog, and keep what it stored for the next one.

    A copy that somebody was told of stays there, as failed.
    """
    region.backend.delete(manifest_name(snapshot.snapshot_id))

    def interrupt(txn: Transaction) -> SnapshotId | None:
        replaced = claim_interrupted_upload(txn, session_id, upload_of(snapshot))
        if find_snapshot(txn, snapshot.snapshot_id) is not None:
            if snapshot.is_announced:
                _fail(txn, region, snapshot.snapshot_id)
            else:
                remove_snapshot(txn, snapshot)
                snapshot_interrupted(txn, region, snapshot)
                lock_failed(txn, region, snapshot)
        key = _INTERRUPTED + upload_of(snapshot).encode()
        txn.put_many(Table.STORE, [(key, snapshot.snapshot_id.encode())])
        # In one transaction: whoever came by later would take it for nobody's.
        forget_snapshot(txn, session_id, snapshot.snapshot_id)
        return replaced

    replaced = region.metadata.run(interrupt)
    if replaced is not None:
        let_go_of_claimed(region, session_id, replaced)


def _delete_useless_packs(region: Region, ended: Sequence[str]) -> None:
    """Delete packs that no row names or that hold nothing live, those of live sessions excepted.

    Not only the dead session's own: it may have died between dropping the row of any pack
    and deleting the object.  Cost: a look at the name and the row of every pack.
    """
    names = list(region.backend.names("packs"))
    # Asked before the rows are read: who is over by then registers nothing any more.
    over = {
        session_id
        for session_id in {session_of(name) for name in names}
        if session_id in ended or not region.sessions.is_alive(session_id)
    }
    live_counts = {}
    reclaimer = region.reclaimer(ended=ended)
    for pack_number, row in _registered(region):
        live_counts[row.name] = row.live_count
        if not row.live_count and session_of(row.name) in over:
            reclaimer.delete_pack(pack_number, row.name)
    for name in names:
        if name not in live_counts and session_of(name) in over:
            region.backend.delete(name)


def _registered(region: Region) -> Iterator[tuple[int, PackRow]]:
    """Number and row of every pack that has a row."""
    start = b""
    while True:
        rows = region.metadata.read(
            lambda reader: reader.scan(Table.PACKS, start, limit=_ROWS_PER_STEP)  # noqa: B023 (called at once)
        )
        for key, value in rows:
            yield int.from_bytes(key, "big"), decode_pack(value)
        if len(rows) < _ROWS_PER_STEP:
            return
        start = rows[-1][0] + b"\0"
