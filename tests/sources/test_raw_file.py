import os
import random
import threading
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebsim.errors import SourceUnusable
from ebsim.sources.raw_file import RawFile
from ebsim.sources.source import Extent, Source
from tests.open_descriptors import open_descriptors

PAGE = 4096


def read(source: Source, offset_bytes: int, size_bytes: int) -> bytes:
    buffer = bytearray(b"\xff" * size_bytes)
    source.read_into(memoryview(buffer), offset_bytes)
    return bytes(buffer)


def write_at(path: Path, offset_bytes: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset_bytes)
        file.write(data)


def sparse(path: Path, size_bytes: int, pages: dict[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for index, fill in pages.items():
            file.seek(index * PAGE)
            file.write(fill * PAGE)
    return path


pages = st.dictionaries(st.integers(0, 63), st.sampled_from([b"\0", b"a", b"b"]), max_size=12)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(written=pages, tail=st.integers(1, PAGE), start=st.integers(0, 65 * PAGE))
def test_what_lies_outside_the_extents_is_zero_and_inside_is_the_file(
    tmp_path: Path, written: dict[int, bytes], tail: int, start: int
) -> None:
    size_bytes = 64 * PAGE + tail
    path = sparse(tmp_path / "disk", size_bytes, written)
    whole = path.read_bytes()
    with closing(RawFile(path)) as source:
        extents = list(source.extents(start))
        rebuilt = bytearray(size_bytes)
        for extent in extents:
            rebuilt[extent.start : extent.stop] = read(
                source, extent.start, extent.stop - extent.start
            )
    assert rebuilt[start:] == whole[start:]
    assert all(start <= extent.start < extent.stop <= size_bytes for extent in extents)
    assert all(a.stop < b.start for a, b in pairwise(extents))


def test_holes_are_left_out_of_the_extents(tmp_path: Path) -> None:
    path = sparse(tmp_path / "disk", 1 << 30, {0: b"a", 1000: b"b"})
    with closing(RawFile(path)) as source:
        assert list(source.extents()) == [
            Extent(0, PAGE),
            Extent(1000 * PAGE, 1001 * PAGE),
        ]


def test_a_file_system_without_account_of_holes_gives_one_extent() -> None:
    """Files of /proc answer SEEK_DATA with EINVAL; this one has a size and never changes."""
    path = Path("/sys/kernel/notes")
    if not path.exists():
        pytest.skip("no /sys/kernel/notes here")
    with closing(RawFile(path)) as source:
        assert list(source.extents()) == [Extent(0, source.size_bytes)]
        assert read(source, 0, source.size_bytes) == path.read_bytes()


def test_bytes_past_the_end_are_zeros(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 1000)
    with closing(RawFile(path)) as source:
        assert source.size_bytes == 1000
        assert read(source, 990, 20) == b"x" * 10 + bytes(10)
        assert read(source, 5000, 20) == bytes(20)


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(1 << 20)
    path = tmp_path / "disk"
    path.write_bytes(data)
    wrong: list[int] = []

    def check(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(200):
            start = order.randrange(len(data) - PAGE)
            if read(source, start, PAGE) != data[start : start + PAGE]:
                wrong.append(start)

    with closing(RawFile(path)) as source:
        threads = [threading.Thread(target=check, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_file_that_shrank_is_refused_naming_offset_expected_and_found(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 10_000)
    with closing(RawFile(path, point_in_time=False)) as source:
        os.truncate(path, 6000)
        with pytest.raises(
            SourceUnusable, match=r"4096 bytes were expected at byte 4096 and 1904"
        ):
            read(source, 4096, 4096)


def test_a_tail_that_was_cut_off_does_not_pass_for_a_hole(tmp_path: Path) -> None:
    path = sparse(tmp_path / "disk", 100 * PAGE, {90: b"z"})
    with closing(RawFile(path, point_in_time=False)) as source:
        os.truncate(path, 50 * PAGE)
        with pytest.raises(SourceUnusable, match="shrank"):
            list(source.extents())


def test_a_quiet_file_has_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 100)
    with closing(RawFile(path)) as source:
        read(source, 0, 100)
        assert source.changed_since_opened() is None


def test_a_write_is_noticed_by_the_modification_time(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 100)
    os.utime(path, (1, 1))
    with closing(RawFile(path, point_in_time=False)) as source:
        write_at(path, 10, b"y")
        assert "modification time" in (source.changed_since_opened() or "")


def test_a_write_that_sets_the_modification_time_back_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 100)
    os.utime(path, (1, 1))
    with closing(RawFile(path, point_in_time=False)) as source:
        opened_at = path.stat().st_ctime_ns
        while path.stat().st_ctime_ns == opened_at:  # until the kernel's clock ticks
            write_at(path, 10, b"y")
            os.utime(path, (1, 1))
        assert "status-change time" in (source.changed_since_opened() or "")


def test_a_growing_file_is_noticed_and_read_to_its_first_length(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 100)
    with closing(RawFile(path, point_in_time=False)) as source:
        with path.open("ab") as file:
            file.write(b"y" * 100)
        assert source.size_bytes == 100
        assert list(source.extents()) == [Extent(0, 100)]
        assert "from 100 to 200" in (source.changed_since_opened() or "")


def test_a_file_put_in_its_place_is_noticed(tmp_path: Path) -> None:
    path, other = tmp_path / "disk", tmp_path / "other"
    path.write_bytes(b"x" * 100)
    other.write_bytes(b"x" * 100)
    with closing(RawFile(path, point_in_time=False)) as source:
        other.rename(path)
        assert "was replaced by another file" in (source.changed_since_opened() or "")


def test_a_file_that_went_away_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 100)
    with closing(RawFile(path, point_in_time=False)) as source:
        path.unlink()
        assert "went away" in (source.changed_since_opened() or "")


def test_a_link_is_followed_to_the_real_path(tmp_path: Path) -> None:
    path, link = tmp_path / "disk", tmp_path / "link"
    path.write_bytes(b"x")
    link.symlink_to(path)
    with closing(RawFile(link)) as source:
        assert source.location == os.path.realpath(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceUnusable, match="does not exist"):
        RawFile(tmp_path / "none")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "disk").touch()
    with pytest.raises(SourceUnusable, match="is empty"):
        RawFile(tmp_path / "disk")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceUnusable, match="is a directory"):
        RawFile(tmp_path)


def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceUnusable, match="is a named pipe"):
        RawFile(tmp_path / "pipe")


def test_a_character_device_is_refused() -> None:
    with pytest.raises(SourceUnusable, match="is a character device"):
        RawFile("/dev/zero")


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    """As another user, in a process of its own, since root may read everything."""
    path = tmp_path / "disk"
    path.write_bytes(b"x")
    path.chmod(0)
    if os.geteuid() != 0:
        with pytest.raises(SourceUnusable, match="may not be read"):
            RawFile(path)
        return
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(SourceUnusable, match="may not be read"):
            RawFile(path)
    finally:
        os.seteuid(0)


def test_closing_leaves_no_descriptor_open(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x")
    before = open_descriptors()
    source = RawFile(path)
    source.close()
    source.close()
    assert open_descriptors() <= before


def test_a_clone_is_a_point_in_time(cloning_folder: Path) -> None:
    path = sparse(cloning_folder / "disk", 100 * PAGE, {1: b"a", 70: b"b"})
    before = path.read_bytes()
    with closing(RawFile(path)) as source:
        assert source.is_point_in_time
        write_at(path, 0, b"later" * 50_000)
        os.truncate(path, 30 * PAGE)
        assert read(source, 0, 100 * PAGE) == before
        assert list(source.extents()) == [
            Extent(PAGE, 2 * PAGE),
            Extent(70 * PAGE, 71 * PAGE),
        ]
        assert source.changed_since_opened() is None
        assert [found.name for found in cloning_folder.iterdir()] == ["disk"]


def test_a_clone_not_wanted_is_not_made(cloning_folder: Path) -> None:
    path = sparse(cloning_folder / "disk", 2 * PAGE, {0: b"a"})
    with closing(RawFile(path, point_in_time=False)) as source:
        assert not source.is_point_in_time
        write_at(path, 0, b"later")
        assert read(source, 0, 5) == b"later"


def test_where_no_clone_can_be_made_the_file_itself_is_read(tmp_path: Path) -> None:
    """The clone's folder is on another file system, so the kernel refuses."""
    path = sparse(tmp_path / "disk", 2 * PAGE, {0: b"a"})
    with closing(RawFile(path, clone_folder="/dev/shm")) as source:
        assert not source.is_point_in_time
        assert read(source, 0, 5) == b"aaaaa"
