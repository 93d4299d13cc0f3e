"""All verbs together against a model: snapshots and volumes as bytes, whatever is done.

The other models look closely at one thing each.  This one mixes everything, on a clock that
it drives back and forth, in two regions, with transactions and file calls failing on the way.
"""

import shutil
from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from ebsim.engine.check_store import check_store
from ebsim.engine.compact_store import compact_store
from ebsim.engine.copy_volume import copy_volume
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.fast_restore import (
    advance_fast_restores,
    disable_fast_restore,
    enable_fast_restore,
)
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.recovery import recover
from ebsim.engine.recycle_bin import restore_volume_from_bin, volumes_in_bin
from ebsim.engine.remove_volume import remove_volume
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.errors import Conflict, EbsimError, NotFound
from ebsim.ids import VolumeId
from tests.conftest import PROFILE
from tests.engine.broken_regions import Fault, failing
from tests.engine.killable_volume import KillableVolume
from tests.engine.store_audit import complaints_about
from tests.engine.stores import BLOCK
from tests.engine.whole_snapshots import WholeSnapshots
from tests.engine.whole_store import (
    HERE,
    Held,
    block_indexes,
    block_of,
    faults,
    picks,
    seeds,
)
from tests.volumes.volume_stores import contents, hydrate

ZONE = "testa"
OPTIONS = SnapshotOptions(thread_count=2)
VOLUMES_MAX = 4
PART = 700


class WholeModel(WholeSnapshots):
    """Volumes, fast restore and the store as a whole."""

    @initialize()
    def begin(self) -> None:
        self.snapshot(0, None, False)
        self.start({0: 1, 128: 2}, 0, False, None)
        self.complete(0, None)
        self.make_volume(0, None)

    def teardown(self) -> None:
        try:
            self.audit()
            for snapshot_id in self.held:
                self.verify(snapshot_id)
            for number in range(len(self.volumes)):
                self.read_volume(number)
        finally:
            with suppress(EbsimError):
                self.close_volumes()
            for region in self.regions.values():
                region.close()
            self.stack.close()

    # Volumes

    @rule(number=picks, fault=faults)
    def make_volume(self, number: int, fault: Fault | None) -> None:
        snapshot_id = self.pick(number, self.is_image_here)
        if snapshot_id is None or len(self.volumes) == VOLUMES_MAX:
            return
        is_usable = self.is_usable(snapshot_id)
        with failing(self.region, fault) as region:
            try:
                create_volume(region, VolumeOptions(snapshot_id))
            except (Conflict, NotFound):
                assert not is_usable
            else:
                assert is_usable
        self.adopt_volume(self.held[snapshot_id].image or b"")

    def _pick_volume(self, number: int) -> str | None:
        ids = sorted(self.volumes)
        return ids[number % len(ids)] if ids else None

    def _opened(self, volume_id: str) -> KillableVolume:
        volume = self.volumes[volume_id]
        volume.open = volume.open or KillableVolume(self.region, VolumeId(volume_id))
        return volume.open

    @rule(number=picks, block=block_indexes, seed=seeds, is_part=st.booleans())
    def write_volume(self, number: int, block: int, seed: int, is_part: bool) -> None:
        volume_id = self._pick_volume(number)
        if volume_id is not None:
            data, at = block_of(seed), block * BLOCK
            if is_part:
                data, at = data[:PART], at + PART
            self._opened(volume_id).device.write_at(at, data)
            self.volumes[volume_id].bytes[at : at + len(data)] = data

    @rule(number=picks)
    def read_volume(self, number: int) -> None:
        volume_id = self._pick_volume(number)
        if volume_id is not None:
            expected = self.volumes[volume_id].bytes
            assert contents(self._opened(volume_id).device, 0, len(expected)) == expected

    @rule(number=picks, fault=faults)
    def snapshot_volume(self, number: int, fault: Fault | None) -> None:
        volume_id = self._pick_volume(number)
        if volume_id is not None:
            with failing(self.region, fault) as region:
                create_snapshot_set(region, [volume_id], OPTIONS)
            self.adopt(Held(HERE, image=bytes(self.volumes[volume_id].bytes)))

    @rule(number=picks, is_all=st.booleans())
    def load_volume(self, number: int, is_all: bool) -> None:
        volume_id = self._pick_volume(number)
        if volume_id is None:
            return
        opened = self._opened(volume_id)
        if is_all:
            opened.load_all()
        else:
            hydrate(opened.device, range(60))

    @rule(number=picks, is_killed=st.booleans())
    def let_go_of_volume(self, number: int, is_killed: bool) -> None:
        volume_id = self._pick_volume(number)
        if volume_id is None:
            return
        if is_killed:
            self._opened(volume_id).kill()
            self.volumes[volume_id].open = None
            recover(self.region)
        self.close_volume(volume_id)

    @rule(number=picks, fault=faults)
    def copy_volume(self, number: int, fault: Fault | None) -> None:
        volume_id = self._pick_volume(number)
        if volume_id is not None and len(self.volumes) < VOLUMES_MAX:
            self.close_volume(volume_id)
            with failing(self.region, fault) as region:
                copy_volume(region, volume_id, tags={})
            self.adopt_volume(self.volumes[volume_id].bytes)

    @rule(number=picks, fault=faults)
    def remove_volume(self, number: int, fault: Fault | None) -> None:
        volume_id = self._pick_volume(number)
        if volume_id is None:
            return
        self.close_volume(volume_id)
        with failing(self.region, fault) as region:
            remove_volume(region, volume_id)
        left = {volume.volume_id: volume for volume in self.all_volumes()}
        if volume_id not in left:
            del self.volumes[volume_id]
        elif left[VolumeId(volume_id)].bin_stay is not None:
            self.volumes_in_bin[volume_id] = self.volumes.pop(volume_id)
        else:
            assert fault is not None

    @rule(number=picks)
    def volume_out_of_the_bin(self, number: int) -> None:
        ids = sorted(volume.volume_id for volume in volumes_in_bin(self.region))
        assert set(ids) <= self.volumes_in_bin.keys()
        if ids:
            volume_id = ids[number % len(ids)]
            restore_volume_from_bin(self.region, volume_id)
            self.volumes[volume_id] = self.volumes_in_bin.pop(volume_id)

    @rule(number=picks, is_fast=st.booleans(), fault=faults)
    def fast_restore(self, number: int, is_fast: bool, fault: Fault | None) -> None:
        snapshot_id = self.pick(number, self.is_image_here)
        if snapshot_id is None:
            return
        verb = enable_fast_restore if is_fast else disable_fast_restore
        with failing(self.region, fault) as region, suppress(Conflict, NotFound):
            verb(region, snapshot_id, ZONE)
            advance_fast_restores(region)

    # The store

    @rule(fault=faults)
    def compact(self, fault: Fault | None) -> None:
        with failing(self.region, fault) as region:
            compact_store(region)

    @rule()
    def check(self) -> None:
        for region in self.regions.values():
            assert check_store(region, read_data=True).findings == []

    @rule()
    def reopen(self) -> None:
        self.close_volumes()
        for name, region in list(self.regions.items()):
            region.close()
            self.open_region(name)

    @rule(is_lost=st.booleans())
    def rebuild(self, is_lost: bool) -> None:
        """What was being written block by block is lost by it, and nothing else."""
        self.close_volumes()
        for region in self.regions.values():
            recover(region)
        before = {snapshot_id: self.row(snapshot_id) for snapshot_id in self.held}
        for name, region in list(self.regions.items()):
            region.close()
            if is_lost:
                shutil.rmtree(region.path / "metadata")
            report = rebuild_store(self.folder / "home", name)
            assert (report.lost, report.complaints) == ([], [])
            self.open_region(name)
            # Packs that nothing needs any more are compaction's to delete.
            compact_store(self.regions[name])
        self.pending.clear()
        assert before == {snapshot_id: self.row(snapshot_id) for snapshot_id in self.held}

    @rule()
    def audit(self) -> None:
        self.close_volumes()
        for name, region in self.regions.items():
            recover(region)
            assert complaints_about(region) == []
            assert self.unknown_snapshots(name) == []


@pytest.mark.slow
def test_all_verbs_together_do_what_the_model_does() -> None:
    deep = PROFILE == "deep"
    run_state_machine_as_test(
        WholeModel,
        settings=settings(
            max_examples=1000 if deep else 12, stateful_step_count=80 if deep else 30
        ),
    )
