"""Making and removing regions."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.home import region_names
from ebsim.engine.region import open_region
from ebsim.engine.regions import create_region, remove_region
from ebsim.errors import Conflict, InvalidRequest, NotFound
from tests.engine.stores import (
    ACCOUNT,
    BLOCK,
    OTHER_ACCOUNT,
    block_bytes,
    take,
    write_disk,
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    create_region(tmp_path / "home", "one", ACCOUNT)
    return tmp_path / "home"


def test_a_region_with_a_snapshot_of_anybody_is_not_removed(home, tmp_path):
    disk = write_disk(tmp_path / "disk.img", 3 * BLOCK, {1: block_bytes(1)})
    with closing(open_region(home, "one", OTHER_ACCOUNT)) as region:
        taken = take(region, disk)
        with pytest.raises(Conflict, match="has snapshots"):
            remove_region(home, "one", ACCOUNT)
        delete_snapshots(region, [taken])
    remove_region(home, "one", ACCOUNT)
    assert region_names(home) == []


def test_a_region_with_a_volume_is_not_removed(home):
    with closing(open_region(home, "one", ACCOUNT)) as region:
        create_volume(region, VolumeOptions(size_gib=1))
    with pytest.raises(Conflict, match="has volumes"):
        remove_region(home, "one", ACCOUNT)


def test_a_region_at_work_is_not_removed(home):
    with (
        closing(open_region(home, "one", ACCOUNT)) as region,
        region.session(),
        pytest.raises(Conflict, match="at work"),
    ):
        remove_region(home, "one", ACCOUNT)
    remove_region(home, "one", ACCOUNT)


def test_who_has_a_removed_region_open_is_told(home):
    with closing(open_region(home, "one", ACCOUNT)) as region:
        remove_region(home, "one", ACCOUNT)
        with pytest.raises(NotFound, match="was removed"):
            region.open_session()


def test_what_a_crash_left_of_a_removed_region_is_no_region_and_goes(home):
    shutil.copytree(home / "regions" / "one", home / "regions" / ".removed-two")
    assert region_names(home) == ["one"]
    create_region(home, "two", ACCOUNT)
    assert sorted(path.name for path in (home / "regions").iterdir()) == ["one", "two"]


@pytest.mark.parametrize("name", ["", "Upper", "..", "a/b"])
def test_a_name_that_is_none_is_refused(name, home):
    for verb in (create_region, remove_region):
        with pytest.raises(InvalidRequest):
            verb(home, name, ACCOUNT)


def test_a_region_that_is_not_there_is_not_removed(home):
    with pytest.raises(NotFound):
        remove_region(home, "two", ACCOUNT)
