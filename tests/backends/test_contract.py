"""What every backend promises, run against each of them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.backends import LocalDirectory, Memory
from ebsim.durable_files import Files
from ebsim.errors import Conflict, InvalidRequest
from tests.backends.directory_contents import seal

PAGE = 4096


@pytest.fixture(params=["local_directory", "memory"])
def backend(request, tmp_path: Path):
    made = Memory() if request.param == "memory" else LocalDirectory(tmp_path / "store", Files())
    yield made
    made.close()


def test_a_sealed_object_reads_back_what_was_appended(backend):
    writer = backend.create("packs/one")
    reused = bytearray(b"second")
    assert writer.append([b"first ", reused]) == 0
    reused[:] = b"change"
    assert writer.append([]) == 12
    assert writer.append([memoryview(b"-third-")[1:6], b""]) == 12
    assert writer.size_bytes == 17
    writer.seal()

    assert backend.read("packs/one", 0, 17) == b"first secondthird"
    assert backend.size_bytes("packs/one") == 17


def test_more_parts_than_one_system_call_takes_are_all_written(backend):
    parts = [bytes([index % 251]) * (index % 7) for index in range(3000)]
    writer = backend.create("packs/many")
    writer.append(parts)
    writer.seal()

    expected = b"".join(parts)
    assert backend.read("packs/many", 0, len(expected) + 1) == expected


def test_an_object_larger_than_a_step_of_early_writing_reads_back_whole(backend):
    parts = [bytes([index]) * (700 * 1024 + 1) for index in range(8)]
    writer = backend.create("packs/large")
    offsets = [writer.append([part]) for part in parts]
    writer.seal()

    assert [backend.read("packs/large", at, len(parts[0])) for at in offsets] == parts


def test_a_read_is_short_only_at_the_end(backend):
    seal(backend, "packs/one", b"0123456789")

    assert backend.read("packs/one", 4, 3) == b"456"
    assert backend.read("packs/one", 8, 100) == b"89"
    assert backend.read("packs/one", 10, 5) == b""
    assert backend.read("packs/one", 99, 5) == b""
    assert backend.read("packs/one", 3, 0) == b""


def test_an_unsealed_object_is_nowhere_to_be_seen(backend):
    writer = backend.create("packs/one")
    writer.append([b"data"])

    assert backend.size_bytes("packs/one") is None
    assert backend.allocated_bytes("packs/one") is None
    assert list(backend.names("packs")) == []
    with pytest.raises(FileNotFoundError):
        backend.read("packs/one", 0, 4)
    writer.discard()


def test_an_object_without_bytes_can_be_sealed(backend):
    backend.create("packs/empty").seal()

    assert backend.size_bytes("packs/empty") == 0
    assert backend.read("packs/empty", 0, 1) == b""


def test_the_name_of_a_sealed_object_is_taken(backend):
    seal(backend, "packs/one", b"first")
    with pytest.raises(Conflict, match="packs/one"):
        backend.create("packs/one")


def test_the_second_of_two_writers_of_one_name_fails_at_seal(backend):
    first, second = backend.create("packs/one"), backend.create("packs/one")
    first.append([b"first"])
    second.append([b"second"])
    first.seal()
    with pytest.raises(Conflict, match="packs/one"):
        second.seal()
    second.discard()

    assert backend.read("packs/one", 0, 9) == b"first"
    assert list(backend.names("packs")) == ["packs/one"]


def test_a_discarded_object_leaves_its_name_free(backend):
    writer = backend.create("packs/one")
    writer.append([b"unwanted"])
    writer.discard()
    writer.discard()
    seal(backend, "packs/one", b"wanted")

    assert backend.read("packs/one", 0, 9) == b"wanted"


def test_discard_after_seal_is_harmless(backend):
    writer = backend.create("packs/one")
    writer.append([b"data"])
    writer.seal()
    writer.discard()

    assert backend.read("packs/one", 0, 4) == b"data"


def test_nothing_is_appended_or_sealed_after_the_end(backend):
    writer = backend.create("packs/one")
    writer.seal()
    with pytest.raises(AssertionError):
        writer.append([b"late"])
    with pytest.raises(AssertionError):
        writer.seal()


def test_put_writes_and_replaces_whole(backend):
    backend.put("snapshots/one.json", b"a longer first version")
    assert backend.read("snapshots/one.json", 0, 99) == b"a longer first version"

    backend.put("snapshots/one.json", b"second")
    assert backend.read("snapshots/one.json", 0, 99) == b"second"
    assert backend.size_bytes("snapshots/one.json") == 6


def test_names_lists_the_objects_of_one_folder(backend):
    for name in ("packs/a", "packs/b", "snapshots/a", "store.json"):
        backend.put(name, b"x")

    assert sorted(backend.names("packs")) == ["packs/a", "packs/b"]
    assert list(backend.names("snapshots")) == ["snapshots/a"]
    assert list(backend.names("")) == ["store.json"]
    assert list(backend.names("nothing-here")) == []


def test_a_deleted_object_is_gone_even_when_it_was_just_read(backend):
    seal(backend, "packs/one", b"data")
    assert backend.read("packs/one", 0, 4) == b"data"
    backend.delete("packs/one")

    with pytest.raises(FileNotFoundError):
        backend.read("packs/one", 0, 4)
    assert backend.size_bytes("packs/one") is None
    assert list(backend.names("packs")) == []


def test_deleting_what_is_gone_is_harmless(backend):
    backend.delete("packs/never-there")
    seal(backend, "packs/one", b"data")
    backend.delete("packs/one")
    backend.delete("packs/one")
    seal(backend, "packs/one", b"new")

    assert backend.read("packs/one", 0, 9) == b"new"


def test_a_punched_range_reads_as_zeros_and_gives_its_pages_back(backend):
    seal(backend, "packs/one", b"x" * 64 * PAGE)
    before = backend.allocated_bytes("packs/one")

    assert backend.punch("packs/one", 8 * PAGE, 16 * PAGE) == 16 * PAGE
    assert before - backend.allocated_bytes("packs/one") == 16 * PAGE
    expected = b"x" * 8 * PAGE + bytes(16 * PAGE) + b"x" * 40 * PAGE
    assert backend.read("packs/one", 0, 65 * PAGE) == expected


def test_a_range_punched_twice_gives_its_pages_back_once(backend):
    seal(backend, "packs/one", b"x" * 64 * PAGE)
    backend.punch("packs/one", 0, 8 * PAGE)

    assert backend.punch("packs/one", 4 * PAGE, 8 * PAGE) == 4 * PAGE
    assert backend.punch("packs/one", 0, 12 * PAGE) == 0


def test_a_range_inside_of_two_pages_gives_nothing_back_but_reads_as_zeros(backend):
    seal(backend, "packs/one", b"x" * 4 * PAGE)

    assert backend.punch("packs/one", PAGE + 10, PAGE) == 0
    expected = b"x" * (PAGE + 10) + bytes(PAGE) + b"x" * (2 * PAGE - 10)
    assert backend.read("packs/one", 0, 4 * PAGE) == expected


def test_punching_nothing_or_what_is_gone_gives_nothing_back(backend):
    seal(backend, "packs/one", b"x" * PAGE)

    assert backend.punch("packs/one", 0, 0) == 0
    assert backend.punch("packs/gone", 0, PAGE) == 0
    assert backend.read("packs/one", 0, PAGE) == b"x" * PAGE


def test_an_objects_size_outlives_its_holes(backend):
    seal(backend, "packs/one", b"x" * 4 * PAGE)
    backend.punch("packs/one", 2 * PAGE, 2 * PAGE)

    assert backend.size_bytes("packs/one") == 4 * PAGE
    assert backend.read("packs/one", 3 * PAGE, 2 * PAGE) == bytes(PAGE)


def test_discard_unsealed_leaves_a_living_writer_alone(backend):
    writer = backend.create("packs/one")
    writer.append([b"in "])

    assert backend.discard_unsealed() == 0
    writer.append([b"progress"])
    writer.seal()
    assert backend.read("packs/one", 0, 99) == b"in progress"


BAD_NAMES = [
    "",
    ".",
    "..",
    "/",
    "packs/",
    "/etc/passwd",
    "packs/..",
    "../packs",
    "packs/../one",
    "./one",
    "packs//one",
    "packs/a/b",
    "packs/.hidden",
    ".packs/one",
    "packs/-option",
    "packs/Upper",
    "packs/a b",
    "packs/a\n",
    "packs/a\0",
    "packs/é",
    "packs/a\\b",
    "packs/" + "a" * 201,
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_is_none_is_refused_by_every_method(backend, name):
    for call in (
        lambda: backend.create(name),
        lambda: backend.put(name, b"x"),
        lambda: backend.size_bytes(name),
        lambda: backend.read(name, 0, 1),
        lambda: backend.delete(name),
        lambda: backend.punch(name, 0, 1),
        lambda: backend.allocated_bytes(name),
    ):
        with pytest.raises(InvalidRequest):
            call()


@pytest.mark.parametrize("folder", ["..", ".", "/", "packs/", "a/b", "Packs", "../x"])
def test_a_folder_that_is_none_is_refused(backend, folder):
    with pytest.raises(InvalidRequest):
        list(backend.names(folder))


def test_the_longest_name_is_good_for_every_way_of_writing(backend):
    name = "packs/" + "a" * 200
    seal(backend, name, b"first")
    backend.put(name, b"second")

    assert list(backend.names("packs")) == [name]
    assert backend.read(name, 0, 9) == b"second"


def test_threads_that_read_write_and_delete_see_whole_objects_only(backend):
    """Readers of two objects that are replaced, deleted and made anew all the time."""
    versions = [bytes([number]) * (3 * PAGE + number) for number in range(1, 9)]
    is_over = threading.Event()

    def write(name: str) -> None:
        for _ in range(5):
            for version in versions:
                backend.put(name, version)
            backend.delete(name)
            writer = backend.create(name)
            writer.append([versions[0][:PAGE], versions[0][PAGE:]])
            writer.seal()

    def read(name: str) -> int:
        count = 0
        while not is_over.is_set() or count == 0:
            try:
                found = backend.read(name, 0, 4 * PAGE)
            except FileNotFoundError:
                continue
            assert found in versions
            count += 1
        return count

    names = ["snapshots/a", "snapshots/b"]
    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read, name) for name in names * 2]
        writers = [pool.submit(write, name) for name in names]
        try:
            for writer in writers:
                writer.result()
        finally:
            is_over.set()
        assert all(reader.result() > 0 for reader in readers)


pieces = st.lists(st.binary(max_size=300) | st.just(b"x" * 5000), max_size=12)
ranges = st.tuples(st.integers(0, 30_000), st.integers(0, 30_000))


@given(appended=pieces, punched=st.lists(ranges, max_size=4), asked=ranges)
def test_memory_reads_any_range_like_a_byte_array_with_holes(appended, punched, asked):
    memory = Memory()
    model = bytearray(b"".join(appended))
    writer = memory.create("packs/one")
    for piece in appended:
        writer.append([piece])
    writer.seal()
    for start, size in punched:
        memory.punch("packs/one", start, size)
        model[start : start + size] = bytes(max(0, min(size, len(model) - start)))

    start, size = asked
    assert memory.read("packs/one", start, size) == model[start : start + size]
    assert memory.size_bytes("packs/one") == len(model)
    assert 0 <= memory.allocated_bytes("packs/one") < len(model) + PAGE
