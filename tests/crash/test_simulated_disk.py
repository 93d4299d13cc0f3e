"""The laboratory itself: it must convict wrong writers, acquit right ones, lose nothing synced."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.backends import LocalDirectory
from ebsim.durable_files import Files, write_atomically
from ebsim.system_calls import SystemCalls
from tests.crash.journal import Create, Inode, Journal, Recording, SyncFile, Write
from tests.crash.simulated_disk import CrashState, crash_states, materialise

OLD = b"old" * 1000
NEW = b"new!" * 1500
WRITABLE = os.O_RDWR | os.O_CREAT

Writer = Callable[[Recording, Path], None]


def write_whole(calls: SystemCalls, path: Path, data: bytes) -> int:
    descriptor = calls.open(path, WRITABLE)
    calls.pwritev(descriptor, [data[:2000], data[2000:]], 0)
    return descriptor


def careful(calls: Recording, path: Path) -> None:
    write_atomically(Files(calls), path, NEW)


def without_sync_of_the_data(calls: Recording, path: Path) -> None:
    calls.close(write_whole(calls, path.with_suffix(".new"), NEW))
    calls.rename(path.with_suffix(".new"), path)
    calls.fsync_directory(path.parent)


def without_sync_of_the_directory(calls: Recording, path: Path) -> None:
    descriptor = write_whole(calls, path.with_suffix(".new"), NEW)
    calls.fdatasync(descriptor)
    calls.close(descriptor)
    calls.rename(path.with_suffix(".new"), path)


def with_the_sync_after_the_rename(calls: Recording, path: Path) -> None:
    descriptor = write_whole(calls, path.with_suffix(".new"), NEW)
    calls.rename(path.with_suffix(".new"), path)
    calls.fdatasync(descriptor)
    calls.close(descriptor)
    calls.fsync_directory(path.parent)


def with_a_write_after_the_sync(calls: Recording, path: Path) -> None:
    descriptor = write_whole(calls, path.with_suffix(".new"), b"")
    calls.fdatasync(descriptor)
    calls.pwritev(descriptor, [NEW], 0)
    calls.close(descriptor)
    calls.rename(path.with_suffix(".new"), path)
    calls.fsync_directory(path.parent)


def in_place(calls: Recording, path: Path) -> None:
    descriptor = write_whole(calls, path, NEW)
    calls.fdatasync(descriptor)
    calls.close(descriptor)


def by_unlinking_first(calls: Recording, path: Path) -> None:
    calls.unlink(path)
    calls.fsync_directory(path.parent)
    careful(calls, path)


def faults_of(writer: Writer, root: Path) -> list[str]:
    """The crash states in which a file replaced by *writer* is not what it must be."""
    (root / "file").write_bytes(OLD)
    calls = Recording(root)
    writer(calls, root / "file")
    calls.mark("acknowledged")
    return [
        str(state)
        for state in crash_states(calls.journal)
        if state.files.get("file") not in ([NEW] if state.marks else [OLD, NEW])
    ]


def test_a_file_replaced_atomically_is_old_or_new_in_every_state(tmp_path):
    assert faults_of(careful, tmp_path) == []


@pytest.mark.parametrize(
    "writer",
    [
        without_sync_of_the_data,
        without_sync_of_the_directory,
        with_the_sync_after_the_rename,
        with_a_write_after_the_sync,
        in_place,
        by_unlinking_first,
    ],
)
def test_a_wrong_way_of_replacing_a_file_is_caught(writer, tmp_path):
    assert faults_of(writer, tmp_path) != []


@pytest.mark.parametrize("kind", ["bytes lost", "zeros", "garbage", "torn"])
def test_a_missing_sync_of_the_data_shows_in_each_way_of_losing_bytes(kind, tmp_path):
    assert any(fault.startswith(kind) for fault in faults_of(without_sync_of_the_data, tmp_path))


def seal_put_and_delete(calls: Recording, root: Path) -> None:
    backend = LocalDirectory(root, Files(calls))
    writer = backend.create("packs/one")
    for part in range(4):
        writer.append([bytes([part + 1]) * 5000, b"end"])
    writer.seal()
    calls.mark("sealed")
    backend.put("snapshots/one", OLD)
    calls.mark("put")
    backend.put("snapshots/one", NEW)
    calls.mark("put again")
    backend.delete("packs/one")
    calls.mark("deleted")
    backend.close()


def objects_found(directory: Path, state: CrashState) -> dict[str, bytes]:
    """What a backend opened after the crash offers, once it has cleaned up."""
    materialise(state, directory)
    backend = LocalDirectory(directory, Files())
    unsealed = [path for path in directory.rglob(".*") if path.is_file()]
    assert backend.discard_unsealed() == len(unsealed)
    found = {
        name: backend.read(name, 0, 100_000)
        for folder in ("packs", "snapshots")
        for name in backend.names(folder)
    }
    on_disk = {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}
    assert on_disk == found.keys()
    backend.close()
    return found


def test_objects_of_a_directory_are_whole_and_as_durable_as_promised(tmp_path, monkeypatch):
    monkeypatch.setattr("ebsim.staged_file.STAGE_SIZE", 4096)
    root = tmp_path / "store"
    root.mkdir()
    calls = Recording(root)
    seal_put_and_delete(calls, root)

    whole = b"".join(bytes([part + 1]) * 5000 + b"end" for part in range(4))
    states = list(crash_states(calls.journal))
    for state in states:
        with tempfile.TemporaryDirectory(dir=tmp_path) as directory:
            found = objects_found(Path(directory), state)
        pack, manifest = found.get("packs/one"), found.get("snapshots/one")
        assert pack in (None, whole), state
        assert manifest in (None, OLD, NEW), state
        if "sealed" in state.marks and "put again" not in state.marks:
            assert pack == whole, state
        if "put" in state.marks:
            assert manifest is not None, state
        if "put again" in state.marks:
            assert manifest == NEW, state
        if "deleted" in state.marks:
            assert pack is None, state
    assert len(states) >= 45


def test_a_deletion_that_syncs_no_directory_is_caught(tmp_path):
    (tmp_path / "file").write_bytes(OLD)
    calls = Recording(tmp_path)
    calls.unlink(tmp_path / "file")
    calls.mark("deleted")

    assert any("file" in s.files for s in crash_states(calls.journal) if s.marks)


def test_a_file_in_a_directory_that_was_lost_is_lost(tmp_path):
    calls = Recording(tmp_path)
    calls.mkdir(tmp_path / "folder")
    descriptor = write_whole(calls, tmp_path / "folder" / "file", NEW)
    calls.fdatasync(descriptor)
    calls.close(descriptor)
    calls.fsync_directory(tmp_path / "folder")
    calls.mark("synced, but for the name of the folder")
    calls.fsync_directory(tmp_path)
    calls.mark("synced")

    found = {(len(s.marks), s.files.get("folder/file")) for s in crash_states(calls.journal)}
    assert (1, None) in found
    assert {data for marks, data in found if marks == 2} == {NEW}


def test_trusted_files_change_at_marks_only(tmp_path):
    calls = Recording(tmp_path)
    calls.mark("first", {"data.mdb": b"1"})
    write_atomically(Files(calls), tmp_path / "file", NEW)
    calls.mark("second", {"data.mdb": b"2"})

    for state in crash_states(calls.journal):
        expected = (None, b"1", b"2")[len(state.marks)]
        assert state.files.get("data.mdb") == expected


def test_one_moment_can_be_asked_for_alone(tmp_path):
    calls = Recording(tmp_path)
    write_atomically(Files(calls), tmp_path / "file", NEW)
    moments = range(len(calls.journal.steps) + 1)
    alone = [state for step in moments for state in crash_states(calls.journal, step)]

    assert {s.step_count for s in alone} == set(moments)
    assert {frozenset(s.files.items()) for s in alone} == {
        frozenset(s.files.items()) for s in crash_states(calls.journal)
    }


def test_a_write_cut_short_by_a_kill_leaves_its_first_half():
    write = Write(Inode(1), 0, b"abcd")
    journal = Journal(steps=[Create("file", Inode(1)), write, SyncFile(Inode(1))])

    midway = [s for s in crash_states(journal) if s.kind == "killed midway"]
    assert [s.files for s in midway] == [{"file": b"ab"}]


NAMES = st.sampled_from(["a", "b", "c"])
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), NAMES, st.integers(0, 3000), st.binary(min_size=1)),
        st.tuples(st.just("truncate"), NAMES, st.integers(0, 3000)),
        st.tuples(st.just("allocate"), NAMES, st.integers(1, 3000)),
        st.tuples(st.just("punch"), NAMES, st.integers(0, 3000), st.integers(1, 3000)),
        st.tuples(st.just("sync"), NAMES),
        st.tuples(st.just("sync directory")),
        st.tuples(st.just("rename"), NAMES, NAMES),
        st.tuples(st.just("link"), NAMES, NAMES),
        st.tuples(st.just("unlink"), NAMES),
    ),
    max_size=12,
)


def perform(calls: Recording, root: Path, operation: tuple) -> None:
    """One operation on the real directory; those that cannot be done are passed over."""
    name, *arguments = operation
    paths = [root / argument for argument in arguments if isinstance(argument, str)]
    numbers = [argument for argument in arguments if isinstance(argument, int)]
    if name == "sync directory":
        calls.fsync_directory(root)
    elif name in {"write", "truncate", "allocate", "punch", "sync"}:
        descriptor = calls.open(paths[0], WRITABLE)
        if name == "write":
            calls.pwritev(descriptor, [arguments[2]], numbers[0])
        elif name == "truncate":
            calls.ftruncate(descriptor, numbers[0])
        elif name == "allocate":
            calls.allocate(descriptor, 0, numbers[0])
        elif name == "punch":
            calls.punch_hole(descriptor, *numbers)
        else:
            calls.fdatasync(descriptor)
        calls.close(descriptor)
    elif name == "unlink" and paths[0].exists():
        calls.unlink(paths[0])
    elif name == "link" and paths[0].exists() and not paths[1].exists():
        calls.link(*paths)
    # Renaming one name of a file over another of the same file does nothing at all.
    elif name == "rename" and paths[0].exists() and not same_file(*paths):
        calls.rename(*paths)


def same_file(first: Path, second: Path) -> bool:
    return second.exists() and first.samefile(second)


def sync_all(calls: Recording, root: Path) -> None:
    for path in root.iterdir():
        descriptor = calls.open(path, os.O_RDWR)
        calls.fdatasync(descriptor)
        calls.close(descriptor)
    calls.fsync_directory(root)


def content_of(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


@given(operations=OPERATIONS)
def test_killed_leaves_the_directory_as_it_really_was(operations):
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        calls = Recording(root)
        for operation in operations:
            perform(calls, root, operation)
        actual = content_of(root)

    killed = next(crash_states(calls.journal, len(calls.journal.steps)))
    assert killed.kind == "killed"
    assert killed.files == actual


@given(before=OPERATIONS, after=OPERATIONS)
def test_what_was_synced_and_not_touched_since_is_in_every_state(before, after):
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        calls = Recording(root)
        for operation in before:
            perform(calls, root, operation)
        sync_all(calls, root)
        touched = {word for operation in after for word in operation if isinstance(word, str)}
        safe = {
            path.name: path.read_bytes()
            for path in root.iterdir()
            # A name of a file with two names may change through the other one.
            if path.name not in touched and path.stat().st_nlink == 1
        }
        everything = content_of(root)
        synced = len(calls.journal.steps)
        for operation in after:
            perform(calls, root, operation)

    assert next(s.files for s in crash_states(calls.journal, synced)) == everything
    for moment in range(synced, len(calls.journal.steps) + 1):
        for state in crash_states(calls.journal, moment):
            assert safe.items() <= state.files.items(), state


def test_once_all_is_synced_only_one_state_is_left(tmp_path):
    calls = Recording(tmp_path)
    for operation in (("write", "a", 0, NEW), ("punch", "a", 0, 5), ("rename", "a", "b")):
        perform(calls, tmp_path, operation)
    sync_all(calls, tmp_path)

    states = list(crash_states(calls.journal, len(calls.journal.steps), reorderings=50))
    assert [state.files for state in states] == [{"b": bytes(5) + NEW[5:]}]
