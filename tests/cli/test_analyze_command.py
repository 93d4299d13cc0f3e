"""``ebsim analyze`` as a command: what it prints, and what it refuses."""

import json
from pathlib import Path
from random import Random

from ebsim.cli.exit_codes import ExitCode
from tests.cli.conftest import Store
from tests.cli.processes import run_ebsim

KIB, MIB = 1 << 10, 1 << 20


def write(path: Path, *contents: bytes) -> str:
    path.write_bytes(b"".join(contents))
    return str(path)


def test_what_was_found_is_printed_as_a_table_and_as_json(tmp_path: Path) -> None:
    data = Random(1).randbytes(MIB)
    one = write(tmp_path / "one.img", data, bytes(MIB))
    two = write(tmp_path / "two.img", data, data)
    table = run_ebsim("analyze", one, two, "--series")
    assert table.returncode == 0, table.stderr
    rows = table.stdout.splitlines()
    assert rows[0].split()[:2] == ["BLOCK", "ZEROS"]
    assert rows[9].split()[:10] == ["1", "MiB", *["1.00", "MiB"] * 4]
    assert "Recommended" in table.stderr
    told = json.loads(run_ebsim("--output", "json", "analyze", one, two, "--series").stdout)
    (found,) = [size for size in told["BlockSizes"] if size["BlockSize"] == MIB]
    assert found["UniqueBlocks"] == 1
    assert found["SharedBlocks"] == [[1, 1], [1, 1]]
    assert [change["DifferingBytes"] for change in told["Changes"]] == [
        MIB - data.count(0),
    ]


def test_chunks_cut_by_content_stand_beside_blocks_of_a_fixed_size(tmp_path: Path) -> None:
    data = Random(4).randbytes(2 * MIB)
    one = write(tmp_path / "one.img", data)
    two = write(tmp_path / "two.img", b"moved", data)
    page = tmp_path / "page.html"
    table = run_ebsim("analyze", "--cdc", one, two, "--html", str(page))
    assert table.returncode == 0, table.stderr
    rows = {tuple(line.split()[:4]): line for line in table.stdout.splitlines()}
    assert ("64", "KiB", "by", "content") in rows
    assert ("1", "MiB", "fixed", "1.00") in rows
    assert "64 KiB by content" in page.read_text()
    told = json.loads(run_ebsim("--output", "json", "analyze", "--cdc", one, two).stdout)
    sizes = [found["AverageSize"] for found in told["ContentDefined"]]
    assert sizes == [64 * KIB, 512 * KIB, MIB]
    smallest = told["ContentDefined"][0]
    assert smallest["UniqueChunks"] < smallest["Chunks"]
    total = smallest["UniqueBytes"] + smallest["RepeatedAcrossBytes"]
    assert total == 4 * MIB + 5


def test_an_image_that_is_missing_ends_it_or_is_left_out(tmp_path: Path) -> None:
    image = write(tmp_path / "disk.img", Random(2).randbytes(64 * KIB))
    gone = str(tmp_path / "gone.img")
    refused = run_ebsim("analyze", image, gone)
    assert refused.returncode == ExitCode.SOURCE_UNUSABLE
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1
    assert gone in refused.stderr
    left_out = run_ebsim("analyze", image, gone, "--keep-going")
    assert left_out.returncode == 0
    assert f"left out {gone}" in left_out.stderr


def test_no_error_of_an_analysis_speaks_of_snapshots(tmp_path: Path) -> None:
    cut_off = write(tmp_path / "disk.qcow2", b"QFI\xfb\0\0\0\3", bytes(20))
    refused = run_ebsim("analyze", cut_off)
    assert refused.returncode == ExitCode.SOURCE_UNUSABLE
    assert cut_off in refused.stderr
    assert "snapshot" not in refused.stderr


def test_a_folder_is_its_files_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for day in (10, 9, 1):
        write(tmp_path / f"day-{day}.img", Random(day).randbytes(8 * KIB))
    told = json.loads(run_ebsim("--output", "json", "analyze", str(tmp_path)).stdout)
    assert [Path(image["Name"]).name for image in told["Images"]] == [
        "day-1.img",
        "day-9.img",
        "day-10.img",
    ]


def test_a_store_and_a_volume_of_it_are_analysed(store: Store) -> None:
    whole = json.loads(run_ebsim("--output", "json", "analyze", "--store", home=store.home).stdout)
    assert [image["Name"] for image in whole["Images"]] == [store.snapshot_id]
    volume = run_ebsim("--output", "json", "analyze", store.volume_id[:12], home=store.home)
    assert json.loads(volume.stdout) == whole


def test_nothing_to_analyse_is_refused(store: Store) -> None:
    assert run_ebsim("analyze").returncode == ExitCode.USAGE
    unknown = run_ebsim("analyze", "snap-00000000000000000", home=store.home)
    assert unknown.returncode == ExitCode.NOT_FOUND
    twice = run_ebsim("analyze", str(store.image), str(store.image))
    assert twice.returncode == ExitCode.INVALID_REQUEST
