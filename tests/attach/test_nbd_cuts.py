"""A live volume is cut while its clients stall, half-way through what they say or are told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attach.nbd_client import Served, serving
from tests.nbd.clients import FLUSH, READ, WRITE, request, write
from tests.volumes.volume_stores import (
    BLOCK,
    ORIGIN,
    PATIENCE,
    BytesOrigin,
    SmallVolume,
    contents,
    cut,
    disk_of,
    snapshot,
)

SIZE = 8 << 20


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[SmallVolume]:
    made = SmallVolume(tmp_path / "volume", BytesOrigin(disk_of(1, SIZE, 0)))
    made.create(SIZE)
    contents(made.device, 0, BLOCK)  # begins the thread that keeps what was fetched
    yield made
    made.close()


@pytest.fixture
def served(volume: SmallVolume) -> Iterator[Served]:
    with serving(volume.device) as served:
        yield served


def test_half_a_write_holds_up_no_cut_and_is_not_in_it(
    volume: SmallVolume, served: Served
) -> None:
    stalling, other = served.enter(), served.enter()
    stalling.sock.sendall(request(WRITE, 0, 1 << 20) + b"x" * (1 << 19))
    other.sock.sendall(write(BLOCK, b"y" * BLOCK))
    assert other.answer().error == 0
    before = contents(volume.device)
    assert snapshot(volume, "snap-1", {ORIGIN: volume.origin.disk}) == before
    stalling.sock.sendall(b"x" * (1 << 19))
    assert stalling.answer().error == 0
    assert contents(volume.device, 0, 1 << 20) == b"x" * (1 << 20)


@pytest.mark.slow
def test_a_client_that_takes_no_replies_holds_up_no_cut(
    volume: SmallVolume, served: Served
) -> None:
    """Its writes are done, or wait for nothing that a cut waits for."""
    stalling = served.enter()
    stalling.sock.settimeout(None)
    for at in range(0, SIZE, 1 << 20):
        stalling.sock.sendall(write(at, b"x" * BLOCK) + request(READ, at, 1 << 20))
    for number in range(3):
        assert cut(volume.device, f"snap-{number}", ORIGIN) in (True, False)
        volume.settle(f"snap-{number}", is_completed=False)
    assert served.enter().ask(FLUSH).error == 0
    served.server.stop(timeout_seconds=0)


def test_while_a_volume_is_frozen_reads_go_on_and_writes_wait_for_the_thaw(
    volume: SmallVolume, served: Served
) -> None:
    writers = [served.enter() for _ in range(8)]
    volume.device.freeze(PATIENCE)
    for index, writer in enumerate(writers):
        writer.sock.sendall(write(index * BLOCK, b"w" * BLOCK))
    reader = served.enter()
    before = volume.origin.disk[: len(writers) * BLOCK]
    assert reader.ask(READ, 0, len(before)).data == before
    assert reader.ask(FLUSH).error == 0
    assert volume.device.thaw()
    assert [writer.answer().error for writer in writers] == [0] * len(writers)
    assert reader.ask(READ, 0, len(before)).data == b"w" * len(before)
