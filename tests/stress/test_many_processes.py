"""Many processes at work on one store, some of them killed: everything stays whole."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from ebsim.engine.list_snapshots import list_snapshots
from ebsim.engine.recovery import recover
from tests.crash.recorded_store import quick_directory
from tests.engine.store_audit import complaints_about
from tests.engine.stores import open_store, restored
from tests.tidy.source_tree import ROOT

pytestmark = pytest.mark.slow

Told = dict[str, list[list[str]]]


def start(home: Path, role: str, rounds: int, seed: int) -> subprocess.Popen[bytes]:
    """A process at work; it has opened the store when this returns."""
    arguments = [str(home), role, str(rounds), str(seed)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.stress.store_process", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # What a buffered reader had read ahead of this line, ``communicate`` would not see.
        bufsize=0,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n", process.communicate()[1]
    return process


def told_by(output: str) -> Told:
    """What a process told, by the first word of the line; a torn last line counts as well."""
    told: Told = {}
    for line in output.splitlines():
        word, *rest = line.split()
        told.setdefault(word, []).append(rest)
    return told


def finish(process: subprocess.Popen[bytes]) -> Told:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    return told_by(output.decode())


def kill_after(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Kill a process that has not ended by then."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.kill()


def examine(home: Path, told: list[Told], *, killed: bool) -> None:
    """The store is whole, has all that was acknowledged, and holds what was snapshotted."""
    region = open_store(home)
    try:
        recover(region)
        assert complaints_about(region) == []
        snapshots = {one.snapshot_id: one for one in list_snapshots(region).snapshots}
        took = {words[0] for one in told for words in one.get("took", [])}
        deleted = {words[0] for one in told for words in one.get("deleted", [])}
        deleting = {words[0] for one in told for words in one.get("deleting", [])}
        assert took - deleting <= snapshots.keys(), "acknowledged, and lost"
        assert not deleted & snapshots.keys(), "deleted, and back again"
        if not killed:
            assert took - deleted == snapshots.keys()
        for snapshot_id, snapshot in snapshots.items():
            digest = sha256(restored(region, snapshot_id, home.parent)).hexdigest()
            assert snapshot.description.endswith(digest), snapshot_id
    finally:
        region.close()


def test_five_processes_work_on_one_store(figure: Callable[[str], None]) -> None:
    with quick_directory() as folder:
        home = folder / "home"
        finish(start(home, "snapshot", 2, 1))
        roles = [("snapshot", 25), ("snapshot", 25), ("delete", 60), ("restore", 25),
                 ("compact", 15)]  # fmt: skip
        workers = [start(home, role, rounds, seed) for seed, (role, rounds) in enumerate(roles, 1)]
        told = [finish(worker) for worker in workers]
        first = open_store(home)
        before = {one.snapshot_id for one in list_snapshots(first).snapshots}
        first.close()
        assert before
        examine(home, told, killed=True)
    assert told[3].get("restored"), "nothing was restored meanwhile"
    waits = [[float(ms) for ms in one["waited"][0]] for one in told]
    figure(
        f"longest wait for a transaction {max(wait for wait, _ in waits):.0f} ms, "
        f"longest transaction {max(run for _, run in waits):.0f} ms"
    )


def test_killing_any_process_leaves_no_lock_behind(figure: Callable[[str], None]) -> None:
    seed = 20
    random = Random(seed)
    kill_count = 0
    with quick_directory() as folder:
        home = folder / "home"
        told = [finish(start(home, "snapshot", 3, 1))]
        for victim in ("snapshot", "delete", "restore", "compact"):
            other = start(home, "all", 8, 1)
            killed = start(home, victim, 100_000, 50 + kill_count)
            kill_after(killed, random.uniform(0.02, 0.3))
            told.append(told_by(killed.communicate(timeout=60)[0].decode()))
            kill_count += 1
            told.append(finish(other))
            examine(home, told, killed=True)
    figure(f"{kill_count} processes killed beside another, seed {seed}")


def test_kill_nine_at_any_time_loses_nothing(figure: Callable[[str], None]) -> None:
    seed = 9
    random = Random(seed)
    rounds = 52
    caught: dict[str, int] = {}
    with quick_directory() as folder:
        home = folder / "home"
        told: list[Told] = []
        for _ in range(rounds):
            process = start(home, "all", 100_000, 3)
            kill_after(process, random.uniform(0, 0.2))
            raw, errors = process.communicate(timeout=60)
            output = raw.decode()
            assert process.returncode == -9, errors
            told.append(told_by(output))
            last = output.split("\n")[-2].split()[0] if "\n" in output else "ready"
            caught[last] = caught.get(last, 0) + 1
            examine(home, told, killed=True)
    figure(f"{rounds} kills, seed {seed}, after: {dict(sorted(caught.items()))}")
    assert len(caught) > 2, "every kill hit the same place"
