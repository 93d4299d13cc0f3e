"""The catalog's rows: snapshots, volumes and instances, and the indexes to find them by.

    table                key                                        value
    SNAPSHOTS            snapshot id                                the snapshot, JSON
    SNAPSHOTS_BY_TIME    owner id, start time 8 BE, snapshot id     empty
    SNAPSHOTS_BY_VOLUME  volume id, start time 8 BE, snapshot id    empty
    VOLUMES              volume id                                  the volume, JSON
    VOLUMES_BY_SOURCE    owner id, location                         volume id
    INSTANCES            instance id                                the instance, JSON

Functions work inside a transaction or reader given by the caller.
"""

from collections.abc import Iterator

from ebsim.catalog.instance import Instance, decode_instance, encode_instance
from ebsim.catalog.snapshot import Snapshot, SnapshotState, decode_snapshot, encode_snapshot
from ebsim.catalog.volume import Volume, decode_volume, deleted, encode_volume
from ebsim.content.digest import block_digest
from ebsim.errors import InstanceNotFound, InvalidRequest, SnapshotNotFound, VolumeNotFound
from ebsim.ids import (
    AccountId,
    InstanceId,
    SnapshotId,
    VolumeId,
    is_id_prefix,
)
from ebsim.metadata.transactions import Reader, Table, Transaction

_AFTER_ALL = b"\xff"
_LOCATION_KEY_MAX = 400


def index_keys(snapshot: Snapshot) -> dict[Table, bytes]:
    """The rows that find *snapshot* by its owner and by its volume."""
    key = snapshot.start_time_ns.to_bytes(8, "big") + snapshot.snapshot_id.encode()
    return {
        Table.SNAPSHOTS_BY_TIME: snapshot.owner_id.encode() + key,
        Table.SNAPSHOTS_BY_VOLUME: snapshot.volume_id.encode() + key,
    }


def put_snapshot(txn: Transaction, snapshot: Snapshot) -> None:
    """Write *snapshot* and its index rows, new or changed."""
    txn.put_many(Table.SNAPSHOTS, [(snapshot.snapshot_id.encode(), encode_snapshot(snapshot))])
    for table, key in index_keys(snapshot).items():
        txn.put_many(table, [(key, b"")])


def remove_snapshot(txn: Transaction, snapshot: Snapshot) -> None:
    """Remove *snapshot* and its index rows, and what its volume left if it was the last."""
    txn.delete_many(Table.SNAPSHOTS, [snapshot.snapshot_id.encode()])
    for table, key in index_keys(snapshot).items():
        txn.delete_many(table, [key])
    volume = find_volume(txn, snapshot.volume_id)
    if volume is not None and volume.is_deleted:
        remove_volume(txn, volume)


def find_snapshot(reader: Reader, snapshot_id: SnapshotId) -> Snapshot | None:
    (row,) = reader.get_many(Table.SNAPSHOTS, [snapshot_id.encode()])
    return None if row is None else decode_snapshot(row)


def get_snapshot(reader: Reader, account_id: AccountId, name: str) -> Snapshot:
    """The account's snapshot whose id is *name*, or begins with it.

    Raises:
        InvalidRequest: *name* is no snapshot id, or fits several.
        SnapshotNotFound: there is none.
    """
    if not is_id_prefix(name, "snap"):
        raise InvalidRequest(
            f"Value ({name}) for parameter snapshotId is invalid. Expected: 'snap-...'."
        )
    start = name.encode()
    found: list[Snapshot] = []
    for _, row in _scan(reader, Table.SNAPSHOTS, start, start + _AFTER_ALL):
        snapshot = decode_snapshot(row)
        if snapshot.owner_id == account_id:
            found.append(snapshot)
        if len(found) > 1:
            raise InvalidRequest(
                f"'{name}' fits several snapshots: {found[0].snapshot_id}, "
                f"{found[1].snapshot_id} ... Give more of the id."
            )
    if not found:
        raise SnapshotNotFound(name)
    return found[0]


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
    """The volume's completed snapshot that was begun last."""
    start, stop = volume_id.encode(), volume_id.encode() + _AFTER_ALL
    while True:
        rows = reader.scan(Table.SNAPSHOTS_BY_VOLUME, start, stop, limit=16, reverse=True)
        for key, _ in rows:
            snapshot = find_snapshot(reader, _snapshot_id_in(key))
            if snapshot is not None and snapshot.state is SnapshotState.COMPLETED:
                return snapshot
        if len(rows) < 16:
            return None
        stop = rows[-1][0]


def _snapshot_id_in(key: bytes) -> SnapshotId:
    return SnapshotId(key[key.rindex(b"snap-") :].decode())


def scan_snapshots(
    reader: Reader,
    *,
    owner_id: AccountId | None = None,
    volume_id: VolumeId | None = None,
    after: bytes = b"",
    limit: int,
) -> list[tuple[bytes, Snapshot]]:
    """At most *limit* snapshots of a volume or an account, by rising start time.

    Each comes with the key to pass as *after* to go on behind it.
    """
    table = Table.SNAPSHOTS_BY_VOLUME if volume_id else Table.SNAPSHOTS_BY_TIME
    prefix = (volume_id or owner_id or "").encode()
    start = after + b"\0" if after else prefix
    keys = [key for key, _ in reader.scan(table, start, prefix + _AFTER_ALL, limit=limit)]
    rows = reader.get_many(Table.SNAPSHOTS, [_snapshot_id_in(key).encode() for key in keys])
    return [
        (key, decode_snapshot(row)) for key, row in zip(keys, rows, strict=True) if row is not None
    ]


def source_key(owner_id: AccountId, location: str) -> bytes:
    """The row that finds the account's volume read from *location*."""
    key = owner_id.encode() + location.encode(errors="surrogateescape")
    if len(key) > _LOCATION_KEY_MAX:
        # Keys of rows are short; a path may be 4096 bytes.
        key = key[:_LOCATION_KEY_MAX] + block_digest(key)
    return key


def put_volume(txn: Transaction, volume: Volume) -> None:
    """Write *volume*, new or changed, and the row that finds it by its location."""
    txn.put_many(Table.VOLUMES, [(volume.volume_id.encode(), encode_volume(volume))])
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
    if scan_snapshots(txn, volume_id=volume.volume_id, limit=1):
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
        if volume.owner_id == account_id and not volume.is_deleted:
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
    """The volumes of an account, or of all, by id."""
    volumes = (decode_volume(row) for _, row in _scan(reader, Table.VOLUMES, b"", _AFTER_ALL))
    return [
        volume
        for volume in volumes
        if account_id in (None, volume.owner_id) and not volume.is_deleted
    ]


def put_instance(txn: Transaction, instance: Instance) -> None:
    """Write *instance*, new or changed."""
    txn.put_many(Table.INSTANCES, [(instance.instance_id.encode(), encode_instance(instance))])


def remove_instance(txn: Transaction, instance_id: InstanceId) -> None:
    txn.delete_many(Table.INSTANCES, [instance_id.encode()])


def scan_instances(reader: Reader, account_id: AccountId | None = None) -> list[Instance]:
    """The instances of an account, or of all, by id."""
    instances = (
        decode_instance(row) for _, row in _scan(reader, Table.INSTANCES, b"", _AFTER_ALL)
    )
    return [one for one in instances if account_id in (None, one.owner_id)]


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
