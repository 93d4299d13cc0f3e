"""In which order a volume is loaded, how fast, and when it holds still."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic

import pytest

from ebsim.blockmap.stored_blocks import PresentBlock
from ebsim.content.digest import node_digest
from ebsim.errors import StorageUnavailable
from ebsim.ids import Digest
from ebsim.volumes.hydration import HydrationState, Hydrator
from ebsim.volumes.hydration_order import HydrationOrder
from ebsim.waiting import wait_until
from tests.volumes.volume_stores import (
    BLOCK,
    PATIENCE,
    BytesOrigin,
    SmallVolume,
    contents,
    disk_of,
)

LEAF = 128
SIZE = 3 * LEAF * BLOCK
HOLE = range(LEAF, 2 * LEAF)  # a leaf that is not there


class LoggedOrigin(BytesOrigin):
    """Tells which blocks the background read, in which order.

    Attributes:
        may_read: The background waits for it before each block.
    """

    def __init__(self) -> None:
        disk = bytearray(disk_of(1, SIZE, 0))
        disk[HOLE.start * BLOCK : HOLE.stop * BLOCK] = bytes(LEAF * BLOCK)
        super().__init__(bytes(disk))
        self.read_behind: list[int] = []
        self.may_read = threading.Event()
        self.may_read.set()

    def leaves(self, start: int) -> Iterator[tuple[int, Digest]]:
        for leaf in range(start, 3):
            digest = self.leaf_digest(leaf)
            if digest is not None:
                yield leaf, digest

    def leaf_digest(self, leaf_index: int) -> Digest | None:
        return node_digest(bytes([leaf_index])) if leaf_index != 1 else None

    def leaf_blocks(self, leaf_index: int, leaf_digest: Digest) -> list[PresentBlock]:
        first = leaf_index * LEAF
        return [PresentBlock(block, leaf_digest, None) for block in range(first, first + LEAF)]

    def read_located(self, block: PresentBlock) -> bytes:
        assert self.may_read.wait(PATIENCE)
        if block.block_index in self.failures:
            raise self.failures[block.block_index]
        self.read_behind.append(block.block_index)
        return self._block(block.block_index)


@pytest.fixture
def origin() -> LoggedOrigin:
    return LoggedOrigin()


@pytest.fixture
def volume(tmp_path: Path, origin: LoggedOrigin) -> Iterator[SmallVolume]:
    made = SmallVolume(tmp_path / "volume", origin)
    made.create(SIZE)
    yield made
    made.close()


def hydrator_of(
    volume: SmallVolume,
    first: Sequence[tuple[int, int]] = (),
    replay: Sequence[int] = (),
    rate: int | None = None,
) -> Hydrator:
    order = HydrationOrder(first, replay)
    return Hydrator(volume.device, order, lambda: None, rate=rate, thread_count=1)


def load(volume: SmallVolume, hydrator: Hydrator) -> None:
    hydrator.start()
    try:
        assert hydrator.wait(PATIENCE)
    finally:
        hydrator.stop()
    assert hydrator.progress().state is HydrationState.DONE
    assert contents(volume.device) == volume.origin.disk
    assert volume.folder.load().origin is None


def test_what_was_asked_for_comes_first_then_what_was_needed_before_then_the_rest(
    volume: SmallVolume, origin: LoggedOrigin
) -> None:
    replay = [300, 7, 6, 8, 10_000]
    load(volume, hydrator_of(volume, [(LEAF * 2 + 5, LEAF * 2 + 7), (100, 102)], replay))
    begun = [LEAF * 2 + 5, LEAF * 2 + 6, 100, 101, 300, 7, 6, 8]
    every = [block for block in range(3 * LEAF) if block not in HOLE]
    assert origin.read_behind == begun + [block for block in every if block not in begun]
    assert origin.fetches == {}


def test_what_is_here_is_not_loaded_again(volume: SmallVolume, origin: LoggedOrigin) -> None:
    volume.device.write_at(0, b"x" * 2 * BLOCK)
    volume.device.trim(5 * BLOCK, BLOCK)
    hydrator = hydrator_of(volume)
    hydrator.start()
    assert hydrator.wait(PATIENCE)
    hydrator.stop()
    assert not {0, 1, 5} & set(origin.read_behind)
    disk = contents(volume.device)
    assert disk[: 2 * BLOCK] == b"x" * 2 * BLOCK
    assert disk[5 * BLOCK : 6 * BLOCK] == bytes(BLOCK)
    assert disk[6 * BLOCK :] == origin.disk[6 * BLOCK :]


def test_while_it_is_paused_only_what_is_asked_for_comes(
    volume: SmallVolume, origin: LoggedOrigin
) -> None:
    hydrator = hydrator_of(volume)
    hydrator.pause()
    hydrator.start()
    try:
        assert wait_until(lambda: hydrator.progress().state is HydrationState.PAUSED, PATIENCE)
        assert contents(volume.device, 9 * BLOCK, 10 * BLOCK) == origin.disk[9 * BLOCK :][:BLOCK]
        assert origin.read_behind == []
        hydrator.resume()
        assert hydrator.wait(PATIENCE)
    finally:
        hydrator.stop()
    assert contents(volume.device) == origin.disk


def test_stopping_leaves_what_has_come_and_the_next_one_goes_on(
    volume: SmallVolume, origin: LoggedOrigin
) -> None:
    origin.may_read.clear()
    hydrator = hydrator_of(volume)
    hydrator.start()
    stopping = threading.Thread(target=hydrator.stop)
    stopping.start()
    origin.may_read.set()
    stopping.join()
    assert hydrator.progress().state in (HydrationState.STOPPED, HydrationState.DONE)
    come = list(origin.read_behind)
    volume.kill()
    origin.read_behind.clear()
    load(volume, hydrator_of(volume))
    assert not set(come) & set(origin.read_behind)


def test_a_store_that_can_be_had_again_is_noticed_by_who_gets_a_block(
    volume: SmallVolume, origin: LoggedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before the next attempt is due."""
    monkeypatch.setattr("ebsim.volumes.hydration._RETRY_SECONDS", (3600.0, 3600.0))
    monkeypatch.setattr("ebsim.volumes.hydration._LOOK_SECONDS", 0.01)
    origin.failures = {block: StorageUnavailable("out of reach") for block in (7, 300)}
    hydrator = hydrator_of(volume)
    hydrator.start()
    try:
        assert wait_until(lambda: hydrator.progress().state is HydrationState.WAITING, PATIENCE)
        assert volume.device.present_count() == 3 * LEAF - 2
        origin.failures.clear()
        assert contents(volume.device, 7 * BLOCK, 8 * BLOCK) == origin.disk[7 * BLOCK :][:BLOCK]
        assert hydrator.wait(PATIENCE)
    finally:
        hydrator.stop()
    assert hydrator.progress().state is HydrationState.DONE
    assert contents(volume.device) == origin.disk


def test_a_rate_is_not_exceeded_until_it_is_lifted(volume: SmallVolume) -> None:
    blocks_per_second = 64
    begun = monotonic()
    hydrator = hydrator_of(volume, rate=blocks_per_second * BLOCK)
    hydrator.start()
    try:
        assert wait_until(lambda: hydrator.progress().loaded_bytes >= 13 * BLOCK, PATIENCE)
        # A slow machine takes longer, and none less.
        assert monotonic() - begun >= 12 / blocks_per_second
        hydrator.set_rate(None)
        assert hydrator.wait(PATIENCE)
    finally:
        hydrator.stop()
    assert contents(volume.device) == volume.origin.disk
