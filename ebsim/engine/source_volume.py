"""Source volumes: what a file, device or stream is registered as when it is first read."""

from dataclasses import replace
from pathlib import Path

from ebsim.catalog.records import find_volume, find_volume_at, get_volume, put_volume
from ebsim.catalog.volume import Volume
from ebsim.engine.home import home_of
from ebsim.engine.region import Region
from ebsim.errors import InvalidRequest, SourceUnusable
from ebsim.ids import is_id_prefix, new_volume_id
from ebsim.metadata.transactions import Reader, Transaction
from ebsim.units import KIB, MIB, format_size

BLOCK_SIZE_DEFAULT = 512 * KIB
BLOCK_SIZE_MIN = 4 * KIB
BLOCK_SIZE_MAX = 4 * MIB


def check_block_size(block_size: int) -> None:
    """Refuse a block size that is no power of two from 4 KiB to 4 MiB."""
    is_power_of_two = block_size > 0 and block_size & (block_size - 1) == 0
    if not is_power_of_two or not BLOCK_SIZE_MIN <= block_size <= BLOCK_SIZE_MAX:
        raise InvalidRequest(
            f"a block size of {block_size} bytes is not a power of two from 4 KiB to 4 MiB. "
            "Nothing was changed. 512 KiB is what Amazon EBS has."
        )


def source_path(region: Region, source_name: str) -> tuple[str, Volume | None]:
    """What to open for *source_name*: a path, or that of the volume it is the id of."""
    if is_id_prefix(source_name, "vol") and not Path(source_name).exists():
        volume = region.metadata.read(
            lambda reader: get_volume(reader, region.account_id, source_name)
        )
        if not volume.location:
            raise InvalidRequest(
                f"{volume.volume_id} was read from standard input and has no path. Pipe it "
                f"in again: ebsim snapshot create - --volume {volume.volume_id}"
            )
        return volume.location, volume
    return source_name, None


def is_local_volume(region: Region, source_name: str) -> bool:
    """Whether *source_name* is the id of a volume whose bytes are in the region."""
    if not is_id_prefix(source_name, "vol") or Path(source_name).exists():
        return False
    volume = region.metadata.read(
        lambda reader: get_volume(reader, region.account_id, source_name)
    )
    return volume.is_local


def refuse_store_as_source(location: str) -> None:
    """Refuse to snapshot a file of a store: it would grow while it is read."""
    home = home_of(Path(location).parent)
    if home is not None:
        raise SourceUnusable(
            f"{location} lies in the ebsim home {home}. Nothing was changed. "
            "A store is not snapshotted into a store; copy the file elsewhere first."
        )


def find_source_volume(
    reader: Reader, region: Region, location: str, volume_id: str | None
) -> Volume | None:
    """The volume named *volume_id*, or registered for *location*."""
    if volume_id is not None:
        return get_volume(reader, region.account_id, volume_id)
    return find_volume_at(reader, region.account_id, location) if location else None


def agreed_block_size(volume: Volume | None, asked: int | None) -> int:
    """The block size to use for a volume, or for a new one.

    Raises:
        InvalidRequest: *asked* is none, or not the volume's.
    """
    if asked is not None:
        check_block_size(asked)
    if volume is None:
        return asked or BLOCK_SIZE_DEFAULT
    if asked is not None and asked != volume.block_size:
        raise InvalidRequest(
            f"{volume.volume_id} has blocks of {format_size(volume.block_size)}, not "
            f"{format_size(asked)}. Nothing was changed. A volume keeps the block size of its "
            "first snapshot; leave --block-size out."
        )
    return volume.block_size


def register_volume(
    txn: Transaction, region: Region, volume: Volume | None, location: str, block_size: int
) -> Volume:
    """*volume*, or a new one for *location*."""
    if volume is not None:
        return volume
    made = Volume(
        volume_id=new_volume_id(region.random),
        owner_id=region.account_id,
        location=location,
        size_bytes=0,
        block_size=block_size,
        create_time_ns=region.clock.now_ns(),
    )
    put_volume(txn, made)
    return made


def update_volume_size(txn: Transaction, volume: Volume, size_bytes: int) -> Volume:
    """The volume as it is now, with the size that it was read at."""
    current = replace(find_volume(txn, volume.volume_id) or volume, size_bytes=size_bytes)
    put_volume(txn, current)
    return current
