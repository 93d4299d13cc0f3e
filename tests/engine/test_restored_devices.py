"""Restoring to block devices: exact bytes, whatever the device's sectors are."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from ebsim.engine.region import Region
from ebsim.engine.restore_snapshot import restore_snapshot
from tests.engine.stores import BLOCK, KIB, block_bytes, take, write_disk
from tests.sources.conftest import loop_device
from tests.tools import require_root

pytestmark = pytest.mark.xdist_group("loop_devices")

DISK_BLOCKS = 300


@pytest.mark.parametrize("last_sectors", [0, 1, 7])
@pytest.mark.parametrize("sector_size", [512, 4 * KIB])
def test_a_disk_that_ends_within_a_sector_is_restored_to_a_device(
    sector_size: int, last_sectors: int, region: Region, tmp_path: Path
) -> None:
    """Of the device's old bytes none is left where the disk has zeros, nor one lost behind it."""
    require_root()
    size = DISK_BLOCKS * BLOCK + last_sectors * 512
    disk = write_disk(tmp_path / "disk.img", size, {0: block_bytes(1), 5: block_bytes(2)})
    taken = take(region, disk)
    backing = tmp_path / "backing"
    backing.write_bytes(b"x" * (DISK_BLOCKS + 10) * BLOCK)
    with ExitStack() as stack:
        device = loop_device(stack, backing, "--sector-size", str(sector_size))
        restore_snapshot(region, taken, str(device), force=True, verify=True)
    found = backing.read_bytes()
    assert found[:size] == disk.read_bytes()
    assert set(found[size:]) == {ord("x")}
