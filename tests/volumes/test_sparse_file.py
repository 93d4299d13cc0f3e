"""A sparse file reads as one range of bytes, whatever it consists of."""

import errno
import os
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.durable_files import Files
from ebsim.errors import StorageFull, StorageUnavailable
from ebsim.system_calls import Buffer, SystemCalls
from ebsim.units import TIB
from ebsim.volumes.sparse_file import SparseFile, segment_paths
from tests.crash.recorded_store import quick_directory
from tests.open_descriptors import open_descriptors
from tests.volumes.failing_calls import FailingCalls

SEGMENT_BITS = 13
SEGMENT = 1 << SEGMENT_BITS
SIZE = 3 * SEGMENT + 1000

near_borders = st.builds(
    lambda border, by: min(max(0, border + by), SIZE),
    st.sampled_from([0, 4096, SEGMENT, 2 * SEGMENT, 3 * SEGMENT, SIZE]),
    st.integers(-5000, 5000),
)
steps = st.lists(
    st.tuples(st.sampled_from(["write", "zero", "allocate"]), near_borders, near_borders),
    min_size=1,
    max_size=8,
)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ebsim.volumes.sparse_file._SEGMENT_BITS", SEGMENT_BITS)
    monkeypatch.setattr("ebsim.volumes.sparse_file.SEGMENT_BYTES", SEGMENT)


def contents(file: SparseFile, start: int = 0, stop: int | None = None) -> bytes:
    buffer = bytearray((file.size_bytes if stop is None else stop) - start)
    file.read(memoryview(buffer), start)
    return bytes(buffer)


@pytest.mark.usefixtures("small_segments")
def test_it_does_what_a_bytearray_does_across_segments() -> None:
    @given(steps, st.integers(0, 2**32))
    def compare(found: list[tuple[str, int, int]], seed: int) -> None:
        random, model = Random(seed), bytearray(SIZE)
        with quick_directory() as folder:
            file = SparseFile(Files(), folder / "data", SIZE, create=True)
            for verb, *ends in found:
                start, stop = sorted(ends)
                data = random.randbytes(stop - start) if verb == "write" else bytes(stop - start)
                model[start:stop] = data
                if verb == "write":
                    file.write(data, start)
                else:
                    file.zero(start, stop - start, allocate=verb == "allocate")
                assert contents(file, start, stop) == model[start:stop]
                check_ranges(file, model, start, stop)
            assert contents(file) == model
            file.close()
            again = SparseFile(Files(), folder / "data", SIZE, create=False, read_only=True)
            assert contents(again) == model
            again.close()

    compare()


def check_ranges(file: SparseFile, model: bytearray, start: int, stop: int) -> None:
    """Ranges follow one another without gaps, and holes are zeros."""
    position = start
    for found in file.ranges(start, stop):
        assert found.start == position
        assert found.stop > position
        position = found.stop
        if found.is_hole:
            assert not any(model[found.start : found.stop])
    assert position == max(start, stop)


@pytest.mark.usefixtures("small_segments")
def test_growing_adds_zeros_and_segments(tmp_path: Path) -> None:
    file = SparseFile(Files(), tmp_path / "data", 1000, create=True)
    file.write(b"x" * 1000, 0)
    for size in (1001, SEGMENT, SEGMENT + 1, SIZE):
        file.grow(size)
        assert contents(file) == b"x" * 1000 + bytes(size - 1000)
        assert sorted(tmp_path.iterdir()) == segment_paths(tmp_path / "data", size)
    file.write(b"y" * 2000, 3 * SEGMENT - 1000)
    assert contents(file, 3 * SEGMENT - 1000, 3 * SEGMENT + 1000) == b"y" * 2000
    file.close()


@pytest.mark.usefixtures("small_segments")
def test_a_quick_read_is_right_or_refused(tmp_path: Path) -> None:
    file = SparseFile(Files(), tmp_path / "data", SIZE, create=True)
    data = Random(1).randbytes(SIZE)
    file.write(data, 0)
    for start, stop in [(0, 100), (SEGMENT - 1, SEGMENT), (SEGMENT - 1, SEGMENT + 1), (5, SIZE)]:
        buffer = bytearray(stop - start)
        if file.try_read(memoryview(buffer), start):
            assert buffer == data[start:stop]
        else:
            assert start // SEGMENT != (stop - 1) // SEGMENT, "it is in the page cache"
    file.close()


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("lost", [0, 1, 3])
def test_a_missing_segment_is_not_taken_for_zeros(tmp_path: Path, lost: int) -> None:
    SparseFile(Files(), tmp_path / "data", SIZE, create=True).close()
    segment_paths(tmp_path / "data", SIZE)[lost].unlink()
    before = open_descriptors()
    with pytest.raises(FileNotFoundError):
        SparseFile(Files(), tmp_path / "data", SIZE, create=False)
    assert open_descriptors() <= before


def test_a_file_that_was_cut_off_is_an_error_not_zeros(tmp_path: Path) -> None:
    file = SparseFile(Files(), tmp_path / "data", 8192, create=True)
    os.truncate(tmp_path / "data.0", 5000)
    assert contents(file, 0, 5000) == bytes(5000)
    with pytest.raises(StorageUnavailable, match="ends before the volume does"):
        contents(file, 4000, 6000)
    file.close()


def test_sixteen_tebibytes_and_more_on_a_real_file_system(tmp_path: Path) -> None:
    """ext4's longest file is 4 KiB short of 16 TiB."""
    size = 17 * TIB
    file = SparseFile(Files(), tmp_path / "data", size, create=True)
    data = Random(2).randbytes(8192)
    places = [0, 8 * TIB - 4096, 16 * TIB - 4096, size - 8192]
    for place in places:
        file.write(data, place)
    assert [contents(file, place, place + 8192) for place in places] == [data] * 4
    holes = [found for found in file.ranges(0, size) if found.is_hole]
    assert sum(hole.stop - hole.start for hole in holes) == size - 4 * 8192
    file.zero(0, size)
    assert [found.is_hole for found in file.ranges(0, size)] == [True] * 3
    assert file.allocated_bytes() < 1 << 20
    file.close()


class ShortCalls(FailingCalls):
    """Reads and writes that do a part of what they are asked."""

    def pwritev(self, descriptor: int, parts: list[Buffer], offset_bytes: int) -> int:
        return super().pwritev(descriptor, [memoryview(parts[0])[:1000]], offset_bytes)

    def preadv(self, descriptor: int, parts: list[memoryview], offset_bytes: int) -> int:
        return super().preadv(descriptor, [memoryview(parts[0])[:999]], offset_bytes)


def test_a_file_system_that_can_do_little_serves_as_well(tmp_path: Path) -> None:
    calls = ShortCalls()
    for name in ("punch_hole", "zero_range", "preadv_cached"):
        calls.fail(name, error_number=errno.EOPNOTSUPP)
    calls.fail("seek", error_number=errno.EINVAL)
    file = SparseFile(Files(calls), tmp_path / "data", 20_000, create=True)
    data = Random(3).randbytes(20_000)
    file.write(data, 0)
    file.zero(500, 7000)
    file.zero(9000, 1, allocate=True)
    expected = data[:500] + bytes(7000) + data[7500:9000] + b"\0" + data[9001:]
    assert contents(file) == expected
    assert not file.try_read(memoryview(bytearray(10)), 0)
    assert [tuple(found) for found in file.ranges(0, 20_000)] == [(0, 20_000, False)]
    file.close()


@pytest.mark.parametrize(
    ("call", "error_number", "kind", "told"),
    [
        ("pwritev", errno.ENOSPC, StorageFull, r"cannot write .*data\.0: No space"),
        ("pwritev", errno.EIO, StorageUnavailable, r"cannot write .*data\.0: Input/output"),
        ("preadv", errno.EIO, StorageUnavailable, r"cannot read .*data\.0"),
        ("preadv_cached", errno.EIO, StorageUnavailable, r"cannot read .*data\.0"),
        ("punch_hole", errno.ENOSPC, StorageFull, r"cannot write .*data\.0"),
        ("seek", errno.EIO, StorageUnavailable, r"cannot look up .*data\.0"),
        ("fdatasync", errno.EIO, StorageUnavailable, r"cannot sync .*data\.0"),
    ],
)
def test_what_fails_is_named(
    tmp_path: Path, call: str, error_number: int, kind: type[StorageUnavailable], told: str
) -> None:
    calls = FailingCalls()
    file = SparseFile(Files(calls), tmp_path / "data", 8192, create=True)
    calls.fail(call, "data", error_number)
    attempts = {
        "pwritev": lambda: file.write(b"x", 0),
        "preadv": lambda: contents(file),
        "preadv_cached": lambda: file.try_read(memoryview(bytearray(1)), 0),
        "punch_hole": lambda: file.zero(0, 10),
        "seek": lambda: list(file.ranges(0, 10)),
        "fdatasync": file.sync,
    }
    with pytest.raises(kind, match=told):
        attempts[call]()
    file.close()


class BegunWrites(SystemCalls):
    """Notes what the disk was told to begin with; may refuse to."""

    def __init__(self, error_number: int = 0) -> None:
        self.ranges: list[tuple[int, int]] = []
        self._error_number = error_number

    def begin_write_out(self, descriptor: int, offset_bytes: int, size_bytes: int) -> None:
        if self._error_number:
            raise OSError(self._error_number, os.strerror(self._error_number))
        super().begin_write_out(descriptor, offset_bytes, size_bytes)
        self.ranges.append((offset_bytes, size_bytes))


@pytest.mark.usefixtures("small_segments")
def test_the_disk_begins_with_what_it_is_told_in_every_segment(tmp_path: Path) -> None:
    calls = BegunWrites()
    file = SparseFile(Files(calls), tmp_path / "data", SIZE, create=True)
    file.write(b"a" * 100, SEGMENT - 50)
    file.begin_write_out(SEGMENT - 50, 100)
    file.close()
    assert calls.ranges == [(SEGMENT - 50, 50), (0, 50)]


@pytest.mark.parametrize("error_number", [errno.ENOSYS, errno.EIO])
def test_a_disk_that_will_not_begin_is_told_by_sync_alone(
    tmp_path: Path, error_number: int
) -> None:
    file = SparseFile(Files(BegunWrites(error_number)), tmp_path / "data", 8192, create=True)
    file.write(b"a" * 100, 0)
    file.begin_write_out(0, 100)
    file.sync()
    assert contents(file, 0, 100) == b"a" * 100
    file.close()


class CountedSyncs(SystemCalls):
    """Notes what is synced.  The first sync ends only when *meanwhile* was written."""

    def __init__(self, meanwhile: bytes = b"") -> None:
        self.synced: list[str] = []
        self.file: SparseFile | None = None
        self._meanwhile = meanwhile

    def fdatasync(self, descriptor: int) -> None:
        super().fdatasync(descriptor)
        self.synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        data, self._meanwhile = self._meanwhile, b""
        if data:
            assert self.file is not None, "whose sync it is"
            self.file.write(data, 0)


@pytest.mark.usefixtures("small_segments")
def test_segments_that_nothing_was_written_to_are_not_synced(tmp_path: Path) -> None:
    calls = CountedSyncs()
    SparseFile(Files(calls), tmp_path / "data", SIZE, create=True).close()
    # Whoever had it before may have written anywhere.
    with closing(SparseFile(Files(calls), tmp_path / "data", SIZE, create=False)) as file:
        file.sync()
        assert calls.synced == ["data.0", "data.1", "data.2", "data.3"]
        changes = [
            (lambda: file.write(b"a", SEGMENT), ["data.1"]),
            (lambda: file.write(b"a" * 2, SEGMENT - 1), ["data.0", "data.1"]),
            (lambda: file.zero(SEGMENT - 1, SEGMENT + 2), ["data.0", "data.1", "data.2"]),
            (lambda: file.zero(2 * SEGMENT, SEGMENT, allocate=True), ["data.2"]),
            (
                lambda: file.grow(4 * SEGMENT + 1),
                ["data.0", "data.1", "data.2", "data.3", "data.4"],
            ),
            (lambda: None, []),
        ]
        for change, synced in changes:
            calls.synced.clear()
            change()
            file.sync()
            assert calls.synced == synced


def test_what_is_written_during_a_sync_belongs_to_the_next(tmp_path: Path) -> None:
    calls = CountedSyncs(meanwhile=b"a")
    with closing(SparseFile(Files(calls), tmp_path / "data", SEGMENT, create=True)) as file:
        calls.file = file
        for _ in range(3):
            file.sync()
    assert calls.synced == ["data.0"] * 2
