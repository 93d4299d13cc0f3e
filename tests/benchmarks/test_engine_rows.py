"""Every row of the engine's table at toy size: that it is measured, never how fast."""

from pathlib import Path

import pytest

from benchmarks.copy_rows import copied_snapshot
from benchmarks.engine_table import ROWS
from benchmarks.full_volume import full_volume_figures
from benchmarks.many_snapshots import growth_figures
from benchmarks.memory_rows import peak_memory, write_scattered
from benchmarks.results import Figure
from benchmarks.speed_rows import first_snapshot, restore, start_up, unchanged_snapshot
from ebsim.units import GIB, KIB, MIB
from tests.benchmarks.toy_images import write_image

SEED = 5
RUNS = 2
THREADS = 2

# The figures are made once, by whichever worker has these tests.
together = pytest.mark.xdist_group("toy_benchmarks")


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figure]:
    """All rows, measured at toy size."""
    folder = tmp_path_factory.mktemp("benchmarks")
    image = folder / "disk.img"
    write_image(image, SEED)
    volume = full_volume_figures(folder, SEED, block_count=4096, leaf_count=10, block_size=4 * KIB)
    measured = [
        start_up("version", "--version", RUNS),
        start_up("help", "--help", RUNS),
        # Twice the same function, for two images.
        first_snapshot("first", image, folder, RUNS, THREADS),
        first_snapshot("first_data", image, folder, RUNS, THREADS),
        *unchanged_snapshot(image, folder, RUNS, THREADS),
        # Compares the restored file with the image, and so fails if it differs.
        restore(image, folder, RUNS, THREADS),
        copied_snapshot(image, folder, RUNS, THREADS),
        peak_memory(folder, SEED, size_bytes=GIB, block_count=20),
        *volume,
        *growth_figures(folder, SEED, few=3, many=12, rounds=RUNS),
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["disk.img"], "nothing is left"
    return {figure.key: figure for figure in measured}


@together
@pytest.mark.slow
def test_every_row_of_the_table_is_measured(figures: dict[str, Figure]) -> None:
    assert figures.keys() == {row.key for row in ROWS}


@together
@pytest.mark.slow
def test_a_ratio_has_a_value_for_each_run(figures: dict[str, Figure]) -> None:
    keys = ["first", "unchanged", "unchanged_verb", "restore", "create_growth"]
    assert [len(figures[key].values) for key in keys] == [RUNS] * len(keys)


@together
@pytest.mark.slow
def test_the_limit_compresses_the_blocks_that_are_neither_zeros_nor_repeated(
    figures: dict[str, Figure],
) -> None:
    assert figures["first"].detail["compressed_bytes"] == 3 * 512 * KIB


@together
@pytest.mark.slow
def test_the_memory_of_every_command_is_measured(figures: dict[str, Figure]) -> None:
    detail = figures["memory"].detail
    peaks = {name.removesuffix(": MiB"): peak for name, peak in detail.items() if "MiB" in name}
    assert {name.replace(",", " ").split()[0] for name in peaks} == {
        "create", "ls", "show", "diff", "tag", "untag", "volume", "copy", "archive", "unarchive",
        "verify", "restore", "rm",
        "store",
    }  # fmt: skip
    assert all(isinstance(peak, str) or peak > 8 for peak in peaks.values())


@together
@pytest.mark.slow
def test_the_nodes_of_a_full_volume_are_those_that_arithmetic_expects(
    figures: dict[str, Figure],
) -> None:
    """4096 blocks are 32 leaves below one inner node: two levels."""
    assert figures["index"].detail["chunks"] == 4096 + 32 + 1
    paths = figures["one_changed_paths"].detail
    assert (paths["levels"], paths["inner nodes walked by the scan"]) == (2, 1)
    assert figures["diff"].detail["nodes_read"] == 4


@together
@pytest.mark.slow
def test_a_deletion_frees_what_arithmetic_expects(figures: dict[str, Figure]) -> None:
    """First ten blocks, their leaves and a root; then the volume, and one changed path."""
    detail = figures["remove"].detail
    assert detail["some: chunks_freed"] == 10 + 10 + 1
    assert detail["everything: chunks_freed"] == (4096 + 32 + 1) + 3


def test_a_scattered_image_has_a_page_in_each_of_its_blocks(tmp_path: Path) -> None:
    places = write_scattered(tmp_path / "sparse.img", 16 * MIB, 20, SEED)
    content = (tmp_path / "sparse.img").read_bytes()
    blocks = [content[at : at + 512 * KIB] for at in range(0, len(content), 512 * KIB)]
    assert [index for index, block in enumerate(blocks) if any(block)] == places
    assert len(places) == 20
    assert (tmp_path / "sparse.img").stat().st_blocks * 512 < MIB
