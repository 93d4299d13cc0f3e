"""Small stores and small disks, and what the tests of the engine ask about them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

from ebsim.catalog.records import find_snapshot
from ebsim.clock import Clock, ManualClock
from ebsim.durable_files import Files
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.recycle_bin import restore_snapshot_from_bin
from ebsim.engine.region import Region, open_region
from ebsim.engine.restore_snapshot import restore_snapshot
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.unarchive_snapshot import unarchive_snapshot
from ebsim.ids import AccountId, SnapshotId

ACCOUNT = AccountId("123456789012")
OTHER_ACCOUNT = AccountId("999999999999")
KIB = 1 << 10
MIB = 1 << 20
BLOCK = 4 * KIB

SMALL = SnapshotOptions(block_size=BLOCK, thread_count=1)
"""Blocks of 4 KiB, so that a disk of some kilobytes has many."""


def open_store(
    home: Path,
    *,
    account_id: AccountId = ACCOUNT,
    files: Files | None = None,
    clock: Clock | None = None,
    random: Random | None = None,
) -> Region:
    return open_region(home, "test", account_id, files=files, clock=clock, random=random)


def block_bytes(seed: int, size_bytes: int = BLOCK) -> bytes:
    """A block that no other *seed* has, half of it compressible."""
    return Random(seed).randbytes(size_bytes // 2) + bytes(size_bytes // 2)


def write_disk(path: Path, size_bytes: int, blocks: Mapping[int, bytes]) -> Path:
    """Make *path* a sparse disk with *blocks* by index; a last one may be cut off."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(size_bytes)
    change_disk(path, blocks)
    return path


def change_disk(path: Path, blocks: Mapping[int, bytes]) -> None:
    """Write *blocks* by index; the disk keeps its size."""
    size_bytes = path.stat().st_size
    with path.open("r+b") as file:
        for index, data in blocks.items():
            file.seek(index * len(data))
            file.write(data[: max(0, size_bytes - index * len(data))])


def take(region: Region, path: Path, options: SnapshotOptions = SMALL) -> str:
    """Snapshot *path*; return the snapshot's id."""
    return create_snapshot(region, str(path), options).snapshot_id


def restored(region: Region, snapshot_id: str, folder: Path) -> bytes:
    """The disk that a snapshot holds."""
    target = folder / f"{snapshot_id}.restored"
    restore_snapshot(region, snapshot_id, str(target), thread_count=1)
    data = target.read_bytes()
    target.unlink()
    return data


def restored_even_from_bin(region: Region, snapshot_id: str, folder: Path) -> bytes:
    """The disk that a snapshot holds, taken out of the recycle bin first if it is there,
    and out of the archive.

    Where its time there is over, it is put back to when it was not.
    """
    found = region.metadata.read(lambda reader: find_snapshot(reader, SnapshotId(snapshot_id)))
    if found is not None and found.bin_stay is not None:
        earlier = replace(region, clock=ManualClock(found.bin_stay.enter_time_ns))
        restore_snapshot_from_bin(earlier, snapshot_id)
    if found is not None and found.is_archived:
        unarchive_snapshot(region, snapshot_id)
    return restored(region, snapshot_id, folder)
