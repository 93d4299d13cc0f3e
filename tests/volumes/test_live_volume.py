"""A volume that many threads use at once, while it is loaded and cut."""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from ebsim.durable_files import Files
from ebsim.system_calls import Buffer, SystemCalls
from ebsim.volumes.cut import CutReader
from ebsim.volumes.live_volume import LiveVolume
from tests.volumes.volume_stores import (
    BLOCK,
    ORIGIN,
    BytesOrigin,
    SmallVolume,
    base_of,
    contents,
    disk_of,
    hydrate,
    read_cut,
)

BLOCKS = 9
REGION = 3000  # no multiple of a block: most blocks have two writers, at least
GAP = 100
WRITES = 150
REGIONS = BLOCKS * BLOCK // (REGION + GAP)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Let threads take turns much more often than they do by themselves."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


class HalfCalls(SystemCalls):
    """Reads and writes half of what is asked at a time, and lets another thread go between."""

    def pwritev(self, descriptor: int, parts: Sequence[Buffer], offset_bytes: int) -> int:
        first = memoryview(parts[0]).cast("B")
        half = first[: -(-len(first) // 2)] if len(first) > 1000 else first
        written = super().pwritev(descriptor, [half], offset_bytes)
        os.sched_yield()
        return written

    def preadv(self, descriptor: int, parts: Sequence[memoryview], offset_bytes: int) -> int:
        first = memoryview(parts[0])
        half = first[: -(-len(first) // 2)] if len(first) > 1000 else first
        read = super().preadv(descriptor, [half], offset_bytes)
        os.sched_yield()
        return read


class Region:
    """A range that one thread writes: always all of it, a rising number again and again."""

    def __init__(self, device: LiveVolume, index: int) -> None:
        self._device = device
        self._start = index * (REGION + GAP)
        self._random = Random(index)
        self.begun = self.done = 0

    def write(self) -> None:
        self.begun += 1
        data = self.begun.to_bytes(4, "little") * (REGION // 4)
        if not (self._random.random() < 0.5 and self._device.try_write_at(self._start, data)):
            self._device.write_at(self._start, data)
        self.done = self.begun

    def read(self) -> int:
        buffer = memoryview(bytearray(REGION))
        if not (self._random.random() < 0.5 and self._device.try_read_at(self._start, buffer)):
            self._device.read_at(self._start, buffer)
        return whole_number(bytes(buffer))

    def number_in(self, disk: bytes) -> int:
        return whole_number(disk[self._start : self._start + REGION])

    def gap_in(self, disk: bytes) -> bytes:
        return disk[self._start + REGION : self._start + REGION + GAP]


def disk_with_zeros_for_regions(seed: int) -> bytes:
    """What the volume is made from: every region has the number 0, the gaps are random."""
    disk = bytearray(disk_of(seed, BLOCKS * BLOCK, 0))
    for start in range(0, REGIONS * (REGION + GAP), REGION + GAP):
        disk[start : start + REGION] = bytes(REGION)
    return bytes(disk)


def whole_number(data: bytes) -> int:
    """The number that *data* repeats; a write that is there in part would show."""
    assert data == data[:4] * (len(data) // 4), "a write is torn"
    return int.from_bytes(data[:4], "little")


def write_and_read(region: Region) -> None:
    for _ in range(WRITES):
        region.write()
        assert region.read() == region.done


def read_others(regions: list[Region], stopped: threading.Event) -> None:
    newest = [0] * len(regions)
    while not stopped.is_set():
        for index, region in enumerate(regions):
            before = region.done
            number = region.read()
            assert max(before, newest[index]) <= number <= region.begun
            newest[index] = number


def load(volume: SmallVolume, stopped: threading.Event) -> None:
    random = Random(1)
    while not stopped.is_set():
        hydrate(volume.device, [random.randrange(BLOCKS)])


def cut_again_and_again(
    volume: SmallVolume, regions: list[Region], stopped: threading.Event
) -> None:
    taken = {ORIGIN: volume.origin.disk}
    number = 0
    while not stopped.is_set():
        number += 1
        name = f"snap-{number}"
        since = volume.device.state.dirty_since
        before = [region.done for region in regions]
        dirty_only = volume.cut(name, since if since in taken else None)
        after = [region.begun for region in regions]
        with closing(CutReader(volume.folder, name)) as reader:
            disk = read_cut(reader, base_of(volume, taken if dirty_only else {}))
        found = [region.number_in(disk) for region in regions]
        assert all(map(int.__le__, before, found)), "a write that returned is not in the cut"
        assert all(map(int.__le__, found, after)), "a write after the cut is in it"
        if number % 3:
            taken[name] = disk
        volume.settle(name, is_completed=bool(number % 3))


@pytest.mark.slow
@pytest.mark.parametrize("round_number", range(6))
def test_nothing_is_torn_lost_or_mixed_up_however_many_use_a_volume(
    tmp_path: Path, hasty_threads: None, round_number: int
) -> None:
    del hasty_threads
    origin = BytesOrigin(disk_with_zeros_for_regions(round_number))
    volume = SmallVolume(tmp_path / "volume", origin, files=Files(HalfCalls()))
    volume.create(BLOCKS * BLOCK)
    regions = [Region(volume.device, index) for index in range(REGIONS)]
    stopped = threading.Event()
    background: list[Callable[[], None]] = [
        lambda: read_others(regions, stopped),
        lambda: load(volume, stopped),
        lambda: cut_again_and_again(volume, regions, stopped),
    ]
    with ThreadPoolExecutor(len(regions) + len(background)) as pool:
        others = [pool.submit(work) for work in background]
        try:
            for done in [pool.submit(write_and_read, region) for region in regions]:
                done.result()
        finally:
            stopped.set()
        for other in others:
            other.result()
    disk = contents(volume.device)
    for region in regions:
        assert region.number_in(disk) == region.done
        assert region.gap_in(disk) == region.gap_in(origin.disk), "nobody wrote there"
    volume.close()
