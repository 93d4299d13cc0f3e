"""A store of the test's own, which must be in good health when the test is over."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from ebsim.clock import ManualClock
from ebsim.engine.region import Region
from tests.engine.live_disks import Disk
from tests.engine.store_audit import complaints_about
from tests.engine.stores import open_store


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def region(tmp_path: Path, clock: ManualClock) -> Iterator[Region]:
    """An empty store; audited when the test is over."""
    region = open_store(tmp_path / "home", clock=clock, random=Random(0))
    yield region
    assert complaints_about(region) == []
    region.close()


@pytest.fixture
def disk(region: Region, tmp_path: Path) -> Disk:
    """A volume of the store, which tests write to while it is snapshotted."""
    return Disk(region, tmp_path)
