"""Makes ``store_v1.tar.xz``, a store of format 1, and ``store_v1.json``, what it holds.

    python -m tests.old_formats.make_store_v1

Run once, by the ebsim that wrote format 1; the archive is committed and every later
ebsim must read it.  Clock, chance and disks are fixed, and one thread reads, so that the
snapshots' ids, times and digests come out the same; the digests are of the disks
themselves, never of what ebsim read back.

What the store has in it: two volumes with blocks of 4 KiB and 64 KiB, one of them
piped in; maps of one and of two levels; blocks stored as they are, compressed, twice
the same, of zeros, cut off by the disk's end; a discarded block; a deleted snapshot,
whose space was given back in part; tags, changed ones too, and a description.
"""

import hashlib
import io
import json
import tarfile
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from ebsim.catalog.snapshot import Snapshot, snapshot_to_json
from ebsim.clock import ManualClock
from ebsim.engine.create_snapshot import create_snapshot, create_snapshot_of_stream
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.list_snapshots import list_snapshots
from ebsim.engine.region import Region, open_region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.tags import tag_snapshot, untag_snapshot
from ebsim.ids import AccountId
from ebsim.sources.standard_input import StandardInput

FOLDER = Path(__file__).parent
ARCHIVE = FOLDER / "store_v1.tar.xz"
CONTENTS = FOLDER / "store_v1.json"
REGION = "us-east-1"
ACCOUNT = AccountId("123456789012")
KIB = 1 << 10

LOCK = "lock.mdb"
"""Who is reading now, in a form of the machine's own: no part of the format."""


def make_store(home: Path, image: Path) -> dict[str, Any]:
    """Make the store at *home*, with the disk at *image*; return what it holds."""
    clock, random = ManualClock(), Random(1)
    region = open_region(home, REGION, ACCOUNT, clock=clock, random=random)
    disks: dict[str, bytes] = {}
    try:
        _snapshot_a_file(region, clock, image, disks)
        _snapshot_a_stream(region, clock, disks)
        snapshots = list_snapshots(region).snapshots
        return {"snapshots": [_contents(snapshot, disks) for snapshot in snapshots]}
    finally:
        region.close()


def _contents(snapshot: Snapshot, disks: dict[str, bytes]) -> dict[str, Any]:
    disk_sha256 = hashlib.sha256(disks[snapshot.snapshot_id]).hexdigest()
    record = snapshot_to_json(snapshot)
    # What zstd makes of a block is its own affair, and may differ by version.
    del record["stored_bytes"], record["referenced_bytes"]
    return {"disk_sha256": disk_sha256, "record": record}


def _snapshot_a_file(
    region: Region, clock: ManualClock, image: Path, disks: dict[str, bytes]
) -> None:
    """Blocks of 4 KiB, more than 128 of them: a map of two levels."""
    chance = Random(2)
    size = 4 * KIB
    disk = bytearray(1200 * KIB + 123)

    def take(**tags: str) -> Snapshot:
        image.write_bytes(disk)
        clock.advance(60)
        options = SnapshotOptions(
            block_size=size, thread_count=1, description="nightly", tags=tags
        )
        taken = create_snapshot(region, str(image), options)
        disks[taken.snapshot_id] = bytes(disk)
        return taken

    for index in (0, 1, 5, 127, 128, 129, 200, 299):
        disk[index * size : index * size + size] = chance.randbytes(size)
    disk[10 * size : 40 * size] = b"compressible text, "[:16] * (30 * size // 16)
    disk[50 * size : 51 * size] = disk[:size]
    disk[-123:] = chance.randbytes(123)
    first = take(env="test", keep="no")
    disk[5 * size : 6 * size] = bytes(size)
    disk[128 * size : 128 * size + 7] = b"changed"
    second = take(env="test")
    disk[60 * size : 70 * size] = chance.randbytes(10 * size)
    third = take()
    disk[60 * size : 70 * size] = chance.randbytes(10 * size)
    take()
    tag_snapshot(region, second.snapshot_id, {"owner": "füchsin", "empty": ""})
    untag_snapshot(region, first.snapshot_id, ["keep"])
    delete_snapshots(region, [third.snapshot_id])
    del disks[third.snapshot_id]


def _snapshot_a_stream(region: Region, clock: ManualClock, disks: dict[str, bytes]) -> None:
    chance = Random(3)
    disk = chance.randbytes(100 * KIB) + bytes(300 * KIB) + b"the end"
    options = SnapshotOptions(block_size=64 * KIB, thread_count=1)
    volume_id = None
    for _ in range(2):
        clock.advance(60)
        stream = StandardInput(io.BytesIO(disk))
        taken = create_snapshot_of_stream(region, stream, volume_id, options)
        disks[taken.snapshot_id] = disk
        volume_id = taken.volume_id
        disk += b" and one more block" * 4000


def main() -> None:
    """Write archive and contents beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        # Fixed, since the store keeps it: where the disk was read.
        image = Path("/tmp/ebsim-store-v1.img")
        try:
            contents = make_store(home, image)
        finally:
            image.unlink(missing_ok=True)
        with tarfile.open(ARCHIVE, "w:xz") as archive:
            for path in sorted(home.rglob("*")):
                if path.name != LOCK:
                    add(archive, path, str(path.relative_to(home)))
    CONTENTS.write_text(json.dumps(contents, indent=1, ensure_ascii=False) + "\n", "utf-8")


def add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    """Add a file or folder without what depends on when and by whom it was made."""
    entry = archive.gettarinfo(path, name)
    entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
    if path.is_file():
        with path.open("rb") as file:
            archive.addfile(entry, file)
    else:
        archive.addfile(entry)


if __name__ == "__main__":
    main()
