"""Scanning: pieces, parts that are used again, images that change or cannot be read."""

import os
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.analysis.analyze_images import AnalysisOptions, analyze_images
from ebsim.analysis.block_digests import BLOCK_SIZES
from ebsim.analysis.document import analysis_document
from ebsim.analysis.executors import Workers, workers_at
from ebsim.analysis.image_list import ImageList
from ebsim.analysis.images import Image
from ebsim.analysis.piece_scan import plain_class, scan_piece
from ebsim.analysis.results import Analysis
from ebsim.analysis.scanning import piece_size
from ebsim.errors import (
    ChunkMissing,
    EbsimError,
    IntegrityError,
    InvalidRequest,
    MissingTool,
    SourceUnusable,
    StorageUnavailable,
)
from ebsim.units import KIB, MIB


class Recorded(Executor):
    """Does everything at once, keeps what was asked, and may do something else first."""

    def __init__(self, before: Any = None) -> None:
        self.asked: list[Any] = []
        self._before = before

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self._before is not None:
            self._before(len(self.asked))
        self.asked.append((fn, *args))
        future.set_result(fn(*args, **kwargs))
        return future

    @property
    def scanned_count(self) -> int:
        return sum(fn is scan_piece for fn, *_ in self.asked)


def write_sparse(path: Path, seed: int, places: list[int], size_bytes: int) -> Path:
    """A file with 64 KiB of data at each of *places*, and holes."""
    random = Random(seed)
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for place in places:
            file.seek(place)
            file.write(random.randbytes(64 * KIB))
    return path


@pytest.fixture
def images(tmp_path: Path) -> list[Image]:
    """Two disks of three and two pieces, with 256 KiB in common."""
    common = [0, 127 * MIB, 128 * MIB, 255 * MIB + 960 * KIB]
    one = write_sparse(tmp_path / "one.img", 1, [*common, 260 * MIB], 300 * MIB)
    two = write_sparse(tmp_path / "two.img", 1, common, 256 * MIB)
    found = ImageList(keep_going=False)
    found.add_files([str(one), str(two)], is_series=True)
    return found.images


def analyzed(images: list[Image], executor: Executor, **options: Any) -> Analysis:
    chosen = AnalysisOptions(levels=(1,), workers=Workers(executor, 2), **options)
    return analyze_images(images, chosen)


def test_pieces_and_holes_are_added_up(images: list[Image]) -> None:
    executor = Recorded()
    analysis = analyzed(images, executor)
    assert executor.scanned_count == 3 + 2
    assert analysis.hole_bytes == 556 * MIB - 9 * 64 * KIB
    smallest = analysis.sizes[0]
    assert smallest.sharing.shared_counts.tolist() == [[80, 64], [64, 64]]
    assert smallest.sharing.added_counts.tolist() == [80, 0]
    assert smallest.sharing.alone_counts.tolist() == [16, 0]
    assert analysis.changes[0].differing_bytes == pytest.approx(64 * KIB, rel=0.01)


def test_an_interrupted_analysis_goes_on_from_the_parts_it_has(
    images: list[Image], tmp_path: Path
) -> None:
    expected = analyzed(images, Recorded())

    def fail_at_the_third(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyzed(images, Recorded(fail_at_the_third), parts=tmp_path / "parts")
    second = Recorded()
    analysis = analyzed(images, second, parts=tmp_path / "parts")
    assert 0 < second.scanned_count < 5
    assert analysis_document(analysis) == analysis_document(expected)
    third = Recorded()
    analyzed(images, third, parts=tmp_path / "parts")
    assert third.scanned_count == 0


def test_a_part_is_not_used_for_an_image_that_changed_since(
    images: list[Image], tmp_path: Path
) -> None:
    analyzed(images, Recorded(), parts=tmp_path / "parts")
    write_sparse(Path(images[1].name), 9, [0], 256 * MIB)
    found = ImageList(keep_going=False)
    found.add_files([image.name for image in images], is_series=True)
    executor = Recorded()
    analysis = analyzed(found.images, executor, parts=tmp_path / "parts")
    assert executor.scanned_count == 2
    assert analysis.sizes[0].sharing.shared_counts.tolist() == [[80, 0], [0, 16]]


def test_a_damaged_part_is_made_again(images: list[Image], tmp_path: Path) -> None:
    analyzed(images, Recorded(), parts=tmp_path / "parts")
    victim = next(iter(sorted((tmp_path / "parts").iterdir())))
    victim.write_bytes(victim.read_bytes()[:-10])
    executor = Recorded()
    analyzed(images, executor, parts=tmp_path / "parts")
    assert executor.scanned_count == 1


def test_an_image_that_changes_meanwhile_is_named_or_left_out(images: list[Image]) -> None:
    def change(done: int) -> None:
        if done == 4:
            os.utime(images[1].name)

    with pytest.raises(SourceUnusable, match=r"two\.img changed while it was analysed"):
        analyzed(images, Recorded(change))
    os.utime(images[1].name)
    found = ImageList(keep_going=True)
    found.add_files([image.name for image in images])
    analysis = analyzed(found.images, Recorded(change), keep_going=True)
    assert [Path(image.name).name for image in analysis.images] == ["one.img"]
    assert "changed" in analysis.skipped[images[1].name]


def test_an_image_that_shrinks_is_never_read_as_zeros(images: list[Image]) -> None:
    def shorten(done: int) -> None:
        if done == 3:
            os.truncate(images[1].name, MIB)

    with pytest.raises(SourceUnusable, match=r"two\.img"):
        analyzed(images, Recorded(shorten))


def test_nothing_is_left_of_an_analysis_that_fails(
    images: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    Path(images[0].name).unlink()
    with pytest.raises(SourceUnusable, match=r"went away|does not exist"):
        analyzed(images, Recorded())
    assert list(scratch.iterdir()) == []


def test_threads_find_what_one_thread_finds(images: list[Image]) -> None:
    expected = analysis_document(analyzed(images, Recorded()))
    with ThreadPoolExecutor(4) as pool:
        assert analysis_document(analyzed(images, pool)) == expected


def test_pieces_grow_with_the_disks_and_are_whole_stretches(images: list[Image]) -> None:
    large = Image("large", 1 << 40, images[0].place)
    assert (piece_size(images), piece_size([large])) == (128 * MIB, 512 * MIB)
    assert all(piece_size([large]) % size == 0 for size in BLOCK_SIZES)


def test_an_error_of_another_process_keeps_its_kind_and_its_text() -> None:
    assert plain_class(ChunkMissing(b"x" * 32)) is IntegrityError
    assert plain_class(InvalidRequest("x")) is InvalidRequest
    lacking = MissingTool(tool="qemu-nbd", package="qemu-utils", purpose="reading qcow2")
    assert plain_class(lacking) is SourceUnusable
    assert issubclass(plain_class(EbsimError("x")), SourceUnusable)


@pytest.mark.slow
def test_a_cluster_of_processes_finds_what_threads_find(images: list[Image]) -> None:
    distributed = pytest.importorskip("distributed")
    expected = analysis_document(analyzed(images, Recorded(), cdc=True))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        with workers_at(address) as workers:
            options = AnalysisOptions(levels=(1,), workers=workers, cdc=True)
            analysis = analyze_images(images, options)
            Path(images[1].name).unlink()
            with pytest.raises(SourceUnusable, match=r"two\.img"):
                analyze_images(images, options)
    assert analysis_document(analysis) == expected
    assert [chunked.chunk_count > 0 for chunked in analysis.chunked] == [True] * 3


@pytest.mark.parametrize("address", ["dask://", "dask://host", "tcp://host:80", "dask://host:x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequest, match="is no executor"), workers_at(address):
        pass


def test_a_scheduler_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("ebsim.analysis.executors._CONNECT_SECONDS", 1)
    with (
        pytest.raises(StorageUnavailable, match="no Dask scheduler"),
        workers_at("dask://127.0.0.1:1"),
    ):
        pass
