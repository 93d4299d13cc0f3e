"""Every row of the service's table at toy size: that it is measured, never how fast."""

import shutil
from pathlib import Path

import pytest

from benchmarks.describe_rows import describe_figures
from benchmarks.listing_rows import listing_figures
from benchmarks.mapped_snapshots import mapped_snapshot
from benchmarks.service_table import ROWS
from benchmarks.transfer_rows import transfer_figures
from ebsim.clock import ManualClock
from ebsim.engine.region import Region
from tests.engine.conftest import clock, region
from tests.engine.direct_snapshots import Plane, access_to

__all__ = ["clock", "region"]

RUNS = 2


@pytest.mark.slow
def test_every_row_of_the_table_is_measured(tmp_path: Path) -> None:
    measured = [
        *transfer_figures(tmp_path, 5, 1, block_count=12),
        *describe_figures(tmp_path, RUNS, snapshot_count=200, page_size=30, filtered_count=20),
        *listing_figures(tmp_path, RUNS, block_count=4096, leaf_counts=(20, 4), page_size=500),
    ]
    expected = {row.key for row in ROWS}
    if shutil.which("moto_server") is None:
        expected -= {"put_moto", "get_moto"}
    assert {figure.key for figure in measured} == expected
    assert list(tmp_path.iterdir()) == [], "nothing is left"


@pytest.mark.slow
def test_a_snapshot_without_its_bytes_is_one_as_any_other(
    region: Region, clock: ManualClock
) -> None:
    del clock
    first = mapped_snapshot(region, None, range(0, 700, 3), 234)
    second = mapped_snapshot(region, first, [3, 4], 235)
    with access_to(region) as access:
        plane = Plane(region, access)
        (changes,) = plane.changes(first.snapshot_id, second.snapshot_id)
    assert [change.block_index for change in changes] == [3, 4]
    assert second.block_count == 235
