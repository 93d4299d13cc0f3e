"""A directory of objects beyond the contract: processes, kills, descriptors that come and go."""

import multiprocessing
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ebsim.backends import LocalDirectory
from ebsim.durable_files import Files
from ebsim.errors import Conflict
from ebsim.system_calls import SystemCalls
from tests.backends.directory_contents import files_in, seal
from tests.open_descriptors import open_descriptors

UNSEALED_WRITER = """
import sys
from pathlib import Path
from ebsim.backends import LocalDirectory
from ebsim.durable_files import Files

backend = LocalDirectory(Path(sys.argv[1]), Files())
writer = backend.create("packs/one")
writer.append([b"x" * 100_000])
print("written", flush=True)
sys.stdin.read()
writer.seal()
print("sealed", flush=True)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def backend(root: Path):
    made = LocalDirectory(root, Files())
    yield made
    made.close()


@pytest.fixture
def writing_process(root: Path):
    """Another process with an unsealed object; it seals when its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", UNSEALED_WRITER, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    assert process.stdout.readline() == "written\n"
    yield process
    process.kill()
    process.communicate()


def test_a_sealed_object_is_one_file_of_its_name(backend, root):
    seal(backend, "packs/one", b"data")

    assert files_in(root) == ["packs/one"]
    assert (root / "packs/one").read_bytes() == b"data"


def test_discarding_removes_the_file(backend, root):
    writer = backend.create("packs/one")
    writer.append([b"data"])
    assert len(files_in(root)) == 1
    writer.discard()

    assert files_in(root) == []


def test_what_a_killed_process_left_unsealed_can_be_discarded_at_once(
    backend, root, writing_process
):
    assert backend.discard_unsealed() == 0
    writing_process.send_signal(signal.SIGKILL)
    writing_process.wait()
    assert files_in(root) == ["packs/.one.0.unsealed"]

    assert backend.discard_unsealed() == 1
    assert files_in(root) == []
    assert backend.discard_unsealed() == 0


def test_another_processs_living_writer_is_left_alone_and_seals(backend, writing_process):
    assert backend.discard_unsealed() == 0
    assert writing_process.communicate(timeout=30) == ("sealed\n", None)

    assert backend.discard_unsealed() == 0
    assert backend.read("packs/one", 0, 200_000) == b"x" * 100_000


def test_the_name_sealed_meanwhile_by_another_process_is_a_conflict(
    backend, root, writing_process
):
    writer = backend.create("packs/one")
    writing_process.communicate(timeout=30)
    with pytest.raises(Conflict, match="packs/one"):
        writer.seal()
    writer.discard()

    assert backend.size_bytes("packs/one") == 100_000
    assert files_in(root) == ["packs/one"]


def test_leftovers_in_any_folder_are_discarded_and_objects_and_foreign_files_stay(backend, root):
    backend.put("snapshots/one", b"data")
    backend.put("store.json", b"{}")
    for name in (".a.0.unsealed", "snapshots/.b.7.unsealed", "snapshots/.keep", "snapshots/READ"):
        (root / name).write_bytes(b"x")

    assert backend.discard_unsealed() == 2
    assert files_in(root) == ["snapshots/.keep", "snapshots/READ", "snapshots/one", "store.json"]
    assert list(backend.names("snapshots")) == ["snapshots/one"]


def test_a_store_that_does_not_exist_is_empty_and_is_not_made_by_looking(backend, root):
    assert list(backend.names("packs")) == []
    assert backend.size_bytes("packs/one") is None
    assert backend.discard_unsealed() == 0
    backend.delete("packs/one")

    assert not root.exists()


def test_what_another_backend_deletes_or_replaces_is_not_served_again(backend, root):
    """Two backends of one directory stand for two processes: they share nothing but files."""
    other = LocalDirectory(root, Files())
    seal(backend, "packs/one", b"pack")
    backend.put("snapshots/one", b"old")
    assert backend.read("packs/one", 0, 9) == b"pack"
    assert backend.read("snapshots/one", 0, 9) == b"old"
    other.delete("packs/one")
    other.put("snapshots/one", b"new")

    with pytest.raises(FileNotFoundError):
        backend.read("packs/one", 0, 9)
    assert backend.read("snapshots/one", 0, 9) == b"new"


def test_no_descriptor_is_left_open(backend, root):
    assert not open_descriptors(root)
    for number in range(300):
        backend.put(f"snapshots/{number}", b"%d" % number)
        assert backend.read(f"snapshots/{number}", 0, 9) == b"%d" % number
    assert open_descriptors(root).total() == 128
    for number in range(300):
        assert backend.read(f"snapshots/{number}", 0, 9) == b"%d" % number
        backend.delete(f"snapshots/{number}")
    assert not open_descriptors(root)

    backend.put("snapshots/last", b"x")
    backend.read("snapshots/last", 0, 1)
    backend.close()
    assert not open_descriptors(root)


def test_a_read_under_way_survives_the_closing_of_its_descriptor(root):
    """Every read of one object drops the cache while the call is under way."""

    class ClosingCalls(SystemCalls):
        def pread(self, descriptor: int, size_bytes: int, offset_bytes: int) -> bytes:
            backend.close()
            return super().pread(descriptor, size_bytes, offset_bytes)

    backend = LocalDirectory(root, Files(ClosingCalls()))
    backend.put("packs/one", b"data")
    before = open_descriptors()
    assert backend.read("packs/one", 0, 4) == b"data"
    assert open_descriptors() <= before


def test_threads_that_share_few_descriptors_read_the_right_object(backend):
    """Far more objects than descriptors, read by six threads while others come and go."""
    names = [f"packs/{number}" for number in range(200)]
    for name in names:
        backend.put(name, name.encode() * 10)

    def read_all(first: int) -> None:
        for step in range(600):
            name = names[(first * 37 + step * 11) % len(names)]
            assert backend.read(name, 0, 999) == name.encode() * 10
            if step % 50 == 0:
                backend.close()

    before = open_descriptors()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(read_all, range(6)))
    backend.close()
    assert open_descriptors() <= before


def write_objects(root: Path, first: int) -> None:
    backend = LocalDirectory(root, Files())
    for number in range(first, first + 20):
        seal(backend, f"packs/{number}", b"%d" % number * 1000)
        backend.discard_unsealed()
        backend.put("snapshots/shared", b"%03d" % number * 3000)


@pytest.mark.slow
def test_processes_write_replace_and_clean_up_side_by_side(backend, root):
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=write_objects, args=(root, n * 20)) for n in range(3)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        if backend.size_bytes("snapshots/shared") is not None:
            found = backend.read("snapshots/shared", 0, 10_000)
            assert found == found[:3] * 3000
    for process in processes:
        process.join()
        assert process.exitcode == 0

    assert files_in(root) == sorted([f"packs/{n}" for n in range(60)] + ["snapshots/shared"])
    for number in range(60):
        assert backend.read(f"packs/{number}", 0, 9999) == b"%d" % number * 1000


def test_a_writer_taken_for_abandoned_before_it_was_locked_begins_again(root):
    """Another process finds the new file between its creation and its lock, and removes it."""

    class DiscardedOnce(SystemCalls):
        discarded = 0

        def flock(self, descriptor: int, operation: int) -> None:
            if not self.discarded:
                self.discarded = LocalDirectory(root, Files()).discard_unsealed()
            super().flock(descriptor, operation)

    calls = DiscardedOnce()
    backend = LocalDirectory(root, Files(calls))
    seal(backend, "packs/one", b"data")

    assert calls.discarded == 1
    assert backend.read("packs/one", 0, 9) == b"data"
    assert files_in(root) == ["packs/one"]


def test_a_name_reused_by_a_living_writer_is_not_discarded_in_place_of_the_sealed_one(root):
    """The file found unsealed is sealed before it is locked, and its temporary name used again."""
    writers = LocalDirectory(root, Files())
    first = writers.create("packs/one")

    class SealedMeanwhile(SystemCalls):
        def flock(self, descriptor: int, operation: int) -> None:
            first.seal()
            writers.delete("packs/one")
            second.append(writers)
            super().flock(descriptor, operation)

    class Second:
        writer = None

        def append(self, backend: LocalDirectory) -> None:
            self.writer = backend.create("packs/one")
            self.writer.append([b"alive"])

    second = Second()
    assert LocalDirectory(root, Files(SealedMeanwhile())).discard_unsealed() == 0
    second.writer.seal()

    assert writers.read("packs/one", 0, 9) == b"alive"
