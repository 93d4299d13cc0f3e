"""Making a volume, and noting that it needs its origin no more.

    1  the folder, with state and record, under a name that says it is being made
    2  transaction   the volume's row; a hold on the snapshot's root
    3  the folder gets its name

A crash before 2 leaves a folder that recovery deletes, one after it a volume whose folder
recovery renames.  Nothing is copied: the cost is that of a few small files.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ebsim.catalog.records import find_volume, get_snapshot, get_volume, put_volume
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.volume import Volume, volume_from_json, volume_to_json
from ebsim.content.fingerprint import checksum
from ebsim.durable_files import Files, write_atomically
from ebsim.engine.holds import drop_all_holds, take_hold, volume_holder
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.source_volume import BLOCK_SIZE_DEFAULT, check_block_size
from ebsim.errors import Conflict, InvalidRequest, MetadataCorrupt
from ebsim.ids import VolumeId, new_volume_id
from ebsim.metadata.transactions import Reader, Transaction
from ebsim.sources.source import SIZE_BYTES_MAX
from ebsim.units import GIB
from ebsim.volumes.volume_folder import NEVER_COMPARED, VolumeFolder, VolumeState

VOLUMES = "volumes"
NEW_PREFIX = ".new-"
GONE_PREFIX = ".gone-"
_RECORD = "volume.json"


@dataclass(frozen=True, slots=True)
class VolumeOptions:
    """What a new volume is to be.

    Attributes:
        snapshot: Id or unique prefix of the snapshot to make it from; ``None`` for empty.
        size_gib: Its size; by default the snapshot's exact length.
        block_size: Of an empty volume; one made from a snapshot has the snapshot's.
        first: Ranges of bytes (start, stop) to load before the others.
        like: A volume of the same snapshot whose order of first reading is followed then.
    """

    snapshot: str | None = None
    size_gib: int | None = None
    block_size: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    first: Sequence[tuple[int, int]] = ()
    like: str | None = None


def create_volume(region: Region, options: VolumeOptions) -> Volume:
    """Make a volume; it can be used at once, and the snapshot be deleted at once.

    Cost: a few milliseconds, whatever the size.

    Raises:
        SnapshotNotFound: there is no such snapshot.
        Conflict: it is not completed.
        InvalidRequest: an option makes no sense, or the size is less than the snapshot's.
    """
    recover(region)
    snapshot = _source(region, options)
    volume = _planned(region, options, snapshot)
    order = _recorded_order(region, options, volume)
    volumes = region.path / VOLUMES
    region.files.make_directories(volumes)
    folder = VolumeFolder(region.files, volumes / f"{NEW_PREFIX}{volume.volume_id}")
    root = snapshot.root if snapshot else None
    since = snapshot.snapshot_id if snapshot else NEVER_COMPARED
    lock = folder.begin()
    try:
        folder.create(VolumeState(volume.size_bytes, volume.block_size, root, since))
        _write_hydration(region.files, folder, options, volume, order)
        write_record(region.files, folder.path, volume)

        def register(txn: Transaction) -> None:
            put_volume(txn, volume)
            if root is not None:
                take_hold(txn, volume_holder(volume.volume_id), root)

        region.metadata.run(register)
        region.files.rename(folder.path, volumes / volume.volume_id)
        region.files.sync_directory(volumes)
    finally:
        region.files.close(lock)
    return volume


def volume_stands_alone(region: Region, volume_id: VolumeId) -> None:
    """Every block of the volume is here: let go of what it was made from.

    Harmless when it was done before.
    """

    def note(txn: Transaction) -> Volume | None:
        volume = find_volume(txn, volume_id)
        if volume is None or volume.origin is None:
            return None
        alone = replace(volume, origin=None)
        put_volume(txn, alone)
        return alone

    volume = region.metadata.run(note)
    if volume is not None:
        write_record(region.files, region.path / VOLUMES / volume_id, volume)
    drop_all_holds(region, volume_id)
    region.reclaimer().run()


def write_record(files: Files, folder: Path, volume: Volume) -> None:
    """Keep the volume's record with its bytes, for the day on which the metadata is lost."""
    body = json.dumps(volume_to_json(volume), sort_keys=True)
    document = {"volume": json.loads(body), "checksum": checksum(body.encode()).hex()}
    write_atomically(files, folder / _RECORD, json.dumps(document).encode())


def read_record(files: Files, folder: Path) -> Volume:
    """The record that ``write_record`` wrote.

    Raises:
        MetadataCorrupt: it is missing or damaged.
    """
    path = folder / _RECORD
    try:
        descriptor = files.open_to_read(path)
    except FileNotFoundError as error:
        raise MetadataCorrupt(where=str(path), found="it is missing") from error
    try:
        text = files.read(descriptor, 0, 1 << 20)
    finally:
        files.close(descriptor)
    try:
        document = json.loads(text)
        body = json.dumps(document["volume"], sort_keys=True)
        if checksum(body.encode()).hex() != document["checksum"]:
            raise MetadataCorrupt(where=str(path), found="a checksum that does not fit")
        return volume_from_json(document["volume"])
    except (ValueError, KeyError, TypeError) as error:
        raise MetadataCorrupt(where=str(path), found=repr(error)) from error


def _source(region: Region, options: VolumeOptions) -> Snapshot | None:
    name = options.snapshot
    if name is None:
        return None
    snapshot = region.metadata.read(lambda reader: get_snapshot(reader, region.account_id, name))
    if snapshot.state is not SnapshotState.COMPLETED:
        raise Conflict(
            f"{snapshot.snapshot_id} is {snapshot.state}, not completed. No volume was made."
        )
    return snapshot


def _planned(region: Region, options: VolumeOptions, snapshot: Snapshot | None) -> Volume:
    if options.block_size is not None and snapshot is not None:
        raise InvalidRequest(
            f"a volume made from {snapshot.snapshot_id} has its blocks of {snapshot.block_size} "
            "bytes. No volume was made. Leave --block-size out."
        )
    block_size = snapshot.block_size if snapshot else options.block_size or BLOCK_SIZE_DEFAULT
    check_block_size(block_size)
    return Volume(
        volume_id=new_volume_id(region.random),
        owner_id=region.account_id,
        location="",
        size_bytes=_size(options, snapshot),
        block_size=block_size,
        create_time_ns=region.clock.now_ns(),
        is_local=True,
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        origin=snapshot.root.hex() if snapshot and snapshot.root else None,
        origin_block_count=snapshot.block_count if snapshot else 0,
        origin_referenced_bytes=snapshot.referenced_bytes if snapshot else 0,
        tags=dict(options.tags),
    )


def _size(options: VolumeOptions, snapshot: Snapshot | None) -> int:
    """The size in bytes: what was asked for, or the snapshot's exact length."""
    gib = options.size_gib
    if gib is None:
        if snapshot is None:
            raise InvalidRequest(
                "an empty volume needs a size. No volume was made. Give --size GIB, or "
                "--snapshot SNAP."
            )
        return snapshot.size_bytes
    if gib < 1 or gib * GIB > SIZE_BYTES_MAX:
        raise InvalidRequest(
            f"a volume of {gib} GiB cannot be made: from 1 to {SIZE_BYTES_MAX // GIB} GiB can. "
            "No volume was made."
        )
    if snapshot is not None and gib < snapshot.volume_size_gib:
        raise InvalidRequest(
            f"a size of {gib} GiB is less than the {snapshot.volume_size_gib} GiB of "
            f"{snapshot.snapshot_id}. No volume was made. Give that size or more."
        )
    return gib * GIB


def _recorded_order(region: Region, options: VolumeOptions, volume: Volume) -> Path | None:
    """Where the order of first reading is that the volume is to follow."""
    name = options.like
    if name is None:
        return None

    def find(reader: Reader) -> Volume:
        return get_volume(reader, region.account_id, name)

    like = region.metadata.read(find)
    if not like.is_local or like.snapshot_id != volume.snapshot_id or volume.snapshot_id is None:
        raise InvalidRequest(
            f"{like.volume_id} was not made from the same snapshot. No volume was made. "
            "An order of loading can be taken over from a volume of the same snapshot only."
        )
    return VolumeFolder(region.files, region.path / VOLUMES / like.volume_id).access


def _write_hydration(
    files: Files, folder: VolumeFolder, options: VolumeOptions, volume: Volume, order: Path | None
) -> None:
    size = volume.block_size
    for start, stop in options.first:
        if not 0 <= start < stop <= volume.size_bytes:
            raise InvalidRequest(
                f"the range {start}-{stop} to load first is not within the volume's "
                f"{volume.size_bytes} bytes. No volume was made."
            )
    if options.first:
        ranges = [[start // size, -(-stop // size)] for start, stop in options.first]
        write_atomically(files, folder.hydrate_first, json.dumps({"first": ranges}).encode())
    if order is not None and files.status(order) is not None:
        indexes = folder.read_block_indexes(order)
        text = b"".join(index.to_bytes(8, "little") for index in indexes)
        write_atomically(files, folder.hydrate_order, text)
