"""The engine against a model: disks and snapshots as plain bytes, whatever is done to them."""

from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from ebsim.chunkstore.pack_format import HEADER_SIZE
from ebsim.engine.check_store import check_store
from ebsim.engine.compact_store import compact_store
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.delete_snapshot import delete_snapshots, plan_deletion_of
from ebsim.engine.diff_snapshots import diff_snapshots
from ebsim.engine.list_snapshots import list_snapshots, measure_snapshot, show_snapshot
from ebsim.engine.restore_snapshot import verify_snapshot
from ebsim.engine.tags import tag_snapshot, untag_snapshot
from tests.conftest import PROFILE
from tests.crash.recorded_store import quick_directory
from tests.engine.interruptions import Interrupted, interruption
from tests.engine.store_audit import StoreAudit
from tests.engine.stores import (
    BLOCK,
    SMALL,
    block_bytes,
    change_disk,
    open_store,
    restored,
    take,
    write_disk,
)

# Near leaf borders (128 blocks) is where index arithmetic goes wrong.
block_indexes = st.one_of(st.integers(0, 6), st.sampled_from([126, 127, 128, 129, 255, 256, 300]))
# Few contents, so that blocks are shared within and between disks; 0 is a block of zeros.
contents = st.integers(0, 12)
sizes = st.sampled_from([1, BLOCK, 5 * BLOCK + 17, 128 * BLOCK, 129 * BLOCK + 1, 301 * BLOCK])


def block_of(seed: int) -> bytes:
    return block_bytes(seed) if seed else bytes(BLOCK)


def live_bytes(audit: StoreAudit) -> int:
    return sum(HEADER_SIZE + location.payload_size for location in audit.locations.values())


class EngineModel(RuleBasedStateMachine):
    """``held`` is the model: what each snapshot must give back."""

    disks = Bundle("disks")
    snapshots = Bundle("snapshots")

    def __init__(self) -> None:
        super().__init__()
        self._open = ExitStack()
        self.folder = self._open.enter_context(quick_directory())
        self.region = open_store(self.folder / "home", random=Random(0))
        self.held: dict[str, bytes] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self._opened_count = 0

    def teardown(self) -> None:
        try:
            self.audit()
            self.region.close()
        finally:
            self._open.close()

    def audit(self) -> StoreAudit:
        audit = StoreAudit(self.region)
        assert audit.complaints() == []
        assert {snapshot.snapshot_id for snapshot in audit.snapshots} == self.held.keys()
        return audit

    @initialize(target=disks)
    def begin(self) -> object:
        return multiple(*(self._disk(name, 301 * BLOCK) for name in ("one", "two")))

    def _disk(self, name: str, size_bytes: int) -> Path:
        return write_disk(self.folder / name, size_bytes, {})

    @rule(disk=disks, changes=st.dictionaries(block_indexes, contents, max_size=8))
    def write(self, disk: Path, changes: dict[int, int]) -> None:
        change_disk(disk, {index: block_of(seed) for index, seed in changes.items()})

    @rule(disk=disks, size_bytes=sizes)
    def resize(self, disk: Path, size_bytes: int) -> None:
        with disk.open("r+b") as file:
            file.truncate(size_bytes)

    @rule(target=snapshots, disk=disks, rehash=st.booleans())
    def snapshot(self, disk: Path, rehash: bool) -> str:
        options = replace(SMALL, rehash=rehash, thread_count=2)
        snapshot_id = take(self.region, disk, options)
        self.held[snapshot_id] = disk.read_bytes()
        self.tags[snapshot_id] = {}
        shown = show_snapshot(self.region, snapshot_id)
        present = [block for block in blocks_of(self.held[snapshot_id]) if any(block)]
        assert (shown.size_bytes, shown.block_count) == (disk.stat().st_size, len(present))
        return snapshot_id

    @rule(disk=disks, leaf_count=st.integers(1, 3))
    def interrupted_snapshot(self, disk: Path, leaf_count: int) -> None:
        before = set(self.held)
        with suppress(Interrupted):
            made = create_snapshot(self.region, str(disk), SMALL, interruption(leaf_count))
            self.held[made.snapshot_id] = disk.read_bytes()
            self.tags[made.snapshot_id] = {}
        listed = {snapshot.snapshot_id for snapshot in list_snapshots(self.region).snapshots}
        assert listed == self.held.keys() >= before

    @rule(chosen=st.lists(consumes(snapshots), max_size=3))
    def delete(self, chosen: list[str]) -> None:
        before = live_bytes(self.audit())
        plan = plan_deletion_of(self.region, chosen)
        if len(chosen) == 1:
            measured = measure_snapshot(self.region, show_snapshot(self.region, chosen[0]))
            assert measured.unique_bytes == plan.freed_bytes
        done = delete_snapshots(self.region, chosen)
        for snapshot_id in chosen:
            del self.held[snapshot_id], self.tags[snapshot_id]
        assert before - live_bytes(self.audit()) == plan.freed_bytes == done.freed_bytes

    @rule(first=snapshots, second=snapshots)
    def diff(self, first: str, second: str) -> None:
        found = [item.block_index for item in diff_snapshots(self.region, first, second)]
        assert found == differing_blocks(self.held[first], self.held[second])

    @rule(snapshot_id=snapshots)
    def restore(self, snapshot_id: str) -> None:
        assert restored(self.region, snapshot_id, self.folder) == self.held[snapshot_id]
        assert verify_snapshot(self.region, snapshot_id).damaged_count == 0

    @rule(snapshot_id=snapshots, key=st.sampled_from("abc"), value=st.text(max_size=3))
    def tag(self, snapshot_id: str, key: str, value: str) -> None:
        tag_snapshot(self.region, snapshot_id, {key: value})
        self.tags[snapshot_id][key] = value
        assert show_snapshot(self.region, snapshot_id).tags == self.tags[snapshot_id]

    @rule(snapshot_id=snapshots, key=st.sampled_from("abc"))
    def untag(self, snapshot_id: str, key: str) -> None:
        untag_snapshot(self.region, snapshot_id, [key])
        self.tags[snapshot_id].pop(key, None)
        assert show_snapshot(self.region, snapshot_id).tags == self.tags[snapshot_id]

    @rule()
    def reopen(self) -> None:
        self.region.close()
        self._opened_count += 1
        self.region = open_store(self.folder / "home", random=Random(self._opened_count))

    @rule()
    def compact(self) -> None:
        before = live_bytes(self.audit())
        compact_store(self.region)
        assert live_bytes(self.audit()) <= before

    @rule()
    def check(self) -> None:
        report = check_store(self.region, read_data=True)
        assert report.findings == []


def blocks_of(data: bytes) -> list[bytes]:
    return [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]


def differing_blocks(first: bytes, second: bytes) -> list[int]:
    """The indexes of the blocks that differ, what lies past a disk's end being zeros."""
    size = max(len(first), len(second))
    pairs = zip(
        blocks_of(first.ljust(size, b"\0")), blocks_of(second.ljust(size, b"\0")), strict=True
    )
    return [index for index, (one, other) in enumerate(pairs) if one != other]


@pytest.mark.slow
def test_the_engine_does_what_the_model_does() -> None:
    deep = PROFILE == "deep"
    run_state_machine_as_test(
        EngineModel,
        settings=settings(
            max_examples=2000 if deep else 20, stateful_step_count=60 if deep else 20
        ),
    )
