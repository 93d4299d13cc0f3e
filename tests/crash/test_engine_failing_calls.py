"""Every verb, with every file call that it makes failing, and every transaction.

For each N: the N-th call fails, once or from there on, with EIO, with ENOSPC, or does half
of what it was asked.  The verb then succeeds or raises an error of one line; and a store
that is opened again recovers, passes the audit, and has every snapshot whole.
"""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from ebsim.durable_files import Files
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.errors import EbsimError, StorageFull, StorageUnavailable
from ebsim.metadata.transactions import Metadata, Reader, Transaction
from ebsim.system_calls import SystemCalls
from tests.conftest import PROFILE
from tests.crash.faulty_calls import Fault, FaultyCalls
from tests.crash.recorded_store import catalog_of, open_small_store, quick_directory
from tests.crash.scenes import SCENES, Scene, prepare
from tests.engine.store_audit import complaints_about
from tests.engine.stores import restored_even_from_bin

T = TypeVar("T")


class FaultyMetadata:
    """Metadata whose transaction *fail_run* (from 0) fails with *error*.

    With *took_effect* it is committed all the same, as when the disk fails between the
    commit and its report.
    """

    _inner: Metadata

    def __init__(self, fail_run: int, error: EbsimError, *, took_effect: bool) -> None:
        self.run_count = 0
        self._fail_run = fail_run
        self._error = error
        self._took_effect = took_effect

    def opened(self, home: Path) -> Region:
        """The store in *home*, its metadata failing."""
        region = open_small_store(home, Random(1))
        self._inner = region.metadata
        return replace(region, metadata=self)

    def read(self, fn: Callable[[Reader], T]) -> T:
        return self._inner.read(fn)

    def run(self, fn: Callable[[Transaction], T]) -> T:
        number = self.run_count
        self.run_count += 1
        if number == self._fail_run:
            if self._took_effect:
                self._inner.run(fn)
            raise self._error
        return self._inner.run(fn)

    def close(self) -> None:
        self._inner.close()


@dataclass(slots=True)
class Stage:
    """A scene, set up once, to be played on a copy each time."""

    scene: Scene
    folder: Path
    home: Path
    disk: Path
    contents: dict[str, bytes]

    def play(self, open_it: Callable[[Path], Region]) -> bool:
        """Play the verb on a store that *open_it* opens; return whether it succeeded."""
        home = self.folder / "played"
        shutil.copytree(self.home, home)
        disk = self.folder / "played.img"
        # The scene knows the disk by its path, which is that of the source volume.
        shutil.copyfile(self.disk, disk)
        contents = dict(self.contents)
        try:
            succeeded = self._attempt(home, contents, open_it)
            self._examine(home, contents)
        finally:
            shutil.move(disk, self.disk)
            shutil.rmtree(home)
        return succeeded

    def _attempt(
        self, home: Path, contents: dict[str, bytes], open_it: Callable[[Path], Region]
    ) -> bool:
        region = None
        failure = None
        try:
            region = open_it(home)
            self.scene.verb(region, self.disk, contents)
        except EbsimError as error:
            failure = str(error)
        finally:
            if region is not None:
                with suppress(StorageUnavailable):
                    region.close()
        assert failure is None or len(failure.splitlines()) == 1, failure
        return failure is None

    def _examine(self, home: Path, contents: dict[str, bytes]) -> None:
        region = open_small_store(home, Random("examine"))
        try:
            recover(region)
            assert complaints_about(region) == []
            catalog = catalog_of(region.metadata)
            assert set(contents) - set(self.contents) <= set(catalog), "acknowledged, and lost"
            for snapshot_id in catalog:
                expected = contents.get(snapshot_id) or self.disk.read_bytes()
                assert restored_even_from_bin(region, snapshot_id, self.folder) == expected
        finally:
            region.close()


@contextmanager
def staged(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr("ebsim.chunkstore.pack_writer.PACK_RECORDS_MAX", 12)
    with quick_directory() as folder:
        yield Stage(SCENES[name], folder, *prepare(SCENES[name], folder))


FAULTS = {
    "EIO once": (errno.EIO, Fault.ERROR, False),
    "EIO from there on": (errno.EIO, Fault.ERROR, True),
    "ENOSPC once": (errno.ENOSPC, Fault.ERROR, False),
    "ENOSPC from there on": (errno.ENOSPC, Fault.ERROR, True),
    "half done": (0, Fault.SHORT, False),
}


def stride_of(name: str) -> int:
    """Every call of the verbs that bring data in and take it out; every fifth of the others."""
    return 1 if PROFILE == "deep" or name.startswith(("create", "delete the")) else 5


@pytest.mark.slow
@pytest.mark.parametrize("fault_name", FAULTS)
@pytest.mark.parametrize("name", SCENES)
def test_a_file_call_that_fails_fails_the_verb_and_not_the_store(
    name: str, fault_name: str, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    error_number, fault, persistent = FAULTS[fault_name]
    with staged(name, monkeypatch) as stage:
        failure_count = 0
        play_count = 0
        for fail_call in range(0, 100_000, stride_of(name)):
            play_count += 1
            calls = FaultyCalls(
                SystemCalls(), fail_call, error_number, fault=fault, persistent=persistent
            )
            files = Files(calls)
            succeeded = stage.play(lambda home: open_small_store(home, Random(1), files=files))  # noqa: B023 (called at once)
            failure_count += not succeeded
            if calls.fault_count == 0:
                assert succeeded, "nothing failed but the verb"
                break
    figure(f"{play_count - 1} calls made to fail, {failure_count} failed the verb")
    assert (failure_count > 0) == (fault is Fault.ERROR), "short calls are made up for"


@pytest.mark.slow
@pytest.mark.parametrize("took_effect", [False, True])
@pytest.mark.parametrize("error", [StorageUnavailable("the disk broke"), StorageFull("no room")])
@pytest.mark.parametrize("name", SCENES)
def test_a_transaction_that_fails_fails_the_verb_and_not_the_store(
    name: str,
    error: EbsimError,
    took_effect: bool,
    monkeypatch: pytest.MonkeyPatch,
    figure: Callable[[str], None],
) -> None:
    with staged(name, monkeypatch) as stage:
        for fail_run in range(1000):
            failing = FaultyMetadata(fail_run, error, took_effect=took_effect)
            stage.play(failing.opened)
            if failing.run_count <= fail_run:
                break
    figure(f"{fail_run} transactions made to fail")
    assert fail_run > 0
