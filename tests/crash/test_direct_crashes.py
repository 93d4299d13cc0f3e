"""Puts and completions stopped at every step on the disk, failed at every call, and killed.

Whatever is acknowledged is there when the store is opened again, the audit finds nothing
wrong, and the snapshot can be completed: it then holds exactly what was put.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from ebsim.catalog.direct_snapshot import CompletionRequest
from ebsim.catalog.snapshot import SnapshotState
from ebsim.durable_files import Files
from ebsim.engine.direct.block_access import BlockAccess
from ebsim.engine.direct.complete_direct_snapshot import complete_direct_snapshot
from ebsim.engine.direct.direct_map import held_puts
from ebsim.engine.direct.finish_direct_snapshot import settle_direct_snapshots
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.errors import EbsimError, StorageUnavailable
from ebsim.ids import SnapshotId
from ebsim.system_calls import SystemCalls
from tests.crash.faulty_calls import FaultyCalls
from tests.crash.recorded_store import open_small_store, quick_directory, recorded_store
from tests.crash.simulated_disk import CrashState, crash_states, materialise
from tests.engine.direct_snapshots import Plane, access_to
from tests.engine.store_audit import complaints_about
from tests.engine.stores import open_store
from tests.tidy.source_tree import ROOT

PARENT = {0: 1, 1: 2, 130: 3}
# Written again, written to what another block holds, and to what the parent has.
PUTS = [(1, 7), (5, 8), (1, 9), (6, 8), (130, 3), (1, 0)]


def begun(home: Path) -> SnapshotId:
    """A store with a completed parent and a child that is begun."""
    region = open_small_store(home, Random("begun"))
    with access_to(region) as access:
        plane = Plane(region, access)
        child = plane.start(plane.make(PARENT))
    region.close()
    return child


def whole(region: Region, child: SnapshotId, put: dict[int, int]) -> None:
    """Recover, audit, complete what is pending, and find exactly what was *put*."""
    recover(region)
    assert complaints_about(region) == []
    with access_to(region) as access:
        plane = Plane(region, access)
        if plane.show(child).state is SnapshotState.PENDING:
            plane.complete(child, len(put))
        assert plane.show(child).state is SnapshotState.COMPLETED
        assert plane.read(child) == PARENT | put
    assert complaints_about(region) == []


@pytest.mark.slow
def test_a_crash_at_any_step_of_a_put_loses_nothing_acknowledged(
    figure: Callable[[str], None],
) -> None:
    with quick_directory() as folder:
        home = folder / "home"
        child = begun(home)
        committed: list[tuple[int, tuple[int, int]]] = []
        with recorded_store(home, Random("puts")) as (region, recording, metadata):
            access = BlockAccess(region)
            for index, seed in PUTS:
                Plane(region, access).put(child, {index: seed})
                committed.append((len(metadata.catalogs) - 1, (index, seed)))
            access.close()
        count = 0
        for state in crash_states(recording.journal, reorderings=1):
            last = int(state.marks[-1]) if state.marks else 0
            expected = dict(put for mark, put in committed if mark <= last)
            examine(state, child, expected, folder / "crashed")
            count += 1
    figure(f"{count} crash states")
    assert count > 20


@pytest.mark.slow
def test_a_crash_at_any_step_of_a_completion_leaves_it_to_be_done(
    figure: Callable[[str], None],
) -> None:
    with quick_directory() as folder:
        home = folder / "home"
        child = begun(home)
        region = open_small_store(home, Random("puts"))
        with access_to(region) as access:
            for index, seed in PUTS:
                Plane(region, access).put(child, {index: seed})
        region.close()
        expected = dict(PUTS)
        with recorded_store(home, Random("complete")) as (region, recording, _):
            complete_direct_snapshot(region, child, CompletionRequest(len(expected)))
            assert settle_direct_snapshots(region).completed == [child]
        count = 0
        for state in crash_states(recording.journal, reorderings=2):
            examine(state, child, expected, folder / "crashed")
            count += 1
    figure(f"{count} crash states")
    assert count > 10


def examine(state: CrashState, child: SnapshotId, expected: dict[int, int], home: Path) -> None:
    home.mkdir()
    materialise(state, home)
    region = open_small_store(home, Random(str(state)))
    try:
        whole(region, child, expected)
    finally:
        region.close()
        shutil.rmtree(home)


@pytest.mark.slow
def test_a_put_whose_disk_fails_is_refused_or_durable() -> None:
    with quick_directory() as folder:
        child = begun(folder / "pristine")
        fail_call = 0
        while True:
            home = folder / "home"
            shutil.copytree(folder / "pristine", home)
            calls = FaultyCalls(SystemCalls(), fail_call, errno.EIO)
            put = put_with_failing_calls(home, child, calls)
            region = open_small_store(home, Random(fail_call))
            whole(region, child, put)
            region.close()
            shutil.rmtree(home)
            if not calls.fault_count:
                break
            fail_call += 1
        assert fail_call > 20


def put_with_failing_calls(home: Path, child: SnapshotId, calls: FaultyCalls) -> dict[int, int]:
    """Put until the end, each put once more if it failed; return what must be there."""
    put: dict[int, int] = {}
    with suppress(StorageUnavailable):
        region = open_small_store(home, Random("failing"), files=Files(calls))
        try:
            access = BlockAccess(region)
            for index, seed in PUTS[:4]:
                try:
                    Plane(region, access).put(child, {index: seed})
                except StorageUnavailable:
                    Plane(region, access).put(child, {index: seed})
                put[index] = seed
            access.close()
        finally:
            region.close()
    return put


@pytest.mark.slow
def test_a_completion_whose_disk_fails_can_be_done_later() -> None:
    with quick_directory() as folder:
        child = begun(folder / "pristine")
        region = open_small_store(folder / "pristine", Random("puts"))
        with access_to(region) as access:
            Plane(region, access).put(child, {1: 7, 200: 8})
        complete_direct_snapshot(region, child, CompletionRequest(2))
        region.close()
        fail_call = 0
        while True:
            home = folder / "home"
            shutil.copytree(folder / "pristine", home)
            calls = FaultyCalls(SystemCalls(), fail_call, errno.EIO)
            with suppress(EbsimError):
                region = open_small_store(home, Random("failing"), files=Files(calls))
                try:
                    settle_direct_snapshots(region)
                finally:
                    region.close()
            region = open_small_store(home, Random(fail_call))
            whole(region, child, {1: 7, 200: 8})
            region.close()
            shutil.rmtree(home)
            if not calls.fault_count:
                break
            fail_call += 1
        assert fail_call > 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_what_a_killed_server_acknowledged_is_there(tmp_path: Path, seed: int) -> None:
    """Four threads put; the process is killed in the middle; the snapshot is completed."""
    home = tmp_path / "home"
    child = begun(home)
    command = [sys.executable, "-m", "tests.crash.direct_process", str(home), child]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(10 + 17 * seed)]
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.readlines()
    acknowledged = {tuple(map(int, line.split())) for line in lines if line.endswith("\n")}
    assert len(acknowledged) >= 10
    region = open_store(home, random=Random(seed))
    recover(region)
    assert complaints_about(region) == []
    put = {one.place for one in held_puts(region, child)}
    with access_to(region) as access:
        plane = Plane(region, access)
        assert plane.complete(child, len(put)).state is SnapshotState.COMPLETED
        found = plane.read(child)
    assert acknowledged <= set(found.items())
    assert complaints_about(region) == []
    region.close()
