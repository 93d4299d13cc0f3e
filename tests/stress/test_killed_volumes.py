"""The process that serves a volume is killed while it is written, again and again.

Every write that was answered is there, flushed or not, since the machine lives on; one
that was under way is there, or not, sector by sector.  Loading goes on where it was, though
the snapshot that the volume was made from is gone, and each snapshot is the volume.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

import numpy as np
import pytest

from ebsim.catalog.snapshot import Snapshot
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.list_snapshots import list_snapshots
from ebsim.engine.open_volume import volume_folder
from ebsim.engine.recovery import recover
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.errors import EbsimError
from ebsim.ids import VolumeId
from ebsim.volumes.control import ControlClient
from ebsim.waiting import wait_until
from tests.conftest import PROFILE
from tests.crash.recorded_store import quick_directory
from tests.engine.store_audit import complaints_about
from tests.engine.stores import KIB, MIB, open_store, restored, take
from tests.stress.numbered_sectors import (
    SECTOR,
    Numbers,
    Write,
    disk_of,
    numbers_in,
    sectors_that_may_not_be,
)
from tests.stress.written_volume import VolumeProcess, Writer

pytestmark = pytest.mark.slow

KILLS = 200 if PROFILE == "deep" else 8
SECTORS = 32 * MIB // SECTOR
UNTOUCHED = SECTORS // 2  # sectors that only the background brings
OPTIONS = SnapshotOptions(block_size=64 * KIB, thread_count=1)
PATIENCE = 120.0


class Scene:
    """A volume under attack, and what is known of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.region = open_store(folder / "home")
        image = folder / "image"
        numbers = np.arange(1, SECTORS + 1, dtype=np.uint64)
        numbers[SECTORS // 8 : SECTORS // 4] = 0
        image.write_bytes(disk_of(numbers))
        self.origin = take(self.region, image, OPTIONS)
        self.volume_id = create_volume(self.region, VolumeOptions(self.origin)).volume_id
        self.writer = Writer(numbers, UNTOUCHED, seed=1)
        self.in_flight: list[Write] = []
        self.present_bytes = 0
        self.random = Random(2)
        self.taken = 0

    def serve(self, rate_mib: int | None) -> VolumeProcess:
        return VolumeProcess(self.region.home, self.volume_id, rate_mib=rate_mib)

    def status(self) -> dict[str, object]:
        with ControlClient(volume_folder(self.region, VolumeId(self.volume_id))) as client:
            return client.status()

    def kill_while_written(self, *, snapshots: bool) -> None:
        """One life of the process that serves."""
        server = self.serve(rate_mib=2)
        client = server.connect()
        known = self.writer.known
        for write in self.in_flight:
            place = slice(write.first, write.first + write.count)
            found = client.read(write.first, write.count)
            shifted = [Write(0, write.count, write.number)]
            assert sectors_that_may_not_be(found, known[place], shifted) == []
            known[place] = found
        self.note_loaded()
        self.compare(self.snapshot())
        with self.snapshotting(client.in_flight) if snapshots else nothing():
            self.writer.write(client, self.random.randrange(1, 250))
            self.note_loaded()
            server.kill()
        self.in_flight = client.in_flight
        client.close()

    def note_loaded(self) -> None:
        """What has come here stays here, whoever is killed."""
        present = self.status()["present_bytes"]
        assert isinstance(present, int)
        assert present >= self.present_bytes
        self.present_bytes = present

    def snapshot(self) -> Snapshot:
        (snapshot,) = create_snapshot_set(self.region, [self.volume_id], OPTIONS).snapshots
        return snapshot

    def compare(self, snapshot: Snapshot) -> None:
        assert (self.numbers_of(snapshot) == self.writer.known).all()

    def numbers_of(self, snapshot: Snapshot) -> Numbers:
        self.taken += 1
        return numbers_in(restored(self.region, snapshot.snapshot_id, self.folder))

    @contextmanager
    def snapshotting(self, in_flight: list[Write]) -> Iterator[None]:
        """A snapshot is taken while the body runs: it fails, or is a moment of it."""
        known, sent_before = self.writer.known.copy(), len(self.writer.sent)
        with ThreadPoolExecutor(1) as pool:
            taking: Future[Snapshot] = pool.submit(self.snapshot)
            yield
        error = taking.exception()
        if error is not None:
            assert isinstance(error, EbsimError), error
            return
        writes = in_flight + self.writer.sent[sent_before:]
        assert sectors_that_may_not_be(self.numbers_of(taking.result()), known, writes) == []

    def end(self) -> None:
        """Let it load to the end, and look at everything once more."""
        server = self.serve(rate_mib=None)
        client = server.connect()
        assert wait_until(lambda: bool(self.status()["stands_alone"]), PATIENCE)
        found = client.read(0, SECTORS)
        assert sectors_that_may_not_be(found, self.writer.known, self.in_flight) == []
        self.writer.known = found
        client.close()
        server.end()
        self.compare(self.snapshot())
        self.clear_failed()

    def clear_failed(self) -> None:
        recover(self.region)
        listed = list_snapshots(self.region).snapshots
        delete_snapshots(self.region, [s.snapshot_id for s in listed if s.state == "error"])
        assert complaints_about(self.region) == []


@contextmanager
def nothing() -> Iterator[None]:
    yield


def test_kill_nine_while_a_volume_is_written_loses_no_write_that_was_answered(
    figure: Callable[[str], None],
) -> None:
    with quick_directory() as folder:
        scene = Scene(folder)
        try:
            for number in range(KILLS):
                scene.kill_while_written(snapshots=number % 2 == 1)
                if number == 0:
                    delete_snapshots(scene.region, [scene.origin])
            loaded_bytes = scene.present_bytes
            scene.end()
        finally:
            scene.region.close()
    figure(
        f"{KILLS} kills, {len(scene.writer.sent)} writes, {scene.taken} snapshots compared, "
        f"{loaded_bytes // MIB} of {SECTORS * SECTOR // MIB} MiB here at the last one"
    )
