"""The catalog's rows: snapshots, volumes and instances, and the indexes to find them by.

    table                key                                        value
    SNAPSHOTS            snapshot id                                the snapshot, JSON
    VOLUMES              volume id                                  the volume, JSON
    VOLUMES_BY_SOURCE    owner id, location                         volume id
    INSTANCES            instance id                                the instance, JSON

The rows that find snapshots, and what is in the recycle bin, are in ``snapshot_index.py``.
Functions work inside a transaction or reader given by the caller.
"""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter

from ebsim.catalog.audience import may_use
from ebsim.catalog.instance import Instance, decode_instance, encode_instance
from ebsim.catalog.snapshot import (
    Snapshot,
    decode_snapshot,
    encode_snapshot,
    seen_by,
)
from ebsim.catalog.snapshot_index import IndexRow, bin_rows, index_rows, snapshot_id_in
from ebsim.catalog.storage_tier import Archive
from ebsim.catalog.volume import Volume, decode_volume, deleted, encode_volume
from ebsim.content.digest import block_digest
from ebsim.errors import (
    InstanceNotFound,
    InvalidRequest,
    NotPermitted,
    SnapshotNotFound,
    VolumeNotFound,
)
from ebsim.ids import (
    AccountId,
    InstanceId,
    SnapshotId,
    VolumeId,
    is_id_prefix,
    is_whole_id,
)
from ebsim.metadata.transactions import Reader, Table, Transaction

_AFTER_ALL = b"\xff"
_LOCATION_KEY_MAX = 400


def put_snapshot(txn: Transaction, snapshot: Snapshot) -> None:
    """Write *snapshot*, new or changed, and make its index rows those that it needs."""
    old = find_snapshot(txn, snapshot.snapshot_id)
    txn.put_many(Table.SNAPSHOTS, [(snapshot.snapshot_id.encode(), encode_snapshot(snapshot))])
    _change_index(txn, index_rows(old) if old else frozenset(), index_rows(snapshot))


def _change_index(txn: Transaction, old: frozenset[IndexRow], new: frozenset[IndexRow]) -> None:
    for table, rows in groupby(sorted(old - new), key=itemgetter(0)):
        txn.delete_many(table, [key for _, key in rows])
    for table, rows in groupby(sorted(new), key=itemgetter(0)):
        txn.put_many(table, [(key, b"") for _, key in rows])


def remove_snapshot(txn: Transaction, snapshot: Snapshot) -> None:
    """Remove *snapshot* and its index rows, and what its volume left if it was the last."""
    txn.delete_many(Table.SNAPSHOTS, [snapshot.snapshot_id.encode()])
    _change_index(txn, index_rows(snapshot), frozenset())
    if snapshot.archive is not None:
        drop_archive(txn, snapshot.archive)
    volume = find_volume(txn, snapshot.volume_id)
    if volume is not None and volume.is_deleted:
        remove_volume(txn, volume)


def drop_archive(txn: Transaction, archive: Archive) -> None:
    """Have the packs of *archive* deleted: nobody needs them any more."""
    txn.put_many(Table.ARCHIVES_DROPPED, [(archive.archive_id.encode(), b"")])


def find_snapshot(reader: Reader, snapshot_id: SnapshotId) -> Snapshot | None:
    (row,) = reader.get_many(Table.SNAPSHOTS, [snapshot_id.encode()])
    return None if row is None else decode_snapshot(row)


def get_snapshot(reader: Reader, account_id: AccountId, name: str) -> Snapshot:
    """The account's snapshot whose id is *name*, or begins with it.

    One in the recycle bin is not found.

    Raises:
        InvalidRequest: *name* is no snapshot id, or fits several.
        SnapshotNotFound: there is none.
        NotPermitted: it is another's, which the account may use and not change.
    """
    if not is_id_prefix(name, "snap"):
        raise InvalidRequest(
            f"Value ({name}) for parameter snapshotId is invalid. Expected: 'snap-...'."
        )
    start = name.encode()
    found: list[Snapshot] = []
    for _, row in _scan(reader, Table.SNAPSHOTS, start, start + _AFTER_ALL):
        snapshot = decode_snapshot(row)
        if snapshot.owner_id == account_id and snapshot.bin_stay is None:
            found.append(snapshot)
        if len(found) > 1:
            raise InvalidRequest(
                f"'{name}' fits several snapshots: {found[0].snapshot_id}, "
                f"{found[1].snapshot_id} ... Give more of the id."
            )
    if found:
        return found[0]
    other = find_snapshot(reader, SnapshotId(name))
    if other is not None and may_use(reader, other, account_id):
        raise NotPermitted(
            f"{name} belongs to account {other.owner_id}: {account_id} may use it and not "
            "change it. Nothing was changed."
        )
    raise SnapshotNotFound(name)


def get_usable_snapshot(reader: Reader, account_id: AccountId, name: str) -> Snapshot:
    """A snapshot that the account may read: its own as :func:`get_snapshot`, or by its whole
    id one that was shared with it; under the account's tags.

    Raises:
        InvalidRequest: *name* is no snapshot id, or fits several.
        SnapshotNotFound: there is none.
    """
    other = find_snapshot(reader, SnapshotId(name)) if is_whole_id(name, "snap") else None
    if other is not None and may_use(reader, other, account_id):
        return seen_by(other, account_id)
    return get_snapshot(reader, account_id, name)


def _scan(
    reader: Reader, table: Table, start: bytes, stop: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """Yield all rows of a range, a bounded batch at a time."""
    while True:
        rows = reader.scan(table, start, stop, limit=256)
        yield from rows
        if len(rows) < 256:
            return
        start = rows[-1][0] + b"\0"


def newest_completed(reader: Reader, volume_id: VolumeId) -> Snapshot | None:
    """The volume's completed snapshot that was begun last; archived ones are passed over."""
    start, stop = volume_id.encode(), volume_id.encode() + _AFTER_ALL
    while True:
        rows = reader.scan(Table.SNAPSHOTS_BY_VOLUME, start, stop, limit=16, reverse=True)
        for key, _ in rows:
            snapshot = find_snapshot(reader, snapshot_id_in(key))
            if snapshot is not None and snapshot.is_readable:
                return snapshot
        if len(rows) < 16:
            return None
        stop = rows[-1][0]


def source_key(owner_id: AccountId, location: str) -> bytes:
    """The row that finds the account's volume read from *location*."""
    key = owner_id.encode() + location.encode(errors="surrogateescape")
    if len(key) > _LOCATION_KEY_MAX:
        # Keys of rows are short; a path may be 4096 bytes.
        key = key[:_LOCATION_KEY_MAX] + block_digest(key)
    return key


def put_volume(txn: Transaction, volume: Volume) -> None:
    """Write *volume*, new or changed, and the row that finds it by its location."""
    old = find_volume(txn, volume.volume_id)
    txn.put_many(Table.VOLUMES, [(volume.volume_id.encode(), encode_volume(volume))])
    _change_index(txn, bin_rows(old) if old else frozenset(), bin_rows(volume))
    if volume.location:
        key = source_key(volume.owner_id, volume.location)
        txn.put_many(Table.VOLUMES_BY_SOURCE, [(key, volume.volume_id.encode())])


def find_volume(reader: Reader, volume_id: VolumeId) -> Volume | None:
    (row,) = reader.get_many(Table.VOLUMES, [volume_id.encode()])
    return None if row is None else decode_volume(row)


def find_volume_at(reader: Reader, owner_id: AccountId, location: str) -> Volume | None:
    """The account's volume that is read from *location*."""
    (row,) = reader.get_many(Table.VOLUMES_BY_SOURCE, [source_key(owner_id, location)])
    return None if row is None else find_volume(reader, VolumeId(row.decode()))


def remove_volume(txn: Transaction, volume: Volume) -> None:
    """Remove a local volume's row, or mark it deleted while snapshots name it."""
    prefix = volume.volume_id.encode()
    _change_index(txn, bin_rows(volume), frozenset())
    if txn.scan(Table.SNAPSHOTS_BY_VOLUME, prefix, prefix + _AFTER_ALL, limit=1):
        put_volume(txn, deleted(volume))
    else:
        txn.delete_many(Table.VOLUMES, [volume.volume_id.encode()])


def get_volume(reader: Reader, account_id: AccountId, name: str) -> Volume:
    """The account's volume whose id is *name*, or begins with it.

    Raises:
        InvalidRequest: *name* is no volume id, or fits several.
        VolumeNotFound: there is none.
    """
    if not is_id_prefix(name, "vol"):
        raise InvalidRequest(
            f"Value ({name}) for parameter volumeId is invalid. Expected: 'vol-...'."
        )
    start = name.encode()
    found: list[Volume] = []
    for _, row in _scan(reader, Table.VOLUMES, start, start + _AFTER_ALL):
        volume = decode_volume(row)
        if volume.owner_id == account_id and not _is_hidden(volume):
            found.append(volume)
        if len(found) > 1:
            raise InvalidRequest(
                f"'{name}' fits several volumes: {found[0].volume_id}, "
                f"{found[1].volume_id} ... Give more of the id."
            )
    if not found:
        raise VolumeNotFound(name)
    return found[0]


def scan_volumes(reader: Reader, account_id: AccountId | None = None) -> list[Volume]:
    """The volumes of an account, or of all, by id; those in the recycle bin or a pool left out."""
    volumes = (decode_volume(row) for _, row in _scan(reader, Table.VOLUMES, b"", _AFTER_ALL))
    return [
        volume
        for volume in volumes
        if account_id in (None, volume.owner_id) and not _is_hidden(volume)
    ]


def _is_hidden(volume: Volume) -> bool:
    return volume.is_deleted or volume.bin_stay is not None or volume.pooled_zone is not None


def put_instance(txn: Transaction, instance: Instance) -> None:
    """Write *instance*, new or changed."""
    txn.put_many(Table.INSTANCES, [(instance.instance_id.encode(), encode_instance(instance))])


def remove_instance(txn: Transaction, instance_id: InstanceId) -> None:
    txn.delete_many(Table.INSTANCES, [instance_id.encode()])


def scan_instances(
    reader: Reader, account_id: AccountId | None = None, *, terminated: bool = False
) -> list[Instance]:
    """The instances of an account, or of all, by id; *terminated* ones only if asked for."""
    instances = (
        decode_instance(row) for _, row in _scan(reader, Table.INSTANCES, b"", _AFTER_ALL)
    )
    return [
        one
        for one in instances
        if account_id in (None, one.owner_id) and (terminated or one.terminate_time_ns is None)
    ]


def get_instance(reader: Reader, account_id: AccountId, name: str) -> Instance:
    """The account's instance of that name, or whose id is *name* or begins with it.

    Raises:
        InvalidRequest: the beginning of an id fits several.
        InstanceNotFound: there is none.
    """
    instances = scan_instances(reader, account_id)
    named = [one for one in instances if one.name == name]
    if not named and is_id_prefix(name, "i"):
        named = [one for one in instances if one.instance_id.startswith(name)]
    if not named:
        raise InstanceNotFound(name)
    if len(named) > 1:
        raise InvalidRequest(
            f"'{name}' fits several instances: {named[0].instance_id}, "
            f"{named[1].instance_id} ... Give more of the id."
        )
    return named[0]


def volumes_attached_to(reader: Reader, instance: Instance) -> list[Volume]:
    """The instance's volumes in the order in which they were attached, the boot volume first."""
    found = [
        (volume.attachment.attach_time_ns, volume.volume_id, volume)
        for volume in scan_volumes(reader, instance.owner_id)
        if volume.attachment is not None and volume.attachment.instance_id == instance.instance_id
    ]
    return [volume for _, _, volume in sorted(found, key=lambda one: one[:2])]
