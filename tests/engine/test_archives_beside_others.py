"""Archived snapshots while others use, delete or wait for them."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ebsim.clock import ManualClock
from ebsim.engine.archive_snapshot import archive_snapshot
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.direct.block_access import BlockAccess
from ebsim.engine.direct.refusals import SnapshotUnusable
from ebsim.engine.direct.start_direct_snapshot import DIRECT_BLOCK_SIZE
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.unarchive_snapshot import unarchive_snapshot
from ebsim.errors import SnapshotNotFound
from ebsim.ids import SnapshotId
from tests.engine.interruptions import Interference
from tests.engine.stores import SMALL, block_bytes, take, write_disk

DAY_SECONDS = 24 * 3600


@pytest.fixture
def archived(region: Region, tmp_path: Path) -> str:
    """An archived snapshot that the direct APIs can read."""
    disk = write_disk(tmp_path / "large.img", 1 << 20, {1: block_bytes(1)})
    taken = take(region, disk, replace(SMALL, block_size=DIRECT_BLOCK_SIZE))
    archive_snapshot(region, taken)
    return taken


def test_the_direct_apis_refuse_a_snapshot_whose_temporary_restore_is_over(
    region: Region, archived: str, clock: ManualClock
) -> None:
    """Also before somebody has cleared it up."""
    unarchive_snapshot(region, archived, days=1)
    clock.advance(DAY_SECONDS)
    with closing(BlockAccess(region)) as access, pytest.raises(SnapshotUnusable, match="Archived"):
        access.readable(region, SnapshotId(archived))
    recover(region)


def test_a_snapshot_that_is_deleted_while_it_is_restored_is_gone_and_not_damaged(
    region: Region, archived: str
) -> None:
    def delete() -> None:
        delete_snapshots(region, [archived])

    with pytest.raises(SnapshotNotFound):
        unarchive_snapshot(region, archived, None, Interference(0, delete))
    assert list((region.path / "archive").iterdir()) == []
