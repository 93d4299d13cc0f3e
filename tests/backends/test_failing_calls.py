"""A directory of objects when the N-th call fails, for every N, or is not supported at all."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ebsim.backends import LocalDirectory
from ebsim.durable_files import Files
from ebsim.errors import Conflict, EbsimError, StorageFull, StorageUnavailable
from ebsim.system_calls import SystemCalls
from ebsim.units import MIB
from tests.backends.directory_contents import files_in, seal
from tests.crash.faulty_calls import Fault, FaultyCalls
from tests.open_descriptors import open_descriptors


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def life_of_some_objects(backend: LocalDirectory, allowed: dict[str, set[bytes | None]]) -> None:
    """Write, replace, punch, read, delete; *allowed* is what a failure there may leave."""
    pack, holed = b"x" * 40_000, b"x" * 4096 + bytes(8192) + b"x" * 27_712
    allowed["packs/one"] = {None, pack}
    seal(backend, "packs/one", pack)
    allowed["packs/one"] = {pack}
    allowed["snapshots/one"] = {None, b"old"}
    backend.put("snapshots/one", b"old")
    allowed["snapshots/one"] = {b"old"}
    assert backend.read("packs/one", 0, 50_000) == pack
    assert sorted(backend.names("packs")) == ["packs/one"]
    allowed["snapshots/one"] = {b"old", b"new"}
    backend.put("snapshots/one", b"new")
    allowed["snapshots/one"] = {b"new"}
    allowed["packs/one"] = {pack, holed}
    assert backend.punch("packs/one", 4096, 8192) == 8192
    allowed["packs/one"] = {holed, None}
    backend.delete("packs/one")
    allowed["packs/one"] = {None}
    backend.discard_unsealed()


def failure_of(call: Callable[[], None]) -> EbsimError | None:
    try:
        call()
    except EbsimError as error:
        return error
    return None


@pytest.mark.parametrize("error_number", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("persistent", [False, True], ids=["once", "from_then_on"])
def test_whichever_call_fails_the_error_says_so_and_what_was_acknowledged_stands(
    tmp_path, error_number, persistent
):
    fail_call, fault_count = 0, 1
    while fault_count:
        root = tmp_path / str(fail_call)
        calls = FaultyCalls(SystemCalls(), fail_call, error_number, persistent=persistent)
        before = open_descriptors()
        backend, allowed = LocalDirectory(root, Files(calls)), {}
        error = failure_of(lambda: life_of_some_objects(backend, allowed))  # noqa: B023 called here
        backend.close()
        fault_count = calls.fault_count

        assert open_descriptors() <= before
        assert (error is None) == (fault_count == 0), f"nobody heard of call {fail_call}"
        if error is not None:
            assert isinstance(error, StorageUnavailable)
            assert isinstance(error, StorageFull) == (error_number == errno.ENOSPC)
            assert os.strerror(error_number) in str(error)
            assert (error.error_number, error.operation in str(error)) == (error_number, True)
            assert str(tmp_path) in error.path
        sound = LocalDirectory(root, Files())
        sound.discard_unsealed()
        assert [name for name in files_in(root) if "/." in name] == []
        for name, contents in allowed.items():
            is_there = sound.size_bytes(name) is not None
            assert (sound.read(name, 0, 99_999) if is_there else None) in contents
        sound.close()
        fail_call += 1
    assert fail_call > 40


@pytest.mark.parametrize("persistent", [False, True], ids=["once", "from_then_on"])
def test_whichever_call_is_short_nothing_is_lost(tmp_path, persistent):
    fail_call, fault_count = 0, 1
    while fault_count:
        calls = FaultyCalls(SystemCalls(), fail_call, 0, fault=Fault.SHORT, persistent=persistent)
        backend = LocalDirectory(tmp_path / str(fail_call), Files(calls))
        writer = backend.create("packs/one")
        writer.append([b"first", b"", b"x" * 300, bytes(range(256))])
        writer.append([b"second"])
        writer.seal()

        expected = b"first" + b"x" * 300 + bytes(range(256)) + b"second"
        assert backend.read("packs/one", 0, 999) == expected
        assert backend.read("packs/one", 5, 300) == b"x" * 300
        backend.close()
        fault_count = calls.fault_count
        fail_call += 1
    assert fail_call > 4


def test_a_writer_that_failed_can_only_be_discarded(root):
    calls = FaultyCalls(SystemCalls(), 0, errno.EIO, only={"fdatasync"})
    backend = LocalDirectory(root, Files(calls))
    writer = backend.create("packs/one")
    writer.append([b"data"])
    with pytest.raises(StorageUnavailable, match="sync"):
        writer.seal()
    # The second sync would report success, and the bytes may be lost all the same.
    with pytest.raises(AssertionError):
        writer.seal()
    writer.discard()

    assert files_in(root) == []


@pytest.mark.parametrize("error_number", [errno.EINVAL, errno.ENOSYS])
def test_a_file_system_without_exclusive_rename_still_seals_without_replacing(root, error_number):
    calls = FaultyCalls(SystemCalls(), 0, error_number, persistent=True, only={"rename_new"})
    backend = LocalDirectory(root, Files(calls))
    first, second = backend.create("packs/one"), backend.create("packs/one")
    first.append([b"first"])
    first.seal()
    with pytest.raises(Conflict):
        second.seal()
    second.discard()

    assert calls.fault_count == 2
    assert files_in(root) == ["packs/one"]
    assert backend.read("packs/one", 0, 9) == b"first"


def test_a_file_system_without_holes_gives_nothing_back_and_keeps_the_bytes(root):
    calls = FaultyCalls(SystemCalls(), 0, errno.EOPNOTSUPP, only={"punch_hole"})
    backend = LocalDirectory(root, Files(calls))
    seal(backend, "packs/one", b"x" * 40_000)

    assert backend.punch("packs/one", 0, 40_000) == 0
    assert backend.read("packs/one", 0, 40_000) == b"x" * 40_000


def test_a_file_system_that_writes_only_through_its_cache_takes_the_same_bytes(root):
    """Some refuse the flag, some take it and refuse the write."""
    data = bytes(range(256)) * 4096 * 9
    for call in ("set_direct", "pwritev"):
        calls = FaultyCalls(SystemCalls(), 0, errno.EINVAL, only={call})
        backend = LocalDirectory(root, Files(calls))
        seal(backend, f"packs/{call.replace('_', '-')}", data)

        assert calls.fault_count == 1
        assert backend.read(f"packs/{call.replace('_', '-')}", 0, len(data)) == data


def test_a_piece_that_cannot_be_written_is_told_by_a_later_append_or_by_the_seal(root):
    for append_count in (1, 4):
        calls = FaultyCalls(SystemCalls(), 0, errno.EIO, only={"pwritev"})
        writer = LocalDirectory(root, Files(calls)).create("packs/one")

        def write(writer=writer, append_count=append_count) -> None:
            for _ in range(append_count):
                writer.append([b"y" * 5 * MIB])
            writer.seal()

        error = failure_of(write)
        writer.discard()

        assert type(error) is StorageUnavailable
        assert files_in(root) == []


def test_an_error_is_one_line_that_says_what_where_why_and_what_to_do(root):
    calls = FaultyCalls(SystemCalls(), 0, errno.ENOSPC, only={"pwritev"})
    backend = LocalDirectory(root, Files(calls))
    with pytest.raises(StorageFull) as raised:
        backend.put("snapshots/one", b"data")

    assert str(raised.value) == (
        f"cannot write {root}/snapshots/.one.0.unsealed: No space left on device. "
        "Only the range to be written may have changed. Free some space, then try again."
    )
