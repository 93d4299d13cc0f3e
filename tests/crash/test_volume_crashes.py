"""Making and removing a volume is stopped at every step it takes on the disk.

For each crash state (``simulated_disk.py``), after recovery: the volumes are exactly those
of the last commit, each has its folder, its kept record and its hold, what it was made from
is there to be read, nothing else is left in ``volumes/``, and the audit finds nothing wrong.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from ebsim.catalog.records import scan_volumes
from ebsim.catalog.retention_rule import ResourceType
from ebsim.catalog.volume import Volume
from ebsim.clock import ManualClock
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.fast_restore import (
    advance_fast_restores,
    disable_fast_restore,
    enable_fast_restore,
)
from ebsim.engine.kept_records import read_record
from ebsim.engine.list_volumes import list_volumes
from ebsim.engine.open_volume import open_volume, volume_folder
from ebsim.engine.recovery import recover
from ebsim.engine.recycle_bin import restore_volume_from_bin, volumes_in_bin
from ebsim.engine.region import Region
from ebsim.engine.remove_volume import remove_volume
from ebsim.engine.resize_volume import resize_volume
from ebsim.engine.retention_rules import RuleRequest, create_rule
from tests.conftest import PROFILE
from tests.crash.recorded_store import open_small_store, quick_directory, recorded_store
from tests.crash.scenes import Scene as StoreScene
from tests.crash.scenes import one, prepare
from tests.crash.simulated_disk import CrashState, crash_states, materialise
from tests.engine.store_audit import complaints_about

GROWN = 2 << 20
REORDERINGS = 200 if PROFILE == "deep" else 16

Contents = dict[str, bytes]


def from_snapshot(region: Region, disk: Path, contents: Contents) -> None:
    del disk
    create_volume(region, VolumeOptions(snapshot=next(iter(contents)), first=[(0, 9000)]))


def empty(region: Region, disk: Path, contents: Contents) -> None:
    del disk, contents
    create_volume(region, VolumeOptions(size_gib=1))


def local(region: Region) -> list[Volume]:
    return [volume for volume in list_volumes(region) if volume.is_local]


def remove(region: Region, disk: Path, contents: Contents) -> None:
    del disk, contents
    remove_volume(region, local(region)[0].volume_id)


def grow(region: Region, disk: Path, contents: Contents) -> None:
    del disk, contents
    resize_volume(region, local(region)[0].volume_id, 1)


def into_the_bin(region: Region, disk: Path, contents: Contents) -> None:
    create_rule(region, RuleRequest(ResourceType.VOLUME, 1))
    remove(region, disk, contents)


def made(home: Path, disk: Path, contents: Contents) -> None:
    """A volume of a snapshot, which is there still."""
    one(home, disk, contents)
    region = open_small_store(home, Random("made"))
    from_snapshot(region, disk, contents)
    region.close()


def alone(home: Path, disk: Path, contents: Contents) -> None:
    """A volume of a snapshot that was deleted: it alone holds the blocks."""
    made(home, disk, contents)
    region = open_small_store(home, Random("alone"))
    delete_snapshots(region, list(contents))
    region.close()


def pooled(home: Path, disk: Path, contents: Contents) -> None:
    """A volume waits in the pool of fast restore; credits have come since."""
    one(home, disk, contents)
    clock = ManualClock()
    clock.advance(-3600)
    region = open_small_store(home, Random("pooled"), clock=clock)
    enable_fast_restore(region, next(iter(contents)), "testa")
    advance_fast_restores(region)
    region.close()


def from_the_pool(region: Region, disk: Path, contents: Contents) -> None:
    del disk
    snapshot_id = next(iter(contents))
    assert create_volume(region, VolumeOptions(snapshot=snapshot_id)).fast_restored


def empty_the_pool(region: Region, disk: Path, contents: Contents) -> None:
    del disk
    disable_fast_restore(region, next(iter(contents)), "testa")
    advance_fast_restores(region)


SCENES = {
    "take from the pool": StoreScene(pooled, from_the_pool),
    "empty the pool": StoreScene(pooled, empty_the_pool),
    "create from a snapshot": StoreScene(one, from_snapshot),
    "create an empty one": StoreScene(None, empty),
    "remove": StoreScene(made, remove),
    "remove the last that needs the blocks": StoreScene(alone, remove),
    "remove into the recycle bin": StoreScene(alone, into_the_bin),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_a_crash_at_any_step_leaves_a_volume_whole_or_nothing_of_it(
    name: str, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    # Some volumes are whole GiB, and every crash state is written out: a GiB is 2 MiB.
    monkeypatch.setattr("ebsim.engine.fast_restore_pool.GIB", GROWN)
    monkeypatch.setattr("ebsim.engine.create_volume.GIB", GROWN)
    scene = SCENES[name]
    with quick_directory() as folder:
        home, disk, contents = prepare(scene, folder)
        data = next(iter(contents.values()), b"")
        with recorded_store(home, Random("recorded")) as (region, recording, metadata):
            scene.verb(region, disk, contents)
        count = 0
        for state in crash_states(recording.journal, reorderings=REORDERINGS):
            expected = metadata.volumes[int(state.marks[-1]) if state.marks else 0]
            examine(state, expected, data, folder / "crashed")
            count += 1
    figure(f"{count} crash states")
    assert count > 10, "the verb was not recorded"


@pytest.mark.slow
def test_a_crash_while_a_volume_grows_leaves_a_size_on_which_all_agree(
    monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    # Every crash state is written out: a GiB of a test is 2 MiB.
    monkeypatch.setattr("ebsim.engine.resize_volume.GIB", GROWN)
    scene, found = StoreScene(made, grow), list[int]()
    with quick_directory() as folder:
        home, disk, contents = prepare(scene, folder)
        data = next(iter(contents.values()))
        with recorded_store(home, Random("recorded")) as (region, recording, metadata):
            scene.verb(region, disk, contents)
        for state in crash_states(recording.journal, reorderings=REORDERINGS):
            noted = metadata.volumes[int(state.marks[-1]) if state.marks else 0]
            found.append(grown_size(state, noted, data, folder / "crashed"))
    figure(f"{found.count(GROWN)} of {len(found)} crash states have grown")
    assert set(found) == {len(data), GROWN}


def grown_size(state: CrashState, noted: list[Volume], data: bytes, home: Path) -> int:
    """The size after recovery, which the catalog, the kept record and the state all have."""
    home.mkdir()
    materialise(state, home)
    region = open_small_store(home, Random(str(state)))
    try:
        recover(region)
        assert complaints_about(region) == [], state
        (volume,) = local(region)
        assert volume.size_bytes >= max(one.size_bytes for one in noted if one.is_local), state
        folder = volume_folder(region, volume.volume_id)
        assert folder.load().size_bytes == volume.size_bytes, state
        assert read_record(region.files, folder.path) == volume, state
        with open_volume(region, volume.volume_id, "test", hydrates=False) as opened:
            found = bytearray(volume.size_bytes)
            opened.device.read_at(0, memoryview(found))
        assert found == data.ljust(volume.size_bytes, b"\0"), state
        return volume.size_bytes
    finally:
        region.close()
        shutil.rmtree(home)


def examine(state: CrashState, expected: list[Volume], data: bytes, home: Path) -> None:
    home.mkdir()
    materialise(state, home)
    region = open_small_store(home, Random(str(state)))
    try:
        recover(region)
        assert region.metadata.read(scan_volumes) == expected, state
        assert complaints_about(region) == [], state
        for volume in volumes_in_bin(region):
            restore_volume_from_bin(region, volume.volume_id)
        for volume in local(region):
            if volume.origin is not None:
                with open_volume(region, volume.volume_id, "test", hydrates=False) as opened:
                    found = bytearray(volume.size_bytes)
                    opened.device.read_at(0, memoryview(found))
                assert found == data, state
            remove_volume(region, volume.volume_id)
        assert complaints_about(region) == [], state
    finally:
        region.close()
        shutil.rmtree(home)
