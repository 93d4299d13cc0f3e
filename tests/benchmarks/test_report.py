"""The report of all benchmarks at toy size: that it is made, whole and comparable."""

import re
from dataclasses import replace
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest

from benchmarks.compare import Verdict, compared, comparison_markdown
from benchmarks.growth import fitted
from benchmarks.measurement import UNCLEAR, Better, Measurement, Report, read_report, write_report
from benchmarks.petabyte import arithmetic
from benchmarks.report_html import benchmark_page
from benchmarks.results import Figure
from benchmarks.run import made_images, main
from benchmarks.suites import all_suites, as_measurement
from benchmarks.workloads import WORKLOADS, Workload
from ebsim.units import KIB, MIB

SIZE = 2 * MIB


def report(*measurements: Measurement) -> Report:
    return Report({"processor": "one"}, "abc", 1, 3, "toy", measurements)


def measured(values: list[float], better: Better = Better.LESS) -> Measurement:
    return Measurement("a/b", "what", "ms", values, better)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda each: each.name)
def test_a_workload_is_the_same_each_time_and_changes_a_part(
    workload: Workload, tmp_path: Path
) -> None:
    contents = []
    for name in ("one", "two"):
        workload.make(tmp_path / name, SIZE, Random(1))
        before = (tmp_path / name).read_bytes()
        workload.change(tmp_path / name, SIZE, Random(2))
        contents.append((before, (tmp_path / name).read_bytes()))
    assert contents[0] == contents[1]
    before, after = contents[0]
    assert len(before) == len(after) == SIZE
    differing = sum(
        before[at : at + 4 * KIB] != after[at : at + 4 * KIB] for at in range(0, SIZE, 4 * KIB)
    )
    assert 0 < differing < SIZE // (4 * KIB) // 4


def test_generated_images_stand_in_for_the_real_ones(tmp_path: Path) -> None:
    images = made_images(tmp_path, SIZE, 3)
    assert images.root_before.read_bytes() != images.root_after.read_bytes()
    assert images.data_before.stat().st_size == SIZE
    assert images.disk.stat().st_size >= 2 * SIZE


def test_every_table_is_found_with_all_its_rows() -> None:
    suites = {suite.table.name: suite for suite in all_suites()}
    assert {"engine", "volumes"} <= suites.keys()
    for suite in suites.values():
        assert suite.small.keys() == suite.groups.keys()
        row = suite.table.rows[0]
        found = as_measurement(suite.table, Figure(row.key, [1.0, 2.0], True, "1.5 of it"))
        assert (found.key, found.text) == (f"{suite.table.name}/{row.key}", "1.5 of it")


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([1.0, 2.0, 4.0, 8.0], "linear"),
        ([3.0, 3.1, 2.9, 3.0], "constant"),
        ([1.0, 4.0, 16.0, 64.0], "power 2.00"),
        ([1.0, 9.0, 1.0, 9.0], UNCLEAR),
    ],
)
def test_growth_is_told_from_the_power_that_fits(values: list[float], verdict: str) -> None:
    assert fitted("key", "what", "bytes", [10, 20, 40, 80], values).verdict == verdict


def test_two_points_are_too_few_to_tell_growth() -> None:
    assert fitted("key", "what", "bytes", [1, 2], [1, 2]).verdict == UNCLEAR


@pytest.mark.parametrize(
    ("before", "after", "better", "verdict"),
    [
        ([10, 11, 12], [13, 14, 15], Better.LESS, Verdict.WORSE),
        ([10, 11, 12], [7, 8, 9], Better.LESS, Verdict.BETTER),
        ([10, 11, 12], [7, 8, 9], Better.MORE, Verdict.WORSE),
        ([10, 11, 12], [12, 14, 15], Better.LESS, Verdict.SAME),
        ([10, 11, 12], [13, 14, 15], Better.NEITHER, Verdict.CHANGED),
        ([10], [10.9], Better.LESS, Verdict.SAME),
        ([10], [11.1], Better.LESS, Verdict.WORSE),
    ],
)
def test_a_figure_changed_where_its_runs_do_not_overlap(
    before: list[float], after: list[float], better: Better, verdict: Verdict
) -> None:
    pair = (report(measured(before, better)), report(measured(after, better)))
    assert [each.verdict for each in compared(*pair)] == [verdict]


def test_a_comparison_names_what_differs_beside_the_figures() -> None:
    one = report(measured([10, 11]))
    other = replace(report(measured([20, 21])), machine={"processor": "two"}, commit="def")
    text = comparison_markdown(one, other)
    assert "The machine differs" in text
    assert "| a/b | worse | 10.5 | 20.5 | +95% | ms |" in text


def test_a_petabyte_is_arithmetic_on_what_was_measured() -> None:
    blocks = Measurement("unique block/metadata", "metadata", "bytes", [130.0])
    memory = fitted("disk/memory", "peak memory, MiB", "bytes", [1e6, 2e6, 4e6], [50, 50, 50])
    found = replace(report(blocks), fits=[memory])
    lines = {line.what: line for line in arithmetic(found)}
    assert lines["index of 512 KiB blocks"].figure == "231 GiB"
    assert lines["memory to take its snapshot"].figure == "50.0 MiB"


@pytest.mark.slow
def test_one_command_writes_a_page_and_a_report_of_everything(tmp_path: Path) -> None:
    mine = tmp_path / "mine.img"
    mine.write_bytes(Random(1).randbytes(MIB))
    main(
        [
            "--scale", "toy", "--runs", "1", "--tables", "", "--dir", str(tmp_path / "disks"),
            "--image", str(mine), "--out", str(tmp_path / "report"),
        ]
    )  # fmt: skip
    assert list((tmp_path / "disks").iterdir()) == []
    found = read_report(tmp_path / "report.json")
    assert found.not_measured == {}
    keys = {each.key for each in found.measurements}
    assert {"workload sparse/restore", "workload image mine.img/first", "peak/memory"} <= keys
    assert {fit.key.partition("/")[0] for fit in found.fits} == {"disk", "snapshots", "threads"}
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page == benchmark_page(found)
    assert re.findall(r"(?:src|href)=|url\(|@import|<script", page) == []
    for chart in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(chart)
    write_report(tmp_path / "again.json", found)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "report.json").read_bytes()
