import pytest

from benchmarks.fan_out import FAN_OUTS, full_map, main, measure
from ebsim.blockmap.geometry import GEOMETRY
from tests.blockmap.map_models import changed_map, empty_map


@pytest.mark.parametrize("fan_out", FAN_OUTS)
def test_the_benchmark_counts_the_nodes_that_arithmetic_expects(fan_out: int) -> None:
    """A map of two full inner nodes: two paths from the root to a leaf are all that differs."""
    block_count = 2 * fan_out**2
    figures = measure(fan_out, block_count, scattered_count=3, rounds=1)
    header = 4 + fan_out // 8
    leaf, inner = header + 40 * fan_out, header + 32 * fan_out
    root = header + 2 * 32
    assert figures.full_node_count == 2 * fan_out + 2 + 1
    assert figures.full_bytes == 2 * fan_out * leaf + 2 * inner + root
    assert figures.one.node_count == 3
    assert figures.one.node_bytes == leaf + inner + root
    assert figures.one.diff_load_count == 6


def test_the_map_measured_is_the_map_that_updates_make() -> None:
    """The benchmark builds its leaves by a short cut; a change undone leads back to it."""
    block_map = full_map(4 * 128, GEOMETRY)
    blocks = list(block_map.blocks())
    assert [block.block_index for block in blocks] == list(range(512))
    rebuilt = changed_map(empty_map(), {index: (name, at) for index, name, at in blocks})
    assert rebuilt.root == block_map.root


def test_the_benchmark_prints_a_column_for_each_fan_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["--blocks", "512", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| fan-out | 64 | 128 | 256 |"
    assert all(line.count("|") == 5 for line in lines if line.startswith("|"))
