"""What the model of all verbs knows: a home of two regions, and the bytes that must be there.

What a verb that failed has done is read from the catalog; what is there must have its bytes.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from ebsim.catalog.records import find_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState, decode_snapshot
from ebsim.catalog.volume import Volume, decode_volume
from ebsim.clock import ManualClock
from ebsim.engine.region import Region, open_region
from ebsim.engine.restore_snapshot import restore_snapshot
from ebsim.ids import SnapshotId
from ebsim.metadata.transactions import Table
from tests.crash.recorded_store import quick_directory
from tests.engine.broken_regions import CallFails, TransactionFails
from tests.engine.direct_snapshots import Plane, access_to
from tests.engine.killable_volume import KillableVolume
from tests.engine.stores import ACCOUNT, BLOCK, block_bytes, write_disk

DISK_SIZE = 131 * BLOCK
HERE, THERE = "test", "far"
_ROWS_MAX = 10_000

block_indexes = st.sampled_from([0, 1, 2, 127, 128, 130])
seeds = st.integers(0, 9)
picks = st.integers(0, 1 << 16)
faults = st.one_of(
    st.none(),
    st.none(),
    st.builds(TransactionFails, st.integers(0, 12), st.booleans()),
    st.builds(
        CallFails,
        st.integers(0, 120),
        st.sampled_from(["EIO", "ENOSPC", "short"]),
        st.booleans(),
    ),
)


def block_of(seed: int) -> bytes:
    return block_bytes(seed) if seed else bytes(BLOCK)


@dataclass(frozen=True, slots=True)
class Held:
    """What a snapshot must give back: an image, zeros behind it, or direct blocks by seed."""

    region_name: str
    image: bytes | None = None
    blocks: dict[int, int] | None = None


@dataclass(slots=True)
class Pending:
    """A snapshot that is written block by block.

    Attributes:
        blocks: All that it will have, the parent's too, by seed.
        put: The indexes that were put.
        is_known: Whether every put succeeded: otherwise it is not known what is there.
    """

    blocks: dict[int, int]
    put: set[int]
    is_known: bool = True


@dataclass(slots=True)
class Disk:
    """A volume; behind *bytes* it has zeros."""

    bytes: bytearray
    open: KillableVolume | None = None


class WholeStore(RuleBasedStateMachine):
    """The state, without a rule yet."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = self.stack.enter_context(quick_directory())
        self.clock = ManualClock()
        self._open_count = 0
        self.regions: dict[str, Region] = {}
        for name in (HERE, THERE):
            self.open_region(name)
        self.images = [
            write_disk(self.folder / name, DISK_SIZE, {0: block_of(1)}) for name in ("one", "two")
        ]
        self.held: dict[str, Held] = {}
        self.pending: dict[str, Pending] = {}
        self.volumes: dict[str, Disk] = {}
        self.volumes_in_bin: dict[str, Disk] = {}

    def open_region(self, name: str) -> None:
        self._open_count += 1
        self.regions[name] = open_region(
            self.folder / "home", name, ACCOUNT, clock=self.clock, random=Random(self._open_count)
        )

    @property
    def region(self) -> Region:
        return self.regions[HERE]

    def region_of(self, snapshot_id: str) -> Region:
        return self.regions[self.held[snapshot_id].region_name]

    # Snapshots

    def row(self, snapshot_id: str) -> Snapshot | None:
        region = self.region_of(snapshot_id) if snapshot_id in self.held else self.region
        return region.metadata.read(lambda reader: find_snapshot(reader, SnapshotId(snapshot_id)))

    def known(self, snapshot_id: str) -> Snapshot:
        """The record of a snapshot that must be there."""
        row = self.row(snapshot_id)
        assert row is not None, f"{snapshot_id} is lost"
        return row

    def is_usable(self, snapshot_id: str) -> bool:
        row = self.known(snapshot_id)
        return row.bin_stay is None and not row.is_archived_at(self.clock.now_ns())

    def pick(self, number: int, is_wanted: Callable[[str], bool] = lambda _: True) -> str | None:
        """One of the snapshots; the same *number* and state give the same one."""
        ids = sorted(filter(is_wanted, self.held))
        return ids[number % len(ids)] if ids else None

    def is_image_here(self, snapshot_id: str) -> bool:
        held = self.held[snapshot_id]
        return held.region_name == HERE and held.image is not None

    def unknown_snapshots(self, region_name: str) -> list[str]:
        """Those completed that the model does not have."""
        rows = self.regions[region_name].metadata.read(
            lambda reader: reader.scan(Table.SNAPSHOTS, limit=_ROWS_MAX)
        )
        found = [decode_snapshot(row) for _, row in rows]
        return [
            one.snapshot_id
            for one in found
            if one.state is SnapshotState.COMPLETED and one.snapshot_id not in self.held
        ]

    def adopt(self, held: Held) -> None:
        """What was made, if it was, holds that."""
        made = self.unknown_snapshots(held.region_name)
        assert len(made) <= 1
        self.held.update(dict.fromkeys(made, held))

    def verify(self, snapshot_id: str) -> None:
        """Read all of a snapshot that can be read."""
        held, region = self.held[snapshot_id], self.region_of(snapshot_id)
        if not self.is_usable(snapshot_id):
            return
        if held.blocks is not None:
            with access_to(region) as access:
                assert Plane(region, access).read(snapshot_id) == held.blocks
        else:
            assert held.image is not None
            target = self.folder / "restored"
            restore_snapshot(region, snapshot_id, str(target), thread_count=1)
            assert_image(target, held.image)
            target.unlink()

    # Volumes

    def all_volumes(self) -> list[Volume]:
        """All whose bytes are here, those in the recycle bin and in pools too."""
        rows = self.region.metadata.read(
            lambda reader: reader.scan(Table.VOLUMES, limit=_ROWS_MAX)
        )
        found = [decode_volume(row) for _, row in rows]
        return [volume for volume in found if volume.is_local and not volume.is_deleted]

    def adopt_volume(self, data: bytes | bytearray) -> None:
        known = self.volumes.keys() | self.volumes_in_bin.keys()
        made = [
            volume.volume_id
            for volume in self.all_volumes()
            if volume.volume_id not in known and volume.pooled_zone is None
        ]
        assert len(made) <= 1
        self.volumes.update({volume_id: Disk(bytearray(data)) for volume_id in made})

    def close_volume(self, volume_id: str) -> None:
        volume = self.volumes[volume_id]
        opened, volume.open = volume.open, None
        if opened is not None:
            opened.close()

    def close_volumes(self) -> None:
        for volume_id in self.volumes:
            self.close_volume(volume_id)


def assert_image(path: Path, image: bytes) -> None:
    """The file has the bytes of *image*, and zeros behind them; its holes are not read."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert os.pread(descriptor, len(image), 0) == image
        at, size = len(image), os.fstat(descriptor).st_size
        while at < size:
            try:
                at = os.lseek(descriptor, at, os.SEEK_DATA)
            except OSError:
                return
            data = os.pread(descriptor, 1 << 20, at)
            assert not any(data)
            at += len(data)
    finally:
        os.close(descriptor)
