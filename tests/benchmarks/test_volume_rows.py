"""The volumes' benchmark at toy size: that every row is measured, of the right thing."""

from pathlib import Path

import pytest

from benchmarks.nbd_load import Load
from benchmarks.nbd_servers import qemu_nbd, streaming_overlay
from benchmarks.results import Figure
from benchmarks.volume_rows import (
    cold_reads,
    first_byte,
    hydration,
    pauses,
    serving_memory,
    transfers,
)
from benchmarks.volume_table import ROWS
from ebsim.units import GIB, MIB
from tests.benchmarks.toy_images import write_image
from tests.tools import lacking, require_tool, run

SEED = 5
SECONDS = 0.1

together = pytest.mark.xdist_group("toy_volume_benchmarks")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("volumes") / "disk.img"
    write_image(path, SEED, tail_bytes=MIB)
    return path


@pytest.fixture(scope="module")
def figures(image: Path) -> dict[str, Figure]:
    """All rows, measured at toy size."""
    if "nbd" not in run(require_tool("fio", package="fio"), "--enghelp").split():
        lacking("fio was built without its nbd engine")
    for tool, package in (
        ("nbdkit", "nbdkit"),
        ("nbdcopy", "libnbd-bin"),
        ("qemu-nbd", "qemu-utils"),
        ("qemu-storage-daemon", "qemu-system-common"),
    ):
        require_tool(tool, package=package)
    folder = image.parent
    measured = [
        *first_byte(folder, SEED, 2, huge=2 * GIB),
        *transfers(image, folder, 1, SECONDS),
        cold_reads(image, folder, SEED, 1),
        *hydration(image, folder, 1),
        pauses("pause", folder, volume_count=1, snapshot_count=2),
        pauses("pause_set", folder, volume_count=2, snapshot_count=2),
        serving_memory(folder, SEED, SECONDS, huge=2 * GIB),
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["disk.img"], "nothing is left"
    return {figure.key: figure for figure in measured}


@together
@pytest.mark.slow
def test_every_row_of_the_table_is_measured(figures: dict[str, Figure]) -> None:
    assert figures.keys() == {row.key for row in ROWS}
    assert all(min(figure.values) > 0 for figure in figures.values())


@together
@pytest.mark.slow
def test_a_row_names_both_that_it_compares(figures: dict[str, Figure]) -> None:
    assert figures["hydration"].detail.keys() == {
        "initialize, seconds", "restore, seconds", "block-stream, seconds",
    }  # fmt: skip
    assert figures["random_read"].detail.keys() == {"ebsim, requests/s", "other, requests/s"}
    assert figures["pause_set"].detail["snapshots"] == 2


@pytest.mark.slow
def test_what_qemu_streams_is_the_disk(image: Path, tmp_path: Path) -> None:
    """The overlay needs its base no more."""
    require_tool("qemu-storage-daemon", package="qemu-system-common")
    packed, overlay = tmp_path / "packed", tmp_path / "overlay"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", image, packed)
    with streaming_overlay(packed, overlay) as streamer:
        streamer.stream()
    packed.unlink()
    run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", overlay, image)


@pytest.mark.slow
def test_a_load_of_writes_writes(image: Path, tmp_path: Path) -> None:
    require_tool("fio", package="fio")
    require_tool("qemu-nbd", package="qemu-utils")
    copy = tmp_path / "copy.img"
    copy.write_bytes(image.read_bytes())
    with qemu_nbd(copy) as server:
        speed = Load("randwrite", 4096, flush_every=8).requests_per_second(
            server, copy.stat().st_size, SECONDS
        )
    assert speed > 0
    assert copy.read_bytes() != image.read_bytes()
