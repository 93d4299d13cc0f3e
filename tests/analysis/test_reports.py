"""The page, the JSON document and the Parquet file of an analysis."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import polars as pl
import pytest

from ebsim.analysis.analyze_images import AnalysisOptions, analyze_images
from ebsim.analysis.block_digests import BLOCK_SIZES
from ebsim.analysis.document import analysis_document
from ebsim.analysis.fingerprint_file import FINGERPRINTS_KEY, write_fingerprints
from ebsim.analysis.image_list import ImageList
from ebsim.analysis.images import Image
from ebsim.analysis.report_page import report_page
from ebsim.analysis.results import Analysis
from ebsim.analysis.svg import spread_labels, ticks
from ebsim.units import KIB, MIB

NAMES = ["day & 1.img", "day <2>.img", "day-3.img"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Analysis, Path]:
    """A series of three images, analysed; and its Parquet file."""
    folder = tmp_path_factory.mktemp("series")
    content = bytearray(Random(3).randbytes(2 * MIB) + bytes(MIB) + b"end")
    for name in NAMES:
        (folder / name).write_bytes(content)
        content[100] ^= 1
        content[5000:5002] = b"xy"
    found = ImageList(keep_going=False)
    found.add_files([str(folder / name) for name in NAMES], is_series=True)
    target = folder / "fingerprints.parquet"

    def export(images: Sequence[Image], parts: Sequence[Sequence[Path]]) -> None:
        write_fingerprints(target, images, parts)

    return analyze_images(found.images, AnalysisOptions(levels=(1, 3)), then=export), target


def test_a_page_is_whole_by_itself_and_well_formed(exported: tuple[Analysis, Path]) -> None:
    page = report_page(exported[0])
    assert re.findall(r"(?:src|href)=|url\(|@import|<script", page) == []
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(charts) == 6
    for chart in charts:
        root = ElementTree.fromstring(chart)
        assert root.attrib["aria-label"]
        places = [float(each.attrib["y"]) for each in root.iter() if "y" in each.attrib]
        height = float(root.attrib["viewBox"].split()[3])
        assert all(0 <= place <= height for place in places)
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_a_disk_of_nothing_but_zeros_has_a_page_too(tmp_path: Path) -> None:
    with (tmp_path / "empty.img").open("wb") as file:
        file.truncate(MIB)
    found = ImageList(keep_going=False)
    found.add_files([str(tmp_path / "empty.img")])
    analysis = analyze_images(found.images)
    assert analysis.hole_bytes == MIB
    assert {result.unique_bytes for result in analysis.sizes} == {0}
    assert "nothing but zeros" in report_page(analysis)


def test_names_cannot_bring_markup_into_a_page(exported: tuple[Analysis, Path]) -> None:
    page = report_page(exported[0])
    assert "day <2>" not in page
    assert "day &lt;2&gt;" in page


def test_a_document_says_what_changed_between_neighbours(
    exported: tuple[Analysis, Path],
) -> None:
    told = json.loads(json.dumps(analysis_document(exported[0])))
    first, second = told["Changes"]
    assert (first["DifferingBytes"], second["DifferingBytes"]) == (3, 1)
    assert first["ChangedBlocks"][0] == {"BlockSize": 4 * KIB, "Blocks": 2}
    assert second["ChangedBlocks"][-1] == {"BlockSize": 4 * MIB, "Blocks": 1}


def test_the_exchange_file_has_every_block_that_is_not_zeros(
    exported: tuple[Analysis, Path],
) -> None:
    analysis, target = exported
    rows = pl.read_parquet(target)
    assert rows.columns == [
        "image", "block_size", "block_index", "size", "digest_high", "digest_low",
    ]  # fmt: skip
    for result in analysis.sizes:
        own = rows.filter(pl.col("block_size") == result.block_size)
        assert own.height == result.sharing.block_count
        digests = own.select("digest_high", "digest_low").unique()
        assert digests.height == result.sharing.distinct_count
        last = own.filter(pl.col("block_index") == pl.col("block_index").max())
        assert set(last["size"]) == {(3 * MIB + 3) % result.block_size or result.block_size}
    notes = json.loads(pl.read_parquet_metadata(target)[FINGERPRINTS_KEY])
    assert [Path(image["name"]).name for image in notes["images"]] == NAMES
    assert set(rows["block_size"].unique()) == set(BLOCK_SIZES)


def test_a_file_that_cannot_be_written_whole_is_not_there(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"x" * 9000)
    found = ImageList(keep_going=False)
    found.add_files([str(image)])
    target = tmp_path / "out.parquet"
    target.write_bytes(b"before")

    def export(images: Sequence[Image], parts: Sequence[Sequence[Path]]) -> None:
        parts[0][0].write_bytes(b"damaged since")
        write_fingerprints(target, images, parts)

    with pytest.raises(pl.exceptions.PolarsError):
        analyze_images(found.images, then=export)
    assert target.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk.img", "out.parquet"]


def test_an_axis_has_round_numbers_that_reach_over_the_greatest() -> None:
    assert ticks(7.3) == [0, 2, 4, 6, 8]
    assert ticks(100) == [0, 20, 40, 60, 80, 100]
    assert ticks(0) == [0, 1]


def test_labels_are_moved_apart_and_stay_above_the_floor() -> None:
    moved = spread_labels([299, 298, 10], 15, 300)
    assert moved[2] == 10
    assert moved[0] <= 300
    assert moved[0] - moved[1] >= 15
