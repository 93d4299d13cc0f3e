"""Every verb is stopped at every step it takes on the disk, and the store reopened.

For each crash state (``simulated_disk.py``): the completed snapshots are exactly those of
the last commit, each restores byte for byte, the audit (``store_audit.py``) finds nothing
wrong, and the store can go on: a snapshot is taken and deleted, and it is clean again.

Many crash states are the same store after recovery, which has removed what was torn; what
follows from the store alone is looked at once for each that is not.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from ebsim.catalog.snapshot import Snapshot
from ebsim.engine.check_store import check_store
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.metadata.transactions import Table
from tests.conftest import PROFILE
from tests.crash.recorded_store import (
    METADATA,
    catalog_of,
    expected_catalog,
    open_small_store,
    quick_directory,
    recorded_store,
)
from tests.crash.scenes import SCENES, prepare
from tests.crash.simulated_disk import CrashState, crash_states, materialise
from tests.engine.store_audit import complaints_about
from tests.engine.stores import (
    BLOCK,
    block_bytes,
    restored,
    restored_even_from_bin,
    take,
    write_disk,
)

REORDERINGS = 200 if PROFILE == "deep" else 16


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_a_crash_at_any_step_leaves_every_snapshot_whole(
    name: str, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    # A lower limit, so that a small disk fills several packs.
    monkeypatch.setattr("ebsim.chunkstore.pack_writer.PACK_RECORDS_MAX", 4)
    # Many small writes instead of one for each pack, so that there is more to break off.
    monkeypatch.setattr("ebsim.staged_file.STAGE_SIZE", 4096)
    scene = SCENES[name]
    with quick_directory() as folder:
        home, disk, contents = prepare(scene, folder)
        with recorded_store(home, Random("recorded")) as (region, recording, metadata):
            scene.verb(region, disk, contents)
        count = 0
        checked: set[tuple[str, ...]] = set()
        recovered: set[int] = set()
        for state in crash_states(recording.journal, reorderings=REORDERINGS):
            expected = expected_catalog(state, metadata.catalogs)
            # The store's own check starts a process: once for each commit is enough.
            with_check = state.marks not in checked
            checked.add(state.marks)
            with examined(state, expected, folder / "crashed", with_check=with_check) as region:
                found = everything_in(region)
                if found not in recovered:
                    assert_whole(region, expected, contents, str(state))
                recovered.add(found)
            count += 1
    figure(f"{count} crash states, {len(recovered)} different ones after recovery")
    assert count > 4, "the verb was not recorded"


def beside_tiers(catalog: Mapping[str, Snapshot]) -> Mapping[str, Snapshot]:
    """*catalog* but for the tiers of snapshots: recovery may end what was under way there."""
    return {
        name: replace(one, root=None, archive=None, tiering=None, restore_expiry_time_ns=None)
        if one.tiering is not None
        else one
        for name, one in catalog.items()
    }


@contextmanager
def examined(
    state: CrashState, expected: Mapping[str, Snapshot], home: Path, *, with_check: bool
) -> Iterator[Region]:
    """The store of *state*, recovered, with the catalog that is *expected*."""
    home.mkdir()
    materialise(state, home)
    # The same chance for all, so that what is the same after recovery is seen to be.
    region = open_small_store(home, Random("recovery"))
    try:
        recover(region)
        assert beside_tiers(catalog_of(region.metadata)) == beside_tiers(expected), state
        if with_check:
            report = check_store(region, read_data=True)
            assert report.findings == [], state
        yield region
    finally:
        region.close()
        shutil.rmtree(home)


def everything_in(region: Region) -> int:
    """A hash of every row and every file of a store."""
    rows = region.metadata.read(
        lambda reader: [tuple(reader.scan(table, limit=1 << 20)) for table in Table]
    )
    files = [
        (str(path.relative_to(region.home)), path.read_bytes())
        for path in sorted(region.home.rglob("*"))
        if path.is_file() and not path.is_relative_to(region.home / METADATA)
    ]
    return hash((tuple(rows), tuple(files)))


def assert_whole(
    region: Region, expected: Mapping[str, Snapshot], contents: dict[str, bytes], state: str
) -> None:
    """Find in the store what the docstring of this module says."""
    folder = region.home.parent
    assert complaints_about(region) == [], state
    for snapshot_id in expected:
        disk = restored_even_from_bin(region, snapshot_id, folder)
        assert disk == contents[snapshot_id], state
    image = write_disk(folder / "next.img", 3 * BLOCK, {1: block_bytes(2)})
    made = take(region, image)
    assert restored(region, made, folder) == image.read_bytes(), state
    delete_snapshots(region, [made])
    assert complaints_about(region) == [], state
