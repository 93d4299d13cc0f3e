"""The file operations that a backend itself does not use: locks, reserves, folders."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ebsim.durable_files import Files, write_atomically
from ebsim.errors import StorageUnavailable
from ebsim.units import MIB
from tests.backends.directory_contents import files_in
from tests.open_descriptors import open_descriptors


@pytest.fixture
def files() -> Files:
    return Files()


@pytest.fixture
def opened(files: Files, tmp_path: Path):
    """Three openings of one file, as three processes would have them."""
    descriptors = [files.open_or_create(tmp_path / "lock") for _ in range(3)]
    yield descriptors
    for descriptor in descriptors:
        files.close(descriptor)


def test_an_exclusive_lock_keeps_every_other_out(files, opened):
    assert files.lock(opened[0])
    assert not files.lock(opened[1], wait=False)
    assert not files.lock(opened[1], shared=True, wait=False)


def test_a_shared_lock_keeps_only_exclusive_ones_out(files, opened):
    assert files.lock(opened[0], shared=True)
    assert files.lock(opened[1], shared=True, wait=False)
    assert not files.lock(opened[2], wait=False)


def test_a_lock_ends_with_its_descriptor_and_whoever_waits_gets_it(files, opened, tmp_path):
    holder = files.open_to_read(tmp_path / "lock")
    files.lock(holder)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(files.lock, opened[0])
        assert not files.lock(opened[1], wait=False)
        files.close(holder)
        assert waiting.result(timeout=30)
    assert not files.lock(opened[1], wait=False)


def test_an_allocated_file_occupies_its_room_and_gives_it_back_when_cut(files, tmp_path):
    descriptor = files.create(tmp_path / "reserve")
    files.allocate(descriptor, 2 * MIB)
    status = files.status_of(descriptor)
    assert (status.st_size, status.st_blocks * 512 >= 2 * MIB) == (2 * MIB, True)

    files.truncate(descriptor, 0)
    assert files.status_of(descriptor).st_blocks == 0
    files.close(descriptor)


def test_directories_are_made_with_those_above_them_and_once(files, tmp_path):
    files.make_directories(tmp_path / "a" / "b" / "c")
    files.make_directories(tmp_path / "a" / "b" / "c")

    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert files.folder_names(tmp_path / "a") == ["b"]
    assert files.file_names(tmp_path / "a") == []


def test_a_file_where_a_directory_must_be_is_told(files, tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(StorageUnavailable, match=r"cannot create .*/a: File exists"):
        files.make_directories(tmp_path / "a")


def test_a_file_written_atomically_replaces_the_old_one_and_leaves_nothing_else(files, tmp_path):
    before = open_descriptors()
    for data in (b"first, longer", b"second"):
        write_atomically(files, tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == data

    assert files_in(tmp_path) == ["file"]
    assert open_descriptors() <= before


def test_what_does_not_exist_stays_the_error_it_is(files, tmp_path):
    for call in (files.open_to_read, files.open_to_write, files.unlink):
        with pytest.raises(FileNotFoundError):
            call(tmp_path / "missing")
    assert files.status(tmp_path / "missing") is None
    assert files.file_names(tmp_path / "missing") == []
    with pytest.raises(FileNotFoundError):
        write_atomically(files, tmp_path / "missing" / "file", b"x")
