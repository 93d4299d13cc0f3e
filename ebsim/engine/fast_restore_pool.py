"""The pool of fast restore: volumes loaded ahead, made and handed out.

A pooled volume has its id, folder, row and hold like any other, but nobody finds it.  Its
place is in the record of the fast restore that it is for, from the transaction that makes
it to the one that hands it out, so that none is ever forgotten:

    1  the folder made, the row put and the record's pool longer by it, in one transaction
    2  loaded until it stands alone; whoever comes by goes on with that
    3  transaction   its row is its new owner's, the pool lacks it, a credit is spent

It is as large as EC2 makes volumes: whole GiB.  A larger one is grown before 3.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import inf
from time import monotonic

from ebsim.catalog.fast_restore import (
    FastRestore,
    FastRestoreState,
    fast_restore_key,
    find_fast_restore,
    put_fast_restore,
)
from ebsim.catalog.records import find_volume, put_volume
from ebsim.catalog.snapshot import Snapshot, lineage_of
from ebsim.catalog.volume import Volume
from ebsim.engine.add_volume import add_volume
from ebsim.engine.kept_records import write_current_record
from ebsim.engine.kept_settings import write_current_row
from ebsim.engine.open_volume import open_volume
from ebsim.engine.record_events import volume_created
from ebsim.engine.region import Region
from ebsim.errors import Conflict, StorageFull, StorageUnavailable, VolumeInUse
from ebsim.ids import VolumeId, new_volume_id
from ebsim.metadata.transactions import Reader, Table, Transaction
from ebsim.units import GIB
from ebsim.volumes.hydration import HydrationState
from ebsim.volumes.volume_folder import VolumeFolder, VolumeState

FAST_RESTORE = "fast restore"
_LOOK_SECONDS = 0.2
_ATTEMPTS_MAX = 16  # to get one of a pool that others take from as well

Check = Callable[[Transaction, VolumeId], None]


def first_zone(region_name: str) -> str:
    """The zone of a volume that was made without naming one."""
    return f"{region_name}a"


def write_current_fast_restore(region: Region, record: FastRestore) -> None:
    """Keep the record in its file."""
    key = fast_restore_key(record.owner_id, record.snapshot_id, record.zone)
    write_current_row(region, Table.FAST_RESTORES, key)


def take_from_pool(
    region: Region, snapshot: Snapshot, planned: Volume, check: Check
) -> Volume | None:
    """The *planned* volume of *snapshot*, all of it here, if fast restore has a credit.

    It is one of the pool, under that one's id; if none is ready, one is loaded now.  *check*
    is called in the transaction that hands it out.  ``None`` where there is no credit, or
    its blocks cannot all be had: the volume is then to be made as any other.
    """
    zone = planned.settings.zone or first_zone(region.name)

    def record(reader: Reader) -> FastRestore | None:
        found = find_fast_restore(reader, region.account_id, snapshot.snapshot_id, zone)
        if found is None or found.credits_at(region.clock.now_ns()) < 1:
            return None
        return found

    for _ in range(_ATTEMPTS_MAX):
        found = region.metadata.read(record)
        if found is None:
            return None
        ready = next(iter(ready_volumes(region, found)), None)
        if ready is None:
            with suppress(StorageUnavailable):
                ready = load_one(region, found, snapshot)
        if ready is None:
            return None
        with suppress(Conflict):  # somebody else takes that one
            taken = _hand_out(region, ready, found, planned, check)
            if taken is not None:
                return taken
    return None


def ready_volumes(region: Region, record: FastRestore) -> list[VolumeId]:
    """Those of the pool that stand alone."""
    volumes = region.metadata.read(
        lambda reader: [find_volume(reader, volume_id) for volume_id in record.pool]
    )
    return [one.volume_id for one in volumes if one is not None and one.origin is None]


def load_one(
    region: Region, record: FastRestore, snapshot: Snapshot, *, seconds_max: float = inf
) -> VolumeId | None:
    """Load a volume of the pool, one that was begun or else a new one, as :func:`load` does.

    Raises:
        Conflict: fast restore was disabled meanwhile.
        StorageFull: there is no room for it.
    """
    volumes = region.metadata.read(
        lambda reader: [find_volume(reader, volume_id) for volume_id in record.pool]
    )
    for begun in volumes:
        if begun is not None and begun.origin is not None:
            with suppress(VolumeInUse):  # somebody else loads that one
                return load(region, begun.volume_id, seconds_max=seconds_max)
    return load(region, add_to_pool(region, record, snapshot), seconds_max=seconds_max)


def add_to_pool(region: Region, record: FastRestore, snapshot: Snapshot) -> VolumeId:
    """Make a volume of *snapshot* for the pool; it is not loaded yet.

    Raises:
        Conflict: fast restore was disabled meanwhile.
    """
    volume = Volume(
        volume_id=new_volume_id(region.random),
        owner_id=record.owner_id,
        location="",
        size_bytes=snapshot.volume_size_gib * GIB,
        block_size=snapshot.block_size,
        create_time_ns=region.clock.now_ns(),
        is_local=True,
        snapshot_id=snapshot.snapshot_id,
        origin=snapshot.root.hex() if snapshot.root else None,
        origin_block_count=snapshot.block_count,
        origin_referenced_bytes=snapshot.referenced_bytes,
        lineage=lineage_of(snapshot),
        pooled_zone=record.zone,
    )

    def fill(folder: VolumeFolder) -> None:
        folder.create(
            VolumeState(volume.size_bytes, volume.block_size, snapshot.root, snapshot.snapshot_id)
        )

    def check(txn: Transaction) -> None:
        current = _current(txn, record)
        if current is None or current.state not in _FILLED:
            raise Conflict(
                f"fast restore of {record.snapshot_id} in {record.zone} was disabled meanwhile. "
                "Nothing was changed."
            )
        put_fast_restore(txn, replace(current, pool=(*current.pool, volume.volume_id)))

    add_volume(region, volume, fill, check)
    write_current_fast_restore(region, record)
    return volume.volume_id


_FILLED = frozenset({FastRestoreState.OPTIMIZING, FastRestoreState.ENABLED})


def _current(reader: Reader, record: FastRestore) -> FastRestore | None:
    return find_fast_restore(reader, record.owner_id, record.snapshot_id, record.zone)


def load(region: Region, volume_id: VolumeId, *, seconds_max: float = inf) -> VolumeId | None:
    """Load a pooled volume until it stands alone; ``None`` if it does not yet.

    It does not when *seconds_max* are over, or when some of its blocks cannot be had.

    Raises:
        VolumeInUse: somebody else loads it.
        StorageFull: there is no room for it.
    """
    with open_volume(region, volume_id, FAST_RESTORE, hydrates=True) as opened:
        hydrator = opened.hydrator
        over_at = monotonic() + seconds_max
        while hydrator is not None and not hydrator.wait(_LOOK_SECONDS):
            progress = hydrator.progress()
            if progress.state is HydrationState.FULL:
                raise StorageFull(f"{volume_id}: {progress.failure}")
            if progress.state is not HydrationState.RUNNING or monotonic() > over_at:
                return None
        return volume_id if opened.device.origin is None else None


def _hand_out(
    region: Region, volume_id: VolumeId, record: FastRestore, planned: Volume, check: Check
) -> Volume | None:
    """Step 3; ``None`` if it is not to be had any more.

    Raises:
        Conflict: somebody else has it.
    """

    def hand_out(txn: Transaction) -> Volume | None:
        current, volume = _current(txn, record), find_volume(txn, volume_id)
        now_ns = region.clock.now_ns()
        if current is None or current.credits_at(now_ns) < 1:
            return None
        if volume is None or volume.pooled_zone is None or volume.origin is not None:
            return None
        check(txn, volume_id)
        pool = tuple(one for one in current.pool if one != volume_id)
        put_fast_restore(txn, replace(current.spent(now_ns), pool=pool))
        taken = replace(
            planned,
            volume_id=volume_id,
            size_bytes=max(planned.size_bytes, volume.size_bytes),
            origin=None,
            fast_restored=True,
        )
        put_volume(txn, taken)
        volume_created(txn, region, taken)
        return taken

    with open_volume(region, volume_id, FAST_RESTORE, hydrates=False) as opened:
        if planned.size_bytes > opened.device.size_bytes:
            opened.device.grow(planned.size_bytes)
        taken = region.metadata.run(hand_out)
        if taken is not None:
            write_current_record(region, volume_id)
            write_current_fast_restore(region, record)
    return taken
