"""A volume that is being loaded while its store, or its own disk, is ill: and well again.

What the store cannot give is an error for those blocks alone; all else goes on, and so do
they when it can.
"""

import errno
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ebsim.blockmap.stored_blocks import block_map_of
from ebsim.durable_files import Files
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.list_snapshots import show_snapshot
from ebsim.engine.open_volume import OpenedVolume, open_volume
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.engine.volume_stands_alone import volume_stands_alone
from ebsim.errors import IntegrityError, StorageFull, StorageUnavailable
from ebsim.ids import Digest
from ebsim.volumes.hydration import HydrationState, Hydrator
from ebsim.volumes.hydration_order import HydrationOrder
from ebsim.waiting import wait_until
from tests.attach.nbd_client import serving
from tests.engine.stores import BLOCK, block_bytes, open_store, restored, take, write_disk
from tests.nbd import clients
from tests.nbd.clients import FLUSH, READ
from tests.volumes.failing_calls import FailingCalls
from tests.volumes.volume_stores import PATIENCE, contents

pytestmark = pytest.mark.slow

# Two lowest inner nodes of the map: one has leaves 0 and 1, the other leaf 128.
LAST = 128 * 128
BLOCKS = {i: block_bytes(i) for i in (*range(20), 130, 131, LAST)}
SIZE = (LAST + 2) * BLOCK
EIO, ENOSPC = 5, 28


class Scene:
    """A volume, open, that is loaded from a store whose calls can be made to fail."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self.calls = FailingCalls()
        self.region = open_store(folder / "home", files=Files(self.calls))
        opened.callback(self.region.close)
        image = write_disk(folder / "image", SIZE, BLOCKS)
        self.snapshot_id = take(self.region, image)
        volume_id = create_volume(self.region, VolumeOptions(self.snapshot_id)).volume_id
        self.opened: OpenedVolume = opened.enter_context(
            open_volume(self.region, volume_id, "test", hydrates=False)
        )
        self.device = self.opened.device
        self.disk = image.read_bytes()
        self._stack = opened

    def load(self, first: tuple[int, int] = (0, 0)) -> Hydrator:
        """Begin to load it in the background."""
        volume_id = self.opened.volume.volume_id
        hydrator = Hydrator(
            self.device,
            HydrationOrder([first]),
            lambda: volume_stands_alone(self.region, volume_id),
        )
        self._stack.callback(hydrator.stop)
        hydrator.start()
        return hydrator

    def block(self, index: int) -> bytes:
        return contents(self.device, index * BLOCK, (index + 1) * BLOCK)

    def absent(self) -> list[int]:
        runs = self.device.absent_runs(0, self.device.state.block_count)
        return [block for first, stop in runs for block in range(first, stop)]

    def pack(self) -> Path:
        (pack,) = (self.region.path / "packs").glob("*.pack")
        return pack

    def damage(self, digest: Digest) -> "Damage":
        found = self.region.chunks.find([digest])[0]
        assert found is not None
        return Damage(self.pack(), found.location.offset)


class Damage:
    """A record whose payload has a flipped bit, until it is repaired."""

    def __init__(self, pack: Path, offset_bytes: int) -> None:
        self._pack = pack
        self._at = offset_bytes + 70
        self._flip()

    def repair(self) -> None:
        self._flip()

    def _flip(self) -> None:
        mode = self._pack.stat().st_mode
        self._pack.chmod(0o600)
        with self._pack.open("r+b") as file:
            file.seek(self._at)
            byte = file.read(1)
            file.seek(self._at)
            file.write(bytes([byte[0] ^ 1]))
        self._pack.chmod(mode)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as opened:
        yield Scene(tmp_path, opened)


def wait_for(hydrator: Hydrator, state: HydrationState) -> None:
    assert wait_until(lambda: hydrator.progress().state is state, PATIENCE), hydrator.progress()


def map_digest(scene: Scene, block: int, level: int) -> Digest:
    """The digest of a block (level -1), of its leaf (0), or of the inner node above that."""
    root = show_snapshot(scene.region, scene.snapshot_id).root
    assert root is not None
    block_map = block_map_of(scene.region.chunks, root)
    if level == 1:
        child = block_map.inner(root, 2).get(block >> 14)
    elif level == 0:
        child = block_map.leaf_digest(block >> 7)
    else:
        mapped = block_map.get(block)
        child = mapped.digest if mapped else None
    assert child is not None
    return child


@pytest.mark.parametrize(
    ("level", "lost"), [(-1, [130]), (0, [130, 131]), (1, [*range(20), 130, 131])]
)
def test_a_damaged_chunk_costs_the_blocks_that_need_it_and_no_other(
    scene: Scene, level: int, lost: list[int]
) -> None:
    """Of a block, of a leaf, of an inner node."""
    damage = scene.damage(map_digest(scene, 130, level))
    hydrator = scene.load(first=(130, 132))
    wait_for(hydrator, HydrationState.WAITING)
    assert hydrator.progress().failure
    assert set(scene.absent()) >= set(lost)
    for block, data in BLOCKS.items():
        if block in lost:
            with pytest.raises(IntegrityError):
                scene.block(block)
        else:
            assert scene.block(block) == data
            assert block not in scene.absent()
    # What is written whole needs nothing; what is written in part needs the rest.
    scene.device.write_at(130 * BLOCK, b"n" * BLOCK)
    if 131 in lost:
        with pytest.raises(IntegrityError):
            scene.device.write_at(131 * BLOCK, b"p")
    scene.device.flush()
    damage.repair()
    wait_for(hydrator, HydrationState.DONE)
    expected = bytearray(scene.disk)
    expected[130 * BLOCK : 131 * BLOCK] = b"n" * BLOCK
    assert contents(scene.device) == expected


def test_a_store_that_vanishes_takes_nothing_with_it_that_is_here(scene: Scene) -> None:
    scene.device.write_at(3 * BLOCK + 5, b"written before")
    expected = bytearray(scene.disk)
    expected[3 * BLOCK + 5 : 3 * BLOCK + 19] = b"written before"
    for call in ("open", "pread", "preadv"):
        scene.calls.fail(call, scene.pack().name)
    hydrator = scene.load()
    wait_for(hydrator, HydrationState.WAITING)
    assert scene.block(3) == expected[3 * BLOCK : 4 * BLOCK]
    with pytest.raises(StorageUnavailable):
        scene.block(LAST)
    scene.device.write_at(5 * BLOCK, b"w" * BLOCK)
    expected[5 * BLOCK : 6 * BLOCK] = b"w" * BLOCK
    scene.device.flush()
    scene.calls.heal()
    wait_for(hydrator, HydrationState.DONE)
    assert contents(scene.device) == expected
    (taken,) = create_snapshot_set(
        scene.region, [scene.opened.volume.volume_id], SnapshotOptions(thread_count=1)
    ).snapshots
    folder = scene.region.home.parent
    assert restored(scene.region, taken.snapshot_id, folder) == expected


def test_a_full_disk_refuses_writes_and_serves_what_the_store_has(scene: Scene) -> None:
    scene.calls.fail("pwritev", "data", errno.ENOSPC)
    hydrator = scene.load()
    wait_for(hydrator, HydrationState.FULL)
    with pytest.raises(StorageFull):
        scene.device.write_at(7 * BLOCK, b"x" * BLOCK)
    with pytest.raises(StorageFull):
        scene.device.write_at(8 * BLOCK, b"x")
    assert [scene.block(i) for i in (7, 8, LAST)] == [BLOCKS[i] for i in (7, 8, LAST)]
    scene.device.flush()
    scene.calls.heal()
    wait_for(hydrator, HydrationState.DONE)
    assert contents(scene.device) == scene.disk


def test_the_store_may_be_away_when_the_last_block_has_come(scene: Scene) -> None:
    """It is told later that the volume needs it no more."""
    told: list[str] = []

    def tell() -> None:
        if not told:
            told.append("in vain")
            raise StorageUnavailable("the disk is away", operation="write", path="metadata")
        told.append("at last")

    hydrator = Hydrator(scene.device, HydrationOrder(), tell)
    hydrator.start()
    try:
        wait_for(hydrator, HydrationState.DONE)
    finally:
        hydrator.stop()
    assert told == ["in vain", "at last"]


def test_an_nbd_client_gets_the_error_for_those_blocks_alone(scene: Scene) -> None:
    scene.damage(map_digest(scene, 130, -1))
    scene.block(LAST)  # begins the thread that keeps what was fetched
    with serving(scene.device) as served:
        client = served.enter()
        assert client.ask(READ, 130 * BLOCK, BLOCK).error == EIO
        assert client.ask(READ, 129 * BLOCK, 3 * BLOCK).error == EIO
        assert client.ask(READ, 131 * BLOCK, BLOCK).data == BLOCKS[131]
        scene.calls.fail("pwritev", "data", errno.ENOSPC)
        client.sock.sendall(clients.write(7 * BLOCK, b"x" * BLOCK))
        assert client.answer().error == ENOSPC
        assert client.ask(READ, 7 * BLOCK, BLOCK).data == BLOCKS[7]
        scene.calls.heal()
        client.sock.sendall(clients.write(130 * BLOCK, b"x" * BLOCK))
        assert client.answer().error == 0
        assert client.ask(FLUSH).error == 0
        assert client.ask(READ, 129 * BLOCK, 3 * BLOCK).data[BLOCK : 2 * BLOCK] == b"x" * BLOCK
