"""A store whose every step is recorded, the transactions of its metadata included.

After each transaction that changed something the journal gets a mark: LMDB's file as it is
then, and the number of the catalog that it holds.  LMDB is trusted to be atomic and durable,
so the metadata of a crash state is that of the last mark, and so is what must be found there.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import mkdtemp
from typing import TYPE_CHECKING, TypeVar

from ebsim.backends.local_directory import LocalDirectory
from ebsim.catalog.records import scan_volumes
from ebsim.catalog.snapshot import Snapshot, SnapshotState, decode_snapshot
from ebsim.clock import ManualClock
from ebsim.durable_files import Files
from ebsim.engine.region import Region
from ebsim.engine.reserve import Reserve
from ebsim.metadata.transactions import Metadata, Reader, Table, Transaction
from tests.crash.journal import Recording
from tests.crash.simulated_disk import CrashState
from tests.engine.stores import open_store

if TYPE_CHECKING:
    from ebsim.catalog.volume import Volume

T = TypeVar("T")

RESERVE_SIZE = 4096
"""Small: every crash state is written out with it."""

METADATA = "regions/test/metadata"


@contextmanager
def quick_directory() -> Iterator[Path]:
    """A directory in memory where there is one: a sync there costs nothing."""
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else None
    path = Path(mkdtemp(prefix="ebsim-crash-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def open_small_store(
    home: Path, random: Random, *, files: Files | None = None, clock: ManualClock | None = None
) -> Region:
    """A store with a reserve of one page, on a clock that stands still."""
    files = files or Files()
    region = open_store(home, files=files, random=random, clock=clock or ManualClock())
    reserve = Reserve(region.path / "reserve", files, RESERVE_SIZE)
    return replace(region, reserve=reserve)


def catalog_of(metadata: Metadata) -> dict[str, Snapshot]:
    """The completed snapshots."""

    def look(reader: Reader) -> list[Snapshot]:
        rows = reader.scan(Table.SNAPSHOTS, limit=1000)
        return [decode_snapshot(row) for _, row in rows]

    return {
        snapshot.snapshot_id: snapshot
        for snapshot in metadata.read(look)
        if snapshot.state is SnapshotState.COMPLETED
    }


class RecordedMetadata:
    """Metadata that marks each commit in a journal, and keeps the catalog as of each."""

    def __init__(self, inner: Metadata, home: Path, recording: Recording) -> None:
        self.catalogs: list[dict[str, Snapshot]] = []
        self.volumes: list[list[Volume]] = []
        self._inner = inner
        self._file = home / METADATA / "data.mdb"
        self._recording = recording
        self._last = b""
        self._mark()

    def read(self, fn: Callable[[Reader], T]) -> T:
        return self._inner.read(fn)

    def run(self, fn: Callable[[Transaction], T]) -> T:
        result = self._inner.run(fn)
        self._mark()
        return result

    def close(self) -> None:
        self._inner.close()

    def _mark(self) -> None:
        data = self._file.read_bytes()
        if data != self._last:
            self._last = data
            self._recording.mark(str(len(self.catalogs)), {f"{METADATA}/data.mdb": data})
            self.catalogs.append(catalog_of(self._inner))
            self.volumes.append(self._inner.read(scan_volumes))


@contextmanager
def recorded_store(
    home: Path, random: Random
) -> Iterator[tuple[Region, Recording, RecordedMetadata]]:
    """Open the store in *home*, made if it is missing, with every step recorded."""
    recording = Recording(home, ignored=(f"{METADATA}/lock.mdb",))
    files = Files(recording)
    region = open_small_store(home, random, files=files)
    metadata = RecordedMetadata(region.metadata, home, recording)
    chunks = type(region.chunks)(region.backend, metadata)
    region = replace(region, metadata=metadata, chunks=chunks)
    assert isinstance(region.backend, LocalDirectory)
    try:
        yield region, recording, metadata
    finally:
        region.close()


def expected_catalog(
    state: CrashState, catalogs: list[dict[str, Snapshot]]
) -> dict[str, Snapshot]:
    """The snapshots that must be found in *state*: those of the last commit before it."""
    return catalogs[int(state.marks[-1]) if state.marks else 0]
