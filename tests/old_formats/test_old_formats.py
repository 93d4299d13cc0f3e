"""Stores that earlier versions of ebsim wrote are read, checked and written on by this one."""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ebsim.catalog.snapshot import snapshot_to_json
from ebsim.catalog.snapshot_filter import Filter
from ebsim.engine.check_store import check_store
from ebsim.engine.create_snapshot import create_snapshot_of_stream
from ebsim.engine.list_snapshots import list_snapshots
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.region import Region, open_region
from ebsim.engine.restore_snapshot import restore_snapshot, verify_snapshot
from ebsim.sources.standard_input import StandardInput
from tests.old_formats.make_store_v1 import ACCOUNT, ARCHIVE, CONTENTS, REGION, make_store

EXPECTED = json.loads(CONTENTS.read_text("utf-8"))["snapshots"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A copy of the store."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "home", filter="data")
    return tmp_path / "home"


@contextmanager
def opened(home: Path) -> Iterator[Region]:
    with closing(open_region(home, REGION, ACCOUNT, create=False)) as region:
        yield region


def found_in(region: Region, folder: Path) -> list[dict[str, Any]]:
    """What the store holds, in the form of the expectation, each disk as it is restored."""
    found = []
    for snapshot in list_snapshots(region).snapshots:
        target = folder / "restored.img"
        restore_snapshot(region, snapshot.snapshot_id, str(target), force=True)
        record = snapshot_to_json(snapshot)
        del record["stored_bytes"], record["referenced_bytes"]
        disk_sha256 = hashlib.sha256(target.read_bytes()).hexdigest()
        found.append({"disk_sha256": disk_sha256, "record": record})
    return found


def test_every_snapshot_is_as_it_was_and_restores_to_its_disk(home: Path, tmp_path: Path) -> None:
    with opened(home) as region:
        assert found_in(region, tmp_path) == EXPECTED


def test_every_block_verifies_and_nothing_is_wrong_with_the_store(home: Path) -> None:
    with opened(home) as region:
        for expected in EXPECTED:
            report = verify_snapshot(region, expected["record"]["snapshot_id"])
            assert (report.damaged_count, report.block_count) == (
                0,
                expected["record"]["block_count"],
            )
        assert check_store(region, read_data=True).findings == []


def test_its_snapshots_are_found_by_tag_and_state(home: Path) -> None:
    ids = [expected["record"]["snapshot_id"] for expected in EXPECTED]
    with opened(home) as region:
        for name, value, wanted in (
            ("tag:env", "test", ids[:2]),
            ("tag:owner", "füchsin", ids[1:2]),
            ("tag-key", "empty", ids[1:2]),
            ("status", "completed", ids),
            ("status", "pending", []),
        ):
            found = list_snapshots(region, [Filter(name, [value])]).snapshots
            assert [one.snapshot_id for one in found] == wanted


@pytest.mark.parametrize("is_rebuilt", [False, True], ids=["as it was", "rebuilt"])
def test_the_next_snapshot_goes_on_from_the_last(
    is_rebuilt: bool, home: Path, tmp_path: Path
) -> None:
    if is_rebuilt:
        rebuild_store(home, REGION)
    last = EXPECTED[-1]["record"]
    image = tmp_path / "disk.img"
    with opened(home) as region:
        restore_snapshot(region, last["snapshot_id"], str(image))
        disk = b"changed" + image.read_bytes()[7:]

        stream = StandardInput(io.BytesIO(disk))
        taken = create_snapshot_of_stream(region, stream, last["volume_id"])

        assert (taken.parent_id, taken.changed_block_count) == (last["snapshot_id"], 1)
        assert 0 < taken.stored_bytes < 2 * last["block_size"]
        restore_snapshot(region, taken.snapshot_id, str(image), force=True)
        assert image.read_bytes() == disk
        assert found_in(region, tmp_path)[:-1] == EXPECTED
        assert check_store(region, read_data=True).findings == []


def test_its_metadata_can_be_made_anew(home: Path, tmp_path: Path) -> None:
    shutil.rmtree(home / "regions" / REGION / "metadata")
    report = rebuild_store(home, REGION)
    assert (report.snapshot_count, report.lost, report.complaints) == (len(EXPECTED), [], [])
    with opened(home) as region:
        assert found_in(region, tmp_path) == EXPECTED
        assert check_store(region, read_data=True).findings == []


def test_the_script_still_makes_that_store(tmp_path: Path) -> None:
    """All but where the disk was read, which the records do not tell."""
    made = make_store(tmp_path / "made", tmp_path / "disk.img")
    assert made["snapshots"] == EXPECTED
