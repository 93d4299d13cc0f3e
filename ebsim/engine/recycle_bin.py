"""The recycle bin: what is in it, taking things out of it, and emptying it in time.

What is in the bin lacks nothing but being found: its row, manifest or record, tags,
permissions and all that it holds are kept.  Its time ends by the clock: from then on nobody
finds it, and ``sweep_recycle_bin`` gives back its room.

Source: https://docs.aws.amazon.com/ebs/latest/userguide/recycle-bin.html
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from ebsim.catalog.records import find_snapshot, find_volume, put_volume
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.snapshot_index import snapshot_id_in, volume_id_in
from ebsim.catalog.volume import Volume
from ebsim.chunkstore.reclaim import Reclaimed
from ebsim.engine.change_snapshot import change_snapshot
from ebsim.engine.delete_snapshot import purge_from_bin
from ebsim.engine.idle_volume import idle_volume
from ebsim.engine.kept_records import VOLUMES, write_current_record
from ebsim.engine.region import Region
from ebsim.engine.remove_volume import purge_volume_from_bin
from ebsim.errors import SnapshotNotFound, VolumeInUse, VolumeNotFound
from ebsim.ids import SnapshotId, VolumeId
from ebsim.metadata.transactions import Reader, Table, Transaction
from ebsim.volumes.volume_folder import VolumeFolder

_AFTER_ALL = b"\xff"
_ROWS_PER_STEP = 256
_NOTHING_YET = b""


@dataclass(frozen=True, slots=True)
class BinContents:
    """Some of what an account has in the bin, oldest entry first, and where the rest begins."""

    snapshots: Sequence[Snapshot] = ()
    volumes: Sequence[Volume] = ()
    after: bytes | None = None


def snapshots_in_bin(
    region: Region, *, after: bytes = _NOTHING_YET, limit: int | None = None
) -> BinContents:
    """At most *limit* of the account's snapshots in the bin; *after* is a former ``after``."""

    def look(reader: Reader, key: bytes) -> Snapshot | None:
        return find_snapshot(reader, snapshot_id_in(key))

    found, last = _contents(region, b"snap", look, after, limit)
    return BinContents(snapshots=[one for one in found if isinstance(one, Snapshot)], after=last)


def volumes_in_bin(
    region: Region, *, after: bytes = _NOTHING_YET, limit: int | None = None
) -> BinContents:
    """At most *limit* of the account's volumes in the bin; *after* is a former ``after``."""

    def look(reader: Reader, key: bytes) -> Volume | None:
        return find_volume(reader, volume_id_in(key))

    found, last = _contents(region, b"vol-", look, after, limit)
    return BinContents(volumes=[one for one in found if isinstance(one, Volume)], after=last)


def _contents(
    region: Region,
    kind: bytes,
    look: Callable[[Reader, bytes], Snapshot | Volume | None],
    after: bytes,
    limit: int | None,
) -> tuple[list[Snapshot | Volume], bytes | None]:
    prefix = region.account_id.encode() + kind
    now_ns = region.clock.now_ns()

    def step(reader: Reader) -> list[tuple[bytes, Snapshot | Volume | None]]:
        start = prefix + after + b"\0" if after else prefix
        rows = reader.scan(
            Table.RECYCLE_BIN_BY_OWNER, start, prefix + _AFTER_ALL, limit=_ROWS_PER_STEP
        )
        return [(key[len(prefix) :], look(reader, key)) for key, _ in rows]

    found: list[Snapshot | Volume] = []
    while True:
        rows = region.metadata.read(step)
        for suffix, resource in rows:
            stay = resource.bin_stay if resource is not None else None
            if resource is not None and stay is not None and not stay.is_over_at(now_ns):
                if len(found) == limit:
                    return found, after
                found.append(resource)
            after = suffix
        if len(rows) < _ROWS_PER_STEP:
            return found, None


def restore_snapshot_from_bin(region: Region, snapshot_id: str) -> Snapshot:
    """Take the account's snapshot out of the bin, as it was; return it.

    Raises:
        SnapshotNotFound: it is not in the bin, or its time there is over.
    """

    def restored(reader: Reader) -> Snapshot:
        snapshot = find_snapshot(reader, SnapshotId(snapshot_id))
        if snapshot is None or not _may_come_back(region, snapshot):
            raise SnapshotNotFound(snapshot_id)
        return replace(snapshot, bin_stay=None)

    return change_snapshot(region, restored)


def restore_volume_from_bin(region: Region, volume_id: str) -> Volume:
    """Take the account's volume out of the bin, as it was; return it.

    Raises:
        VolumeNotFound: it is not in the bin, or its time there is over.
        VolumeInUse: it is being removed at this moment.
    """

    def restored(reader: Reader) -> Volume:
        volume = find_volume(reader, VolumeId(volume_id))
        if volume is None or not _may_come_back(region, volume):
            raise VolumeNotFound(volume_id)
        return replace(volume, bin_stay=None)

    # Refused before anything is looked for on the disk.
    region.metadata.read(restored)
    folder = VolumeFolder(region.files, region.path / VOLUMES / volume_id)
    with idle_volume(folder), region.session():
        volume = region.metadata.run(lambda txn: _put_volume(txn, restored(txn)))
        write_current_record(region, volume.volume_id)
    return volume


def _put_volume(txn: Transaction, volume: Volume) -> Volume:
    put_volume(txn, volume)
    return volume


def _may_come_back(region: Region, resource: Snapshot | Volume) -> bool:
    stay = resource.bin_stay
    if resource.owner_id != region.account_id or stay is None:
        return False
    return not stay.is_over_at(region.clock.now_ns())


def sweep_recycle_bin(region: Region) -> Reclaimed:
    """Delete for good what has been in the bin for its time, whoever's it is.

    Costs one look-up when there is nothing to do.  A volume that somebody works on at this
    moment is left for the next sweep.
    """
    total = Reclaimed()
    after = _NOTHING_YET
    while keys := _over(region, after):
        after = keys[-1]
        found = region.metadata.read(
            lambda reader: [find_snapshot(reader, snapshot_id_in(key)) for key in keys]
        )
        snapshots = [snapshot for snapshot in found if snapshot is not None]
        if snapshots:
            freed = purge_from_bin(region, snapshots, _say_nothing)
            total.chunk_count += freed.chunk_count
            total.freed_bytes += freed.freed_bytes
        for key in keys:
            volume = region.metadata.read(lambda reader: find_volume(reader, volume_id_in(key)))  # noqa: B023 (called at once)
            if volume is not None:
                with suppress(VolumeInUse):
                    purge_volume_from_bin(region, volume)
    return total


def _over(region: Region, after: bytes) -> list[bytes]:
    """Rows of what has been in the bin for its time."""
    stop = (region.clock.now_ns() + 1).to_bytes(8, "big")
    start = after + b"\0" if after else b""
    rows = region.metadata.read(
        lambda reader: reader.scan(Table.RECYCLE_BIN, start, stop, limit=_ROWS_PER_STEP)
    )
    return [key for key, _ in rows]


def _say_nothing(snapshot: Snapshot) -> None:
    del snapshot
