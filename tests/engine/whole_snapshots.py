"""The rules of the model of all verbs that are about snapshots."""

from contextlib import suppress

from hypothesis import strategies as st
from hypothesis.stateful import rule

from ebsim.catalog.direct_snapshot import CompletionRequest
from ebsim.catalog.retention_rule import ResourceType
from ebsim.catalog.snapshot import SnapshotState
from ebsim.engine.archive_snapshot import archive_snapshot
from ebsim.engine.copy_snapshot import CopyOptions, copy_snapshot
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.direct.complete_direct_snapshot import complete_direct_snapshot
from ebsim.engine.direct.finish_direct_snapshot import TIMED_OUT, settle_direct_snapshots
from ebsim.engine.lock_snapshot import LockMode, LockRequest, lock_snapshot, unlock_snapshot
from ebsim.engine.recovery import recover
from ebsim.engine.recycle_bin import restore_snapshot_from_bin, sweep_recycle_bin
from ebsim.engine.region import Region
from ebsim.engine.retention_rules import RuleRequest, create_rule, delete_rule, list_rules
from ebsim.engine.unarchive_snapshot import unarchive_snapshot
from ebsim.errors import Conflict, NotFound, StorageUnavailable
from ebsim.ids import SnapshotId
from tests.engine.broken_regions import Fault, failing
from tests.engine.direct_snapshots import Plane, access_to
from tests.engine.interruptions import Interrupted, interruption
from tests.engine.stores import SMALL, change_disk
from tests.engine.whole_store import (
    HERE,
    THERE,
    Held,
    Pending,
    WholeStore,
    block_indexes,
    block_of,
    faults,
    picks,
    seeds,
)

direct_blocks = st.dictionaries(st.sampled_from([0, 1, 127, 128, 2047]), seeds, max_size=3)
_PENDING_MAX = 3
_LOCKED_DAYS = 1
_KEPT_DAYS = 2


class WholeSnapshots(WholeStore):
    """Snapshots of disks and block by block, their tiers, locks, copies and deletions."""

    @rule(disk=st.integers(0, 1), changes=st.dictionaries(block_indexes, seeds, max_size=4))
    def write_image(self, disk: int, changes: dict[int, int]) -> None:
        change_disk(self.images[disk], {i: block_of(seed) for i, seed in changes.items()})

    @rule(disk=st.integers(0, 1), fault=faults, is_interrupted=st.booleans())
    def snapshot(self, disk: int, fault: Fault | None, is_interrupted: bool) -> None:
        image = self.images[disk]
        progress = interruption(1) if is_interrupted else None
        with failing(self.region, fault) as region, suppress(Interrupted):
            create_snapshot(region, str(image), SMALL, progress)
        recover(self.region)
        self.adopt(Held(HERE, image=image.read_bytes()))

    @rule(number=picks)
    def read(self, number: int) -> None:
        snapshot_id = self.pick(number)
        if snapshot_id is not None:
            self.verify(snapshot_id)

    # Block by block

    @rule(blocks=direct_blocks, number=picks, has_parent=st.booleans(), fault=faults)
    def start(
        self, blocks: dict[int, int], number: int, has_parent: bool, fault: Fault | None
    ) -> None:
        if len(self.pending) == _PENDING_MAX:
            return
        parent = self.pick(number, self._can_be_parent) if has_parent else None
        with failing(self.region, fault) as region, access_to(region) as access:
            snapshot_id = Plane(region, access).start(parent)
            inherited = dict(self.held[parent].blocks or {}) if parent else {}
            self.pending[snapshot_id] = Pending(inherited, set())
            self._put(Plane(region, access), snapshot_id, blocks)

    def _can_be_parent(self, snapshot_id: str) -> bool:
        held = self.held[snapshot_id]
        is_direct_here = held.blocks is not None and held.region_name == HERE
        return is_direct_here and self.is_usable(snapshot_id)

    def _put(self, plane: Plane, snapshot_id: str, blocks: dict[int, int]) -> None:
        pending = self.pending[snapshot_id]
        for index, seed in blocks.items():
            try:
                plane.put(SnapshotId(snapshot_id), {index: seed})
            except StorageUnavailable:
                pending.is_known = False
                raise
            pending.blocks[index] = seed
            pending.put.add(index)

    def _pick_pending(self, number: int) -> str | None:
        for snapshot_id in list(self.pending):
            row = self.known(snapshot_id)
            if row.state_message == TIMED_OUT or not self.pending[snapshot_id].is_known:
                delete_snapshots(self.region, [snapshot_id])
                del self.pending[snapshot_id]
        ids = sorted(self.pending)
        return ids[number % len(ids)] if ids else None

    @rule(number=picks, blocks=direct_blocks, fault=faults)
    def put(self, number: int, blocks: dict[int, int], fault: Fault | None) -> None:
        snapshot_id = self._pick_pending(number)
        if snapshot_id is not None:
            with failing(self.region, fault) as region, access_to(region) as access:
                self._put(Plane(region, access), snapshot_id, blocks)

    @rule(number=picks, fault=faults)
    def complete(self, number: int, fault: Fault | None) -> None:
        snapshot_id = self._pick_pending(number)
        if snapshot_id is None:
            return
        with failing(self.region, fault) as region:
            self._complete(region, snapshot_id)
        self._complete(self.region, snapshot_id)
        row = self.known(snapshot_id)
        if row.state_message != TIMED_OUT:
            assert row.state is SnapshotState.COMPLETED, row.state_message
            self.held[snapshot_id] = Held(HERE, blocks=self.pending.pop(snapshot_id).blocks)

    def _complete(self, region: Region, snapshot_id: str) -> None:
        request = CompletionRequest(len(self.pending[snapshot_id].put), None)
        complete_direct_snapshot(region, SnapshotId(snapshot_id), request)
        settled = settle_direct_snapshots(region)
        assert region is not self.region or settled.failures == []

    # What becomes of them

    @rule(number=picks, to=st.sampled_from([HERE, THERE]), fault=faults)
    def copy(self, number: int, to: str, fault: Fault | None) -> None:
        snapshot_id = self.pick(number)
        if snapshot_id is None:
            return
        held, is_usable = self.held[snapshot_id], self.is_usable(snapshot_id)
        with failing(self.regions[to], fault) as region:
            source = region if held.region_name == to else self.region_of(snapshot_id)
            try:
                copy_snapshot(region, source, snapshot_id, CopyOptions(thread_count=1))
            except (Conflict, NotFound):
                assert not is_usable
            else:
                assert is_usable
        recover(self.region_of(snapshot_id))
        self.adopt(Held(to, held.image, held.blocks))

    @rule(number=picks, fault=faults)
    def archive(self, number: int, fault: Fault | None) -> None:
        snapshot_id = self.pick(number)
        if snapshot_id is None:
            return
        is_fit = self.is_usable(snapshot_id) and self.known(snapshot_id).archive is None
        with failing(self.region_of(snapshot_id), fault) as region:
            try:
                archive_snapshot(region, snapshot_id)
            except (Conflict, NotFound):
                assert not is_fit
            else:
                assert is_fit

    @rule(number=picks, days=st.sampled_from([None, 1, 3]), fault=faults)
    def unarchive(self, number: int, days: int | None, fault: Fault | None) -> None:
        snapshot_id = self.pick(number)
        if snapshot_id is None:
            return
        row = self.known(snapshot_id)
        is_fit = row.archive is not None and row.bin_stay is None
        with failing(self.region_of(snapshot_id), fault) as region:
            try:
                unarchive_snapshot(region, snapshot_id, days)
            except (Conflict, NotFound):
                assert not is_fit
            else:
                assert is_fit
                self.verify(snapshot_id)

    @rule(hours=st.sampled_from([-30, -1, 1, 24, 25, 49, 100]))
    def pass_time(self, hours: int) -> None:
        self.clock.advance(hours * 3600)

    @rule(number=picks, is_locked=st.booleans())
    def lock(self, number: int, is_locked: bool) -> None:
        snapshot_id = self.pick(number)
        if snapshot_id is None:
            return
        region = self.region_of(snapshot_id)
        with suppress(NotFound, Conflict):
            if is_locked:
                request = LockRequest(LockMode.GOVERNANCE, _LOCKED_DAYS)
                lock_snapshot(region, snapshot_id, request)
            else:
                unlock_snapshot(region, snapshot_id)

    @rule(number=picks, fault=faults)
    def delete(self, number: int, fault: Fault | None) -> None:
        snapshot_id = self.pick(number)
        if snapshot_id is None:
            return
        row = self.known(snapshot_id)
        is_locked = row.lock is not None and row.lock.forbids_deletion_at(self.clock.now_ns())
        with failing(self.region_of(snapshot_id), fault) as region:
            try:
                delete_snapshots(region, [snapshot_id])
            except (Conflict, NotFound):
                assert is_locked or row.bin_stay is not None
            else:
                assert not is_locked
        if self.row(snapshot_id) is None:
            assert not is_locked
            assert row.bin_stay is None
            del self.held[snapshot_id]

    # The recycle bin

    @rule(kind=st.sampled_from(list(ResourceType)), is_kept=st.booleans())
    def retention(self, kind: ResourceType, is_kept: bool) -> None:
        rules = list(list_rules(self.region, kind))
        if is_kept and not rules:
            create_rule(self.region, RuleRequest(kind, _KEPT_DAYS))
        for one in [] if is_kept else rules:
            delete_rule(self.region, one.rule_id)

    @rule(number=picks, fault=faults)
    def out_of_the_bin(self, number: int, fault: Fault | None) -> None:
        snapshot_id = self.pick(number, lambda one: self.known(one).bin_stay is not None)
        if snapshot_id is None:
            return
        stay = self.known(snapshot_id).bin_stay
        assert stay is not None
        is_over = stay.is_over_at(self.clock.now_ns())
        with failing(self.region_of(snapshot_id), fault) as region:
            try:
                restore_snapshot_from_bin(region, snapshot_id)
            except NotFound:
                assert is_over
            else:
                assert not is_over

    @rule(fault=faults)
    def sweep(self, fault: Fault | None) -> None:
        stays = {one: self.known(one).bin_stay for one in self.held}
        with failing(self.region, fault) as region:
            sweep_recycle_bin(region)
        for snapshot_id, stay in stays.items():
            is_over = stay is not None and stay.is_over_at(self.clock.now_ns())
            if self.row(snapshot_id) is None:
                assert is_over
                del self.held[snapshot_id]
            else:
                assert not is_over or fault is not None
        left = {volume.volume_id for volume in self.all_volumes()}
        for volume_id in self.volumes_in_bin.keys() - left:
            del self.volumes_in_bin[volume_id]
