"""Content-defined chunks: they are those of the whole disk's bytes, and found again if moved."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from pyfastcdc import FastCDC

from ebsim.analysis.analyze_images import AnalysisOptions, analyze_images
from ebsim.analysis.chunk_counting import ChunkedResult, chunk_all, count_chunks
from ebsim.analysis.content_chunks import AVERAGE_SIZES, SpanTask, chunk_span, read_chunk_notes
from ebsim.analysis.document import analysis_document
from ebsim.analysis.executors import Workers
from ebsim.analysis.image_list import ImageList
from ebsim.analysis.images import Image
from ebsim.analysis.part_folder import part_folder
from ebsim.analysis.report_page import report_page
from ebsim.analysis.results import Analysis
from ebsim.errors import SourceUnusable
from ebsim.progress import Unwatched
from ebsim.units import KIB, MIB


def images_in(*paths: Path) -> list[Image]:
    found = ImageList(keep_going=False)
    found.add_files([str(path) for path in paths])
    return found.images


def analyzed(*paths: Path) -> Analysis:
    return analyze_images(images_in(*paths), AnalysisOptions(cdc=True))


def write_disk(path: Path, size_bytes: int, pieces: dict[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for place, data in pieces.items():
            file.seek(place)
            file.write(data)
    return path


def cut_directly(contents: list[bytes], average_size: int) -> tuple[int, int, int, int]:
    """Zero bytes, chunks, different ones and their bytes, of whole disks in memory."""
    chunks: Counter[bytes] = Counter()
    zero_bytes = 0
    for content in contents:
        for chunk in FastCDC(average_size).cut_buf(content):
            data = bytes(chunk.data)
            if data.count(0) == len(data):
                zero_bytes += len(data)
            else:
                chunks[data] += 1
    return zero_bytes, chunks.total(), len(chunks), sum(map(len, chunks))


def figures(result: ChunkedResult) -> tuple[int, int, int, int]:
    return result.zero_bytes, result.chunk_count, result.distinct_count, result.unique_bytes


def layout_of_holes(random: Random) -> tuple[int, dict[int, bytes]]:
    """Data, written zeros and holes, short and longer than any chunk and window."""
    pieces: dict[int, bytes] = {}
    at = random.choice([0, 4 * KIB, 5 * MIB])
    for _ in range(24):
        data = random.randbytes(random.choice([4 * KIB, 60 * KIB, 300 * KIB, 1536 * KIB]))
        pieces[at] = data + bytes(random.choice([0, 0, 4 * KIB, 3 * MIB]))
        hole = random.choice([4 * KIB, 64 * KIB, 700 * KIB, 2 * MIB])
        at += len(pieces[at]) + hole
    at += random.choice([0, 13 * MIB, 30 * MIB + 77])
    pieces[at] = random.randbytes(50 * KIB + random.randrange(4096))
    return at + len(pieces[at]) + random.choice([0, 1, 21 * MIB]), pieces


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_chunks_are_those_of_the_whole_disk_cut_at_once(tmp_path: Path, seed: int) -> None:
    disk = write_disk(tmp_path / "disk.img", *layout_of_holes(Random(seed)))
    chunked = analyzed(disk).chunked
    assert [each.average_size for each in chunked] == list(AVERAGE_SIZES)
    content = disk.read_bytes()
    for result in chunked:
        assert figures(result) == cut_directly([content], result.average_size)


@pytest.mark.slow
def test_holes_count_as_the_zeros_they_read_as(tmp_path: Path) -> None:
    sparse = write_disk(tmp_path / "sparse.img", *layout_of_holes(Random(9)))
    full = tmp_path / "full.img"
    full.write_bytes(sparse.read_bytes())
    with_holes, without = analyzed(sparse), analyzed(full)
    assert with_holes.hole_bytes > without.hole_bytes
    assert with_holes.chunked == without.chunked


@pytest.mark.slow
@pytest.mark.parametrize("span_size", [1 * MIB, 7 * MIB + 5])
def test_spans_have_the_same_chunks_as_the_whole(tmp_path: Path, span_size: int) -> None:
    disk = write_disk(tmp_path / "disk.img", *layout_of_holes(Random(3)))
    images = images_in(disk)
    with part_folder(None, "") as folder, ThreadPoolExecutor(2) as pool:
        workers = Workers(pool, 2)
        left_out = chunk_all(
            images,
            folder,
            workers,
            keep_going=False,
            progress=Unwatched(),
            span_size=span_size,
        )
        chunked = count_chunks(images, folder, span_size=span_size)
    assert left_out == {}
    content = disk.read_bytes()
    for result in chunked:
        assert figures(result) == cut_directly([content], result.average_size)


def test_a_disk_of_one_long_hole_has_no_chunks_and_is_not_read(tmp_path: Path) -> None:
    disk = write_disk(tmp_path / "empty.img", 1 << 42, {})
    path = tmp_path / "chunks"
    path.write_bytes(chunk_span(SpanTask(images_in(disk)[0], (0, 0, 0), 1 << 42)).parquet)
    notes = read_chunk_notes(path)
    assert notes is not None
    assert notes.counts == [0, 0, 0]
    assert notes.zero_bytes == [1 << 42] * 3


@pytest.mark.slow
def test_moved_content_is_found_again_by_its_chunks_and_not_by_fixed_blocks(
    tmp_path: Path,
) -> None:
    data = Random(5).randbytes(24 * MIB)
    one = write_disk(tmp_path / "one.img", len(data), {0: data})
    two = write_disk(tmp_path / "two.img", len(data) + 5, {0: b"moved" + data})
    analysis = analyzed(one, two)
    for result in analysis.chunked:
        fixed = analysis.size_result(result.average_size)
        assert figures(result) == cut_directly([data, b"moved" + data], result.average_size)
        assert fixed.repeated_across_bytes == 0
        assert result.repeated_across_bytes > 18 * MIB
        assert result.repeated_within_bytes == 0
        everything = result.zero_bytes + result.repeated_across_bytes + result.unique_bytes
        assert everything == 2 * len(data) + 5


def test_content_repeated_in_its_image_is_told_from_that_in_another(tmp_path: Path) -> None:
    data = Random(6).randbytes(3 * MIB)
    twice = write_disk(tmp_path / "twice.img", 6 * MIB, {0: data + data})
    once = write_disk(tmp_path / "once.img", 3 * MIB, {0: data})
    smallest = analyzed(twice, once).chunked[0]
    assert 2 * MIB < smallest.repeated_within_bytes < 3 * MIB
    assert 2 * MIB < smallest.repeated_across_bytes <= 3 * MIB
    kept = smallest.unique_bytes + smallest.cost.list_total_bytes
    assert smallest.uncompressed_bytes == kept
    assert 64 * KIB < smallest.mean_size < 128 * KIB


def test_without_being_asked_nothing_is_cut(tmp_path: Path) -> None:
    disk = write_disk(tmp_path / "disk.img", MIB, {0: b"x"})
    analysis = analyze_images(images_in(disk))
    assert analysis.chunked == []
    assert "ContentDefined" not in analysis_document(analysis)
    assert "by content" not in report_page(analysis)


class Watched(Unwatched):
    """Does something when the cutting begins."""

    def __init__(self, then: Callable[[], object]) -> None:
        self._then = then

    def begin(self, what: str, total_bytes: int | None) -> None:
        super().begin(what, total_bytes)
        if what == "cutting by content":
            self._then()


def test_an_image_that_changes_before_it_is_cut_ends_it_or_is_left_out(tmp_path: Path) -> None:
    data = Random(7).randbytes(MIB)
    still = write_disk(tmp_path / "still.img", MIB, {0: data})
    moving = write_disk(tmp_path / "moving.img", MIB, {0: data})
    change = Watched(lambda: moving.write_bytes(data[1:] + b"."))
    with pytest.raises(SourceUnusable, match=r"moving\.img"):
        analyze_images(images_in(still, moving), AnalysisOptions(cdc=True), progress=change)
    options = AnalysisOptions(cdc=True, keep_going=True)
    analysis = analyze_images(images_in(still, moving), options, progress=change)
    assert list(analysis.skipped) == [str(moving)]
    assert analysis.chunked == analyzed(still).chunked


class Asked(ThreadPoolExecutor):
    """Keeps what it was asked to do."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked: list[object] = []

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        self.asked.append(fn)
        return super().submit(fn, *args, **kwargs)


def test_chunks_that_were_kept_are_not_cut_again_unless_damaged(tmp_path: Path) -> None:
    disk = write_disk(tmp_path / "disk.img", MIB, {0: Random(8).randbytes(MIB)})
    parts = tmp_path / "parts"

    def run() -> tuple[Analysis, int]:
        with Asked() as executor:
            options = AnalysisOptions(cdc=True, parts=parts, workers=Workers(executor, 2))
            analysis = analyze_images(images_in(disk), options)
        return analysis, executor.asked.count(chunk_span)

    first, again = run(), run()
    assert (first[1], again[1]) == (1, 0)
    assert first[0].chunked == again[0].chunked
    for part in parts.iterdir():
        part.write_bytes(part.read_bytes()[:-9])
    assert run()[1] == 1
