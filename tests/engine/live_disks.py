"""A volume made from a snapshot, what it should hold, and a process that writes to it."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.snapshot_index import of_owner, read_streams
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.open_volume import OpenedVolume, open_volume
from ebsim.engine.region import Region
from ebsim.engine.restore_snapshot import restore_snapshot
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.ids import VolumeId
from ebsim.volumes.live_volume import LiveVolume
from tests.engine.stores import BLOCK, block_bytes, take, write_disk

BLOCKS = 200
OPTIONS = SnapshotOptions(thread_count=2)


class Disk:
    """A volume made from a snapshot of an image, and what it should hold."""

    def __init__(self, region: Region, folder: Path) -> None:
        image = write_disk(
            folder / "image", BLOCKS * BLOCK, {i: block_bytes(i) for i in range(0, BLOCKS, 2)}
        )
        self.snapshot_id = take(region, image)
        self.volume_id = create_volume(region, VolumeOptions(self.snapshot_id)).volume_id
        self.bytes = bytearray(image.read_bytes())
        self._random = Random(5)

    def write(self, device: LiveVolume, count: int = 10) -> None:
        for _ in range(count):
            data = self._random.randbytes(self._random.choice([10, BLOCK, 3 * BLOCK]))
            at = self._random.randrange(len(self.bytes) - len(data))
            device.write_at(at, data)
            self.bytes[at : at + len(data)] = data


def restored(region: Region, snapshot: Snapshot, folder: Path) -> bytes:
    target = folder / f"restored-{snapshot.snapshot_id}"
    restore_snapshot(region, snapshot.snapshot_id, str(target))
    return target.read_bytes()


def snap(region: Region, *names: str) -> list[Snapshot]:
    return create_snapshot_set(region, names, OPTIONS).snapshots


def all_snapshots(region: Region) -> list[Snapshot]:
    rows = region.metadata.read(
        lambda reader: read_streams(reader, [of_owner(region.account_id)], b"", 100)
    )
    return [snapshot for _, snapshot in rows if snapshot is not None]


@contextmanager
def opened(region: Region, disk: Disk) -> Iterator[OpenedVolume]:
    with open_volume(region, disk.volume_id, "test", hydrates=False) as volume:
        yield volume


@contextmanager
def writing_process(region: Region, names: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that has the volumes *names* open and writes a rising number to each in turn."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.engine.volume_process", str(region.home), *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def another_volume(region: Region, disk: Disk) -> VolumeId:
    return create_volume(region, VolumeOptions(disk.snapshot_id)).volume_id
