"""The rows of the analysis at toy size: that they are measured, never how fast."""

from pathlib import Path

import pytest

from benchmarks.analysis import analysis_memory, hash_seconds, hashing
from benchmarks.analysis_table import ANALYSIS
from benchmarks.large_analysis import large_analysis
from ebsim.units import MIB


@pytest.mark.slow
def test_every_row_of_the_analysis_is_measured(tmp_path: Path) -> None:
    figures = [
        hashing(tmp_path, 1, 2, 2, size_bytes=8 * MIB),
        analysis_memory(tmp_path, 1, size_bytes=8 * MIB),
        large_analysis(tmp_path, 1, size_bytes=256 * MIB),
    ]
    assert [figure.key for figure in figures] == [row.key for row in ANALYSIS.rows]
    assert len(figures[0].values) == 2
    assert figures[1].values[0] > 50
    assert list(tmp_path.iterdir()) == []


def test_the_loop_reads_whole_stretches_only(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(5 * MIB))
    assert hash_seconds(tmp_path / "disk.img", 2) > 0
