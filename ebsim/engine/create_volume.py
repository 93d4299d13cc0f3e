"""Making a volume."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ebsim.catalog.audience import may_use
from ebsim.catalog.client_tokens import TokenUse
from ebsim.catalog.records import (
    find_snapshot,
    get_usable_snapshot,
    get_volume,
)
from ebsim.catalog.snapshot import Snapshot, SnapshotState, lineage_of
from ebsim.catalog.volume import Volume
from ebsim.catalog.volume_settings import VolumeSettings
from ebsim.durable_files import write_atomically
from ebsim.engine.add_volume import add_volume
from ebsim.engine.fast_restore_pool import take_from_pool
from ebsim.engine.kept_records import VOLUMES
from ebsim.engine.made_once import made_once, note_made
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.source_volume import BLOCK_SIZE_DEFAULT, check_block_size
from ebsim.engine.storage_tiers import refuse_archived
from ebsim.engine.tags import check_tags
from ebsim.errors import Conflict, InvalidRequest, SnapshotNotFound
from ebsim.ids import VolumeId, new_volume_id
from ebsim.metadata.transactions import Reader, Transaction
from ebsim.sources.source import SIZE_BYTES_MAX
from ebsim.units import GIB
from ebsim.volumes.volume_folder import NEVER_COMPARED, VolumeFolder, VolumeState


@dataclass(frozen=True, slots=True)
class VolumeOptions:
    """What a new volume is to be.

    Attributes:
        snapshot: Id or unique prefix of the snapshot to make it from; ``None`` for empty.
        size_gib: Its size; by default the snapshot's exact length.
        block_size: Of an empty volume; one made from a snapshot has the snapshot's.
        first: Ranges of bytes (start, stop) to load before the others.
        like: A volume of the same snapshot whose order of first reading is followed then.
        settings: Type, speed and zone.
        initialization_rate: Of one made from a snapshot: MiB a second that it is loaded with
            at the most, by whoever does not say otherwise.  It is not fast restored then.
        token_use: The client token that the request comes with: twice the same gives the
            volume of the first time.
    """

    snapshot: str | None = None
    size_gib: int | None = None
    block_size: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    first: Sequence[tuple[int, int]] = ()
    like: str | None = None
    settings: VolumeSettings = field(default_factory=VolumeSettings)
    initialization_rate: int | None = None
    token_use: TokenUse | None = None


def create_volume(region: Region, options: VolumeOptions) -> Volume:
    """Make a volume; it can be used at once, and the snapshot be deleted at once.

    Nothing is copied: it costs a few milliseconds, whatever the size.  Where fast restore is
    enabled and has a credit, the volume is one that was loaded before, or is loaded now,
    unless a rate is given.

    Raises:
        SnapshotNotFound, VolumeNotFound: there is no such snapshot, or volume to be like.
        Conflict: the snapshot is not completed.
        SnapshotArchived: it is archived.
        InvalidRequest: an option makes no sense, or the size is less than the snapshot's.
        ClientTokenReused: the client token came with another request before.

    Source:
        What a rate means for fast restore:
        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html
    """
    check_tags(options.tags)
    recover(region)
    return made_once(region, options.token_use, lambda: _create(region, options))


def _create(region: Region, options: VolumeOptions) -> Volume:
    snapshot = _source(region, options)
    volume = _planned(region, options, snapshot)
    ranges = _first_ranges(options, volume)
    order = _recorded_order(region, options, volume)
    root = snapshot.root if snapshot else None
    since = snapshot.snapshot_id if snapshot else NEVER_COMPARED

    def fill(folder: VolumeFolder) -> None:
        folder.create(VolumeState(volume.size_bytes, volume.block_size, root, since))
        if ranges:
            text = json.dumps({"first": ranges}).encode()
            write_atomically(region.files, folder.hydrate_first, text)
        if order:
            write_atomically(region.files, folder.hydrate_order, order)

    def check(txn: Transaction, volume_id: VolumeId = volume.volume_id) -> None:
        note_made(txn, region, options.token_use, volume_id)
        if snapshot is None:
            return
        current = find_snapshot(txn, snapshot.snapshot_id)
        if current is None or not may_use(txn, current, region.account_id):
            raise SnapshotNotFound(snapshot.snapshot_id)
        refuse_archived(region, current)

    if snapshot is not None and options.initialization_rate is None:
        taken = take_from_pool(region, snapshot, volume, check)
        if taken is not None:
            return taken
    add_volume(region, volume, fill, check)
    return volume


def _source(region: Region, options: VolumeOptions) -> Snapshot | None:
    name = options.snapshot
    if name is None:
        return None
    snapshot = region.metadata.read(
        lambda reader: get_usable_snapshot(reader, region.account_id, name)
    )
    refuse_archived(region, snapshot)
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
    _check_rate(options)
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
        lineage=lineage_of(snapshot) if snapshot else "",
        settings=options.settings,
        initialization_rate=options.initialization_rate,
    )


def _check_rate(options: VolumeOptions) -> None:
    rate = options.initialization_rate
    if rate is None:
        return
    if rate < 1:
        raise InvalidRequest(
            f"a volume cannot be loaded with {rate} MiB a second: it must be 1 or more. No "
            "volume was made."
        )
    if options.snapshot is None:
        raise InvalidRequest(
            "an empty volume has nothing to load at any rate. No volume was made. Leave the "
            "initialization rate out, or name a snapshot to make it from."
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


def _first_ranges(options: VolumeOptions, volume: Volume) -> list[list[int]]:
    """The ranges of blocks to load before the others."""
    size = volume.block_size
    for start, stop in options.first:
        if not 0 <= start < stop <= volume.size_bytes:
            raise InvalidRequest(
                f"the range {start}-{stop} to load first is not within the volume's "
                f"{volume.size_bytes} bytes. No volume was made."
            )
    return [[start // size, -(-stop // size)] for start, stop in options.first]


def _recorded_order(region: Region, options: VolumeOptions, volume: Volume) -> bytes:
    """The order of first reading that the volume is to follow, as ``hydrate.order`` has it."""
    name = options.like
    if name is None:
        return b""

    def find(reader: Reader) -> Volume:
        return get_volume(reader, region.account_id, name)

    like = region.metadata.read(find)
    if not like.is_local or like.snapshot_id != volume.snapshot_id or volume.snapshot_id is None:
        raise InvalidRequest(
            f"{like.volume_id} was not made from the same snapshot. No volume was made. "
            "An order of loading can be taken over from a volume of the same snapshot only."
        )
    folder = VolumeFolder(region.files, region.path / VOLUMES / like.volume_id)
    indexes = folder.read_block_indexes(folder.access)
    return b"".join(index.to_bytes(8, "little") for index in indexes)
