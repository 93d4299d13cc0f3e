"""Enabling fast restore of a snapshot in a zone, disabling it, and moving it on.

``advance_fast_restores`` does the work behind: it takes each from state to state, fills the
pools and empties them.  A server calls it all the time, the command line when it enables or
disables one.  It may stop anywhere and be called again.

Source: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-fast-snapshot-restore.html
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import inf

from ebsim.catalog.audience import may_use
from ebsim.catalog.fast_restore import (
    SIZE_GIB_MAX,
    FastRestore,
    FastRestoreState,
    find_fast_restore,
    put_fast_restore,
    remove_fast_restore,
    scan_fast_restores,
)
from ebsim.catalog.records import find_snapshot, find_volume, get_usable_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.engine.fast_restore_pool import (
    load_one,
    ready_volumes,
    write_current_fast_restore,
)
from ebsim.engine.record_tier_events import fast_restore_changed
from ebsim.engine.region import Region
from ebsim.engine.remove_volume import discard_pooled
from ebsim.engine.storage_tiers import refuse_archived
from ebsim.errors import Conflict, InvalidRequest
from ebsim.metadata.transactions import Reader, Transaction

_BY_USER = "Client.UserInitiated"
_BY_ITSELF = "Client.UserInitiated - Lifecycle state transition"
_SNAPSHOT_GONE = "Client.InvalidSnapshot.InvalidState - Snapshot is not available"

_ON = frozenset({FastRestoreState.ENABLING, FastRestoreState.OPTIMIZING, FastRestoreState.ENABLED})


def enable_fast_restore(region: Region, name: str, zone: str) -> FastRestore:
    """Begin to keep volumes of a snapshot, the account's or one shared with it, loaded in *zone*.

    Harmless where it is so already.

    Raises:
        SnapshotNotFound, InvalidRequest: a name, or a snapshot larger than 16 TiB.
        Conflict: the snapshot is not completed.
        SnapshotArchived: it is archived.
    """

    def asked(reader: Reader) -> FastRestore:
        snapshot = get_usable_snapshot(reader, region.account_id, name)
        refuse_archived(region, snapshot)
        _refuse_unfit(snapshot)
        old = find_fast_restore(reader, region.account_id, snapshot.snapshot_id, zone)
        if old is not None and old.state in _ON:
            return old
        begun = FastRestore(
            owner_id=region.account_id,
            snapshot_id=snapshot.snapshot_id,
            zone=zone,
            size_gib=snapshot.volume_size_gib,
            state=FastRestoreState.ENABLING,
            reason=_BY_USER,
            times_ns={},
            # What is left of a pool that was being emptied is good still.
            pool=old.pool if old is not None else (),
        )
        return begun.moved(FastRestoreState.ENABLING, region.clock.now_ns(), _BY_USER)

    return _change(region, asked)


def _refuse_unfit(snapshot: Snapshot) -> None:
    if snapshot.state is not SnapshotState.COMPLETED:
        raise Conflict(
            f"{snapshot.snapshot_id} is {snapshot.state}, not completed. Nothing was changed."
        )
    if snapshot.volume_size_gib > SIZE_GIB_MAX:
        raise InvalidRequest(
            f"{snapshot.snapshot_id} has {snapshot.volume_size_gib} GiB: fast restore is for "
            f"{SIZE_GIB_MAX} GiB at the most. Nothing was changed."
        )


def disable_fast_restore(region: Region, snapshot_id: str, zone: str) -> FastRestore:
    """Stop keeping volumes of the snapshot loaded in *zone*.

    Raises:
        Conflict: it is not enabled there.
    """

    def asked(reader: Reader) -> FastRestore:
        old = next(
            (
                one
                for one in scan_fast_restores(reader, region.account_id)
                if (one.snapshot_id, one.zone) == (snapshot_id, zone)
            ),
            None,
        )
        if old is None or old.state not in _ON:
            raise Conflict(
                f"fast restore of {snapshot_id} is not enabled in {zone}. Nothing was changed."
            )
        return old.moved(FastRestoreState.DISABLING, region.clock.now_ns(), _BY_USER)

    return _change(region, asked)


def list_fast_restores(region: Region) -> list[FastRestore]:
    """The account's, those that were disabled too, by snapshot and zone."""
    return region.metadata.read(lambda reader: list(scan_fast_restores(reader, region.account_id)))


def advance_fast_restores(region: Region, *, seconds_max: float = inf) -> None:
    """Take every account's as far as it can go now, loading each for *seconds_max* at most.

    Costs one look-up when there is none.  One whose volume somebody else is loading, or
    whose blocks cannot be had, is left for the next time.
    """
    for record in region.metadata.read(lambda reader: list(scan_fast_restores(reader))):
        with suppress(Conflict):
            _advance(replace(region, account_id=record.owner_id), record, seconds_max)


def _advance(region: Region, record: FastRestore, seconds_max: float) -> None:
    snapshot = region.metadata.read(lambda reader: _usable(reader, record))
    if record.state in _ON and snapshot is None:
        record = _move(region, record, FastRestoreState.DISABLING, _SNAPSHOT_GONE)
    if record.state is FastRestoreState.ENABLING:
        record = _move(region, record, FastRestoreState.OPTIMIZING, _BY_ITSELF)
    if record.state in _ON and snapshot is not None:
        if not _fill(region, record, snapshot, seconds_max):
            return
        if record.state is FastRestoreState.OPTIMIZING:
            record = _move(region, record, FastRestoreState.ENABLED, _BY_ITSELF)
    if record.state is FastRestoreState.DISABLING:
        _empty(region, record)
        record = _move(region, record, FastRestoreState.DISABLED, record.reason)
    if record.state is FastRestoreState.DISABLED and snapshot is None:
        _forget(region, record)


def _usable(reader: Reader, record: FastRestore) -> Snapshot | None:
    snapshot = find_snapshot(reader, record.snapshot_id)
    if snapshot is None or not may_use(reader, snapshot, record.owner_id):
        return None
    is_there = snapshot.state is SnapshotState.COMPLETED and snapshot.root is not None
    return snapshot if is_there else None


def _fill(region: Region, record: FastRestore, snapshot: Snapshot, seconds_max: float) -> bool:
    """Have one volume in the pool that is ready; whether there is."""
    if ready_volumes(region, record):
        return True
    return load_one(region, record, snapshot, seconds_max=seconds_max) is not None


def _empty(region: Region, record: FastRestore) -> None:
    for volume_id in record.pool:
        volume = region.metadata.read(lambda reader: find_volume(reader, volume_id))  # noqa: B023 (called at once)
        if volume is not None and volume.pooled_zone is not None:
            discard_pooled(region, volume)


def _move(
    region: Region, record: FastRestore, state: FastRestoreState, reason: str
) -> FastRestore:
    """Take *record* to *state*, unless somebody has taken it elsewhere.

    Raises:
        Conflict: somebody has.
    """

    def moved(reader: Reader) -> FastRestore:
        current = find_fast_restore(reader, record.owner_id, record.snapshot_id, record.zone)
        if current is None or current.state is not record.state:
            raise Conflict(f"fast restore of {record.snapshot_id} has changed meanwhile.")
        new = current.moved(state, region.clock.now_ns(), reason)
        return replace(new, pool=()) if state is FastRestoreState.DISABLED else new

    return _change(region, moved)


def _forget(region: Region, record: FastRestore) -> None:
    with region.session():
        region.metadata.run(lambda txn: remove_fast_restore(txn, record))
        write_current_fast_restore(region, record)


def _change(region: Region, change: Callable[[Reader], FastRestore]) -> FastRestore:
    """Write what *change* makes, and report it."""
    region.metadata.read(change)

    def put(txn: Transaction) -> FastRestore:
        new = change(txn)
        old = find_fast_restore(txn, new.owner_id, new.snapshot_id, new.zone)
        if old == new:
            return new
        put_fast_restore(txn, new)
        snapshot = find_snapshot(txn, new.snapshot_id)
        if snapshot is not None:
            fast_restore_changed(
                txn, region, snapshot, new.zone, new.state.value, message=new.reason
            )
        return new

    with region.session():
        record = region.metadata.run(put)
        write_current_fast_restore(region, record)
    return record
