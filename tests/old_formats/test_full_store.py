"""A store with all that format 1 can hold is read, checked, rebuilt and gone on with."""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ebsim.catalog.snapshot import SnapshotState
from ebsim.clock import ManualClock
from ebsim.engine.check_store import check_store
from ebsim.engine.compact_store import compact_store
from ebsim.engine.open_volume import open_volume
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.recovery import recover
from ebsim.engine.recycle_bin import restore_volume_from_bin, volumes_in_bin
from ebsim.engine.region import Region, open_region
from ebsim.ids import AccountId, VolumeId
from tests.engine.direct_snapshots import Plane, access_to
from tests.engine.store_audit import complaints_about
from tests.engine.stores import restored_even_from_bin
from tests.old_formats.make_full_store_v1 import ARCHIVE, CONTENTS, PENDING_PUTS, make_store
from tests.old_formats.make_store_v1 import ACCOUNT, REGION
from tests.old_formats.store_contents import (
    ENDED_NS,
    OTHER_ACCOUNT,
    OTHER_REGION,
    every_snapshot,
    records_of,
)

EXPECTED = json.loads(CONTENTS.read_text("utf-8"))
REGIONS = [REGION, OTHER_REGION]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy of the store."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "home", filter="data")
    return tmp_path / "home"


@contextmanager
def opened(home: Path, name: str, account_id: AccountId = ACCOUNT) -> Iterator[Region]:
    clock = ManualClock(ENDED_NS)
    with closing(open_region(home, name, account_id, create=False, clock=clock)) as region:
        yield region


def findings(home: Path) -> list[object]:
    found: list[object] = []
    for name in REGIONS:
        with opened(home, name) as region:
            found += check_store(region, read_data=True).findings
            found += complaints_about(region)
    return found


def records(home: Path) -> dict[str, Any]:
    found = {}
    for name in REGIONS:
        with opened(home, name) as region:
            found[name] = records_of(region)
    return dict(json.loads(json.dumps(found)))


def sums(home: Path) -> dict[str, str]:
    """The SHA-256 of everything that is a disk: of any account, tier, or in the bin."""
    found = {}
    for name in REGIONS:
        with opened(home, name, OTHER_ACCOUNT) as theirs, opened(home, name) as ours:
            for one in every_snapshot(ours):
                if one.snapshot_id in EXPECTED["disks"]:
                    region = ours if one.owner_id == ACCOUNT else theirs
                    disk = restored_even_from_bin(region, one.snapshot_id, home.parent)
                    found[one.snapshot_id] = hashlib.sha256(disk).hexdigest()
            found |= volume_sums(ours)
    return found


def volume_sums(region: Region) -> dict[str, str]:
    """Each volume as it is, then loaded whole, which must make no difference."""
    for binned in volumes_in_bin(region):
        restore_volume_from_bin(region, binned.volume_id)
    found = {}
    for name in EXPECTED["disks"]:
        if name.startswith("vol-") and region.name == REGION:
            volume_id = VolumeId(name)
            found[name] = volume_sum(region, volume_id, loads=False)
            assert volume_sum(region, volume_id, loads=True) == found[name]
    return found


def volume_sum(region: Region, volume_id: VolumeId, *, loads: bool) -> str:
    with open_volume(region, volume_id, "test", hydrates=loads) as volume:
        assert volume.hydrator is None or volume.hydrator.wait(60)
        data = bytearray(volume.device.size_bytes)
        volume.device.read_at(0, memoryview(data))
    return hashlib.sha256(data).hexdigest()


def test_every_record_is_as_it_was_and_nothing_is_wrong_with_the_store(home: Path) -> None:
    assert records(home) == EXPECTED["records"]
    assert findings(home) == []


def test_every_byte_is_as_it_was(home: Path) -> None:
    assert sums(home) == EXPECTED["disks"]
    assert findings(home) == []


def test_what_was_put_is_there_and_what_is_pending_is_gone_on_with(home: Path) -> None:
    completed, pending = EXPECTED["puts"]
    seeds = {name: {int(i): s for i, s in puts.items()} for name, puts in EXPECTED["puts"].items()}
    with opened(home, REGION) as region, access_to(region) as access:
        recover(region)
        plane = Plane(region, access)
        assert plane.read(completed) == seeds[completed]
        plane.put(pending, {7: 9})
        done = plane.complete(pending, len(PENDING_PUTS) + 1)
        assert done.state is SnapshotState.COMPLETED
        assert plane.read(pending) == seeds[pending] | {7: 9}
    assert findings(home) == []


def test_all_but_what_a_rebuild_loses_comes_back(home: Path) -> None:
    """It loses the log of events and what is pending (FORMAT.md)."""
    expected = EXPECTED["records"]
    for name in REGIONS:
        metadata = home / "regions" / name / "metadata"
        metadata.rename(metadata.with_name("lost"))
        report = rebuild_store(home, name)
        assert (report.lost, report.complaints) == ([], [])
    found = records(home)
    for name in REGIONS:
        pending = [
            one["snapshot_id"] for one in expected[name]["snapshots"] if one["state"] == "pending"
        ]
        assert len(pending) == (name == REGION)
        assert found[name] == expected[name] | {
            "events": found[name]["events"],
            "snapshots": [
                one for one in expected[name]["snapshots"] if one["snapshot_id"] not in pending
            ],
        }
        with opened(home, name) as region:
            compact_store(region)  # what was pending takes space until then
    assert sums(home) == EXPECTED["disks"]
    assert findings(home) == []


def test_the_script_still_makes_that_store(tmp_path: Path) -> None:
    """But for the ids, which depend on how often chance is asked."""
    made = make_store(tmp_path / "made", tmp_path / "disk")
    for what in ("disks", "puts"):
        assert list(made[what].values()) == list(EXPECTED[what].values())
