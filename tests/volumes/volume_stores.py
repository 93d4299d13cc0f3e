"""Small volumes that are opened, killed, closed and lose power, and what they are made from."""

from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from random import Random

from ebsim.content.digest import node_digest
from ebsim.durable_files import Files
from ebsim.errors import Conflict, EbsimError
from ebsim.volumes.cut import CutReader
from ebsim.volumes.live_volume import LiveVolume
from ebsim.volumes.open_live_volume import open_live_volume
from ebsim.volumes.volume_folder import NEVER_COMPARED, VolumeFolder, VolumeState

BLOCK = 4096
ORIGIN = "snap-origin"
PATIENCE = 30.0


class BytesOrigin:
    """The part of an origin that a volume's reads need, over bytes; counts the fetches.

    Attributes:
        failures: What to raise for a block, until it is taken out.
    """

    def __init__(self, disk: bytes) -> None:
        self.disk = disk
        self.fetches: Counter[int] = Counter()
        self.failures: dict[int, EbsimError] = {}

    def read(self, block_index: int) -> bytes | None:
        self.fetches[block_index] += 1
        if block_index in self.failures:
            raise self.failures[block_index]
        data = self._block(block_index)
        return data.ljust(BLOCK, b"\0") if any(data) else None

    def mask(self, leaf_index: int) -> int:
        return sum(1 << i for i in range(128) if any(self._block(128 * leaf_index + i)))

    def _block(self, block_index: int) -> bytes:
        return self.disk[block_index * BLOCK : (block_index + 1) * BLOCK]


def disk_of(seed: int, size_bytes: int, zero_share: float = 0.3) -> bytes:
    """Random blocks, and some of zeros; a last one may be cut off."""
    random = Random(seed)
    blocks = [
        bytes(BLOCK) if random.random() < zero_share else random.randbytes(BLOCK)
        for _ in range(-(-size_bytes // BLOCK))
    ]
    return b"".join(blocks)[:size_bytes]


class SmallVolume:
    """A volume in the folder *path*, over *origin* or empty, and what becomes of it.

    Attributes:
        completed: The snapshots that are; whoever takes one adds it.
        boot: Which boot of the machine this is.
        device: The volume as it was opened last.
    """

    device: LiveVolume

    def __init__(
        self, path: Path, origin: BytesOrigin | None = None, *, files: Files | None = None
    ) -> None:
        self.completed: set[str] = set()
        self.boot = "boot 1"
        self.origin = origin
        self.folder = VolumeFolder(files or Files(), path)

    def create(self, size_bytes: int) -> None:
        """Make its files, and open it."""
        self.folder.files.close(self.folder.begin())
        root = None if self.origin is None else node_digest(self.origin.disk)
        since = NEVER_COMPARED if self.origin is None else ORIGIN
        self.folder.create(VolumeState(size_bytes, BLOCK, root, since))
        self.open()

    def open(self) -> LiveVolume:
        is_completed = self.completed.__contains__
        self.device = open_live_volume(
            self.folder, self.boot, is_completed, lambda _root: self.origin
        )
        return self.device

    def kill(self) -> None:
        """End as a killed process does, and open again in the same boot."""
        self.abandon()
        self.open()

    def abandon(self) -> None:
        abandon(self.device)

    def close(self) -> None:
        self.device.close()

    def cut(self, snapshot_id: str, dirty_since: str | None) -> bool:
        """Cut the volume; whether the cut has dirty blocks only."""
        return cut(self.device, snapshot_id, dirty_since)

    def settle(self, snapshot_id: str, *, is_completed: bool) -> None:
        if is_completed:
            self.completed.add(snapshot_id)
        self.device.settle_cut(snapshot_id)


def abandon(device: LiveVolume) -> None:
    """Release a volume's files and thread, without a word to the disk."""
    device.demand.close()
    device._overlay.abandon()  # noqa: SLF001 - nobody else may do that
    if device._access is not None:  # noqa: SLF001
        with suppress(EbsimError):
            device._access.close()  # noqa: SLF001


def cut(device: LiveVolume, snapshot_id: str, dirty_since: str | None) -> bool:
    """Cut *device* as the engine does; whether the cut has dirty blocks only."""
    dirty_only = device.prepare_cut(snapshot_id, dirty_since)
    device.freeze(PATIENCE)
    try:
        device.make_cut(snapshot_id, dirty_only=dirty_only)
    finally:
        assert device.thaw()
    return dirty_only


def contents(device: LiveVolume, start: int = 0, stop: int | None = None) -> bytes:
    """What the device reads as."""
    buffer = bytearray((device.size_bytes if stop is None else stop) - start)
    device.read_at(start, memoryview(buffer))
    return bytes(buffer)


def read_cut(reader: CutReader, base: bytes) -> bytes:
    """The disk that a snapshot makes of a cut: its blocks, the holes not read, over *base*."""
    disk = bytearray(base.ljust(reader.size_bytes, b"\0")[: reader.size_bytes])
    holes = reader.holes(0, reader.block_count)
    for first, stop in reader.bits.runs():
        start, end = first * BLOCK, min(stop * BLOCK, reader.size_bytes)
        buffer = bytearray((stop - first) * BLOCK)
        reader.read(memoryview(buffer), start)
        disk[start:end] = buffer[: end - start]
        for hole in holes:
            low, high = max(hole.start, start), min(hole.stop, end)
            assert not any(disk[low:high]), "a hole of a cut has data"
    return bytes(disk)


def snapshot(volume: SmallVolume, snapshot_id: str, taken: dict[str, bytes]) -> bytes:
    """Take a snapshot of the volume as the engine does; *taken* has those before, and gets it."""
    since = volume.device.state.dirty_since
    dirty_only = volume.cut(snapshot_id, since if since in taken else None)
    base = base_of(volume, taken if dirty_only else {})
    reader = CutReader(volume.folder, snapshot_id)
    disk = read_cut(reader, base)
    reader.close()
    volume.settle(snapshot_id, is_completed=True)
    taken[snapshot_id] = disk
    return disk


def base_of(volume: SmallVolume, taken: dict[str, bytes]) -> bytes:
    """What a cut's blocks lie over: the snapshot they differ from, or what was never here."""
    state = volume.device.state
    if state.dirty_since in taken:
        return taken[state.dirty_since]
    return volume.origin.disk if volume.origin is not None and state.origin is not None else b""


def hydrate(device: LiveVolume, blocks: Collection[int]) -> None:
    """Bring *blocks* here as the background does."""
    origin = device.origin
    if origin is None:
        return
    for block in blocks:
        data = origin.read(block)
        if data is None:
            device.fill_zeros(block, block + 1)
        else:
            device.fill(block, data)


def reader_or_none(folder: VolumeFolder, snapshot_id: str) -> CutReader | None:
    """Whoever takes a snapshot may find its cut gone."""
    try:
        return CutReader(folder, snapshot_id)
    except Conflict:
        return None
