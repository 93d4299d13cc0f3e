"""A volume against a model: its bytes as a bytearray, whatever is done to it."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ebsim.engine.check_store import check_store
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.list_snapshots import list_snapshots
from ebsim.engine.recovery import recover
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.progress import Progress
from tests.conftest import PROFILE
from tests.crash.recorded_store import quick_directory
from tests.engine.interruptions import Interference, Interrupted, interruption
from tests.engine.killable_volume import KillableVolume
from tests.engine.store_audit import complaints_about
from tests.engine.stores import BLOCK, block_bytes, open_store, restored, take, write_disk
from tests.volumes.volume_stores import contents, hydrate

SIZE = 140 * BLOCK + 700  # a whole leaf of the block map, and a part of one
SIZE_MAX = 150 * BLOCK
OPTIONS = SnapshotOptions(thread_count=2)

# Block borders are where arithmetic goes wrong, and the border of a leaf most of all.
offsets = st.builds(
    lambda block, within: block * BLOCK + within,
    st.sampled_from([0, 1, 2, 5, 126, 127, 128, 138, 139, 140, 145]),
    st.sampled_from([0, 1, 512, BLOCK // 2, BLOCK - 1]),
)
lengths = st.sampled_from([1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 9 * BLOCK + 5])
seeds = st.integers(0, 1 << 16)


class VolumeModel(RuleBasedStateMachine):
    """``bytes`` is the model of the volume, ``held`` that of its snapshots."""

    snapshots = Bundle("snapshots")

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        self.folder = self._open.enter_context(quick_directory())
        self.region = open_store(self.folder / "home", random=Random(0))
        self._open.callback(self.region.close)
        blocks = {i: block_bytes(i) for i in (0, 1, 5, 7, 126, 127, 128, 139, 140)}
        image = write_disk(self.folder / "image", SIZE, blocks)
        self.bytes = bytearray(image.read_bytes())
        self.origin: str | None = take(self.region, image)
        self.held: dict[str, bytes] = {self.origin: bytes(self.bytes)}
        self.volume_id = create_volume(self.region, VolumeOptions(self.origin)).volume_id
        self.volume = KillableVolume(self.region, self.volume_id)
        self._boots = 1

    def teardown(self) -> None:
        try:
            assert contents(self.volume.device) == self.bytes
            self.snapshot()
            for snapshot_id, expected in self.held.items():
                assert restored(self.region, snapshot_id, self.folder) == expected
            self.volume.close()
            recover(self.region)
            assert complaints_about(self.region) == []
            assert check_store(self.region).findings == []
        finally:
            self._open.close()

    @invariant()
    def has_its_size(self) -> None:
        assert self.volume.device.size_bytes == len(self.bytes)

    def change(
        self, offset: int, length: int, verb: Callable[[int, int], bytes | bytearray]
    ) -> None:
        length = min(length, len(self.bytes) - offset)
        if length > 0:
            self.bytes[offset : offset + length] = verb(offset, length)

    @rule(offset=offsets, length=lengths, seed=seeds)
    def write(self, offset: int, length: int, seed: int) -> None:
        def write(offset: int, length: int) -> bytes:
            data = block_bytes(seed, length)[:length].ljust(length, b"x")
            # Both ways in which the server writes.
            if seed % 2 or not self.volume.device.try_write_at(offset, data):
                self.volume.device.write_at(offset, data)
            return data

        self.change(offset, length, write)

    @rule(offset=offsets, length=lengths, allocate=st.booleans())
    def zero(self, offset: int, length: int, allocate: bool) -> None:
        def zero(offset: int, length: int) -> bytes:
            self.volume.device.zero_at(offset, length, allocate=allocate)
            return bytes(length)

        self.change(offset, length, zero)

    @rule(offset=offsets, length=lengths)
    def trim(self, offset: int, length: int) -> None:
        def trim(offset: int, length: int) -> bytes:
            self.volume.device.trim(offset, length)
            return bytes(length)

        self.change(offset, length, trim)

    @rule(offset=offsets, length=lengths)
    def read(self, offset: int, length: int) -> None:
        stop = min(offset + length, len(self.bytes))
        if offset < stop:
            assert contents(self.volume.device, offset, stop) == self.bytes[offset:stop]

    @rule()
    def flush(self) -> None:
        self.volume.device.flush()

    @rule(target=snapshots)
    def snapshot(self) -> str:
        return self.taken()

    @rule(target=snapshots, offset=offsets, length=lengths, seed=seeds)
    def snapshot_while_it_is_written(self, offset: int, length: int, seed: int) -> str:
        at_the_cut = bytes(self.bytes)
        snapshot_id = self.taken(Interference(1, lambda: self.write(offset, length, seed)))
        self.held[snapshot_id] = at_the_cut
        return snapshot_id

    @rule(offset=offsets, length=lengths, seed=seeds, is_killed=st.booleans())
    def snapshot_that_is_interrupted(
        self, offset: int, length: int, seed: int, is_killed: bool
    ) -> None:
        self.write(offset, length, seed)
        before = set(self.held)
        with suppress(Interrupted):
            self.taken(interruption(1))
        listed = {snapshot.snapshot_id for snapshot in list_snapshots(self.region).snapshots}
        assert listed >= self.held.keys() >= before
        delete_snapshots(self.region, sorted(listed - self.held.keys()))
        if is_killed:
            self.kill()

    def taken(self, progress: Progress | None = None) -> str:
        expected = bytes(self.bytes)
        done = create_snapshot_set(self.region, [self.volume_id], OPTIONS, progress)
        (snapshot,) = done.snapshots
        assert snapshot.size_bytes == len(expected)
        self.held[snapshot.snapshot_id] = expected
        return snapshot.snapshot_id

    @rule(chosen=st.lists(consumes(snapshots), min_size=1, max_size=2))
    def delete_snapshots(self, chosen: list[str]) -> None:
        for snapshot_id in chosen:
            assert restored(self.region, snapshot_id, self.folder) == self.held.pop(snapshot_id)
        delete_snapshots(self.region, chosen)

    @rule()
    def delete_the_origin(self) -> None:
        if self.origin is not None:
            delete_snapshots(self.region, [self.origin])
            del self.held[self.origin]
            self.origin = None

    @rule()
    def kill(self) -> None:
        self.volume.kill()
        self.volume.open()

    @rule()
    def reopen(self) -> None:
        self.volume.close()
        self.volume.open()

    @rule()
    def lose_power(self) -> None:
        """What was flushed is there; what was not is the crash tests' business."""
        self.volume.device.flush()
        self.volume.kill()
        self._boots += 1
        self.volume.boot = f"boot {self._boots}"
        self.volume.open()

    @rule(first=st.integers(0, 140), count=st.integers(1, 40))
    def load_some(self, first: int, count: int) -> None:
        device = self.volume.device
        hydrate(device, range(first, min(first + count, -(-len(self.bytes) // BLOCK))))

    @rule()
    def load_all(self) -> None:
        self.volume.load_all()

    @rule(more=st.sampled_from([1, 700, BLOCK, 3 * BLOCK + 1]))
    def grow(self, more: int) -> None:
        if len(self.bytes) + more <= SIZE_MAX:
            self.volume.device.grow(len(self.bytes) + more)
            self.bytes.extend(bytes(more))


@pytest.mark.slow
def test_a_volume_does_what_the_model_does() -> None:
    deep = PROFILE == "deep"
    run_state_machine_as_test(
        VolumeModel,
        settings=settings(
            max_examples=1000 if deep else 20, stateful_step_count=60 if deep else 30
        ),
    )
