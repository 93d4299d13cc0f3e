"""The recycle bin: what is in it, taking things out of it, and emptying it in time.

What is in the bin lacks nothing but being found: its row, manifest or record, tags,
permissions and all that it holds are kept.  Its time ends by the clock: from then on nobody
finds it, and ``sweep_recycle_bin`` gives back its room.

Source: https://docs.aws.amazon.com/ebs/latest/userguide/recycle-bin.html
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from ebsim.catalog.records import find_snapshot, find_volume, put_volume
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.snapshot_index import snapshot_id_in, volume_id_in
from ebsim.catalog.volume import Volume
from ebsim.chunkstore.reclaim import Reclaimed
from ebsim.engine.bin_overdue import overdue_in_bin
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


def snapshots_in_bin(region: Region) -> list[Snapshot]:
    """The account's snapshots in the bin, by the time at which they were deleted."""

    def look(reader: Reader) -> list[Snapshot | None]:
        return [
            find_snapshot(reader, snapshot_id_in(key)) for key in _keys(reader, region, "snap")
        ]

    found = region.metadata.read(look)
    return [one for one in found if one is not None and _may_come_back(region, one)]


def volumes_in_bin(region: Region) -> list[Volume]:
    """The account's volumes in the bin, by the time at which they were deleted."""

    def look(reader: Reader) -> list[Volume | None]:
        return [find_volume(reader, volume_id_in(key)) for key in _keys(reader, region, "vol-")]

    found = region.metadata.read(look)
    return [one for one in found if one is not None and _may_come_back(region, one)]


def _keys(reader: Reader, region: Region, kind: str) -> Iterator[bytes]:
    prefix = f"{region.account_id}{kind}".encode()
    start = prefix
    while True:
        rows = reader.scan(
            Table.RECYCLE_BIN_BY_OWNER, start, prefix + _AFTER_ALL, limit=_ROWS_PER_STEP
        )
        yield from (key for key, _ in rows)
        if len(rows) < _ROWS_PER_STEP:
            return
        start = rows[-1][0] + b"\0"


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
    while keys := overdue_in_bin(region, after):
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


def _say_nothing(snapshot: Snapshot) -> None:
    del snapshot
