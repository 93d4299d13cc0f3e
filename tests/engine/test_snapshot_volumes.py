"""Snapshots of live volumes: alone, in sets, while others write, die, or get in the way."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from ebsim.catalog.records import scan_snapshots
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.engine.check_store import check_store
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.freeze_commands import frozen_by
from ebsim.engine.open_volume import OpenedVolume, open_volume, volume_folder
from ebsim.engine.region import Region
from ebsim.engine.restore_snapshot import restore_snapshot
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.errors import Conflict, InvalidRequest, VolumeInUse
from ebsim.ids import VolumeId
from ebsim.volumes.control import ControlClient
from ebsim.volumes.live_volume import LiveVolume
from tests.engine.stores import BLOCK, block_bytes, open_store, take, write_disk

BLOCKS = 200
OPTIONS = SnapshotOptions(thread_count=2)


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Region]:
    opened = open_store(tmp_path / "home")
    yield opened
    opened.close()


class Disk:
    """A volume made from a snapshot of an image, and what it should hold."""

    def __init__(self, region: Region, folder: Path) -> None:
        image = write_disk(
            folder / "image", BLOCKS * BLOCK, {i: block_bytes(i) for i in range(0, BLOCKS, 2)}
        )
        self.snapshot_id = take(region, image)
        self.volume_id = create_volume(region, VolumeOptions(self.snapshot_id)).volume_id
        self.bytes = bytearray(image.read_bytes())
        self._random = Random(5)

    def write(self, device: LiveVolume, count: int = 10) -> None:
        for _ in range(count):
            data = self._random.randbytes(self._random.choice([10, BLOCK, 3 * BLOCK]))
            at = self._random.randrange(len(self.bytes) - len(data))
            device.write_at(at, data)
            self.bytes[at : at + len(data)] = data


@pytest.fixture
def disk(region: Region, tmp_path: Path) -> Disk:
    return Disk(region, tmp_path)


def restored(region: Region, snapshot: Snapshot, folder: Path) -> bytes:
    target = folder / f"restored-{snapshot.snapshot_id}"
    restore_snapshot(region, snapshot.snapshot_id, str(target))
    return target.read_bytes()


def snap(region: Region, *names: str) -> list[Snapshot]:
    return create_snapshot_set(region, names, OPTIONS).snapshots


def all_snapshots(region: Region) -> list[Snapshot]:
    rows = region.metadata.read(
        lambda reader: scan_snapshots(reader, owner_id=region.account_id, limit=100)
    )
    return [snapshot for _, snapshot in rows]


@contextmanager
def opened(region: Region, disk: Disk) -> Iterator[OpenedVolume]:
    with open_volume(region, disk.volume_id, "test", hydrates=False) as volume:
        yield volume


def test_a_volume_nobody_has_open_is_snapshotted(
    region: Region, disk: Disk, tmp_path: Path
) -> None:
    with opened(region, disk) as volume:
        disk.write(volume.device)
        dirty = volume.device.dirty_count()
    (first,) = snap(region, disk.volume_id)
    assert restored(region, first, tmp_path) == disk.bytes
    assert 0 < first.changed_block_count <= dirty
    assert first.parent_id == disk.snapshot_id
    (second,) = snap(region, disk.volume_id)
    assert second.changed_block_count == 0
    assert second.parent_id == first.snapshot_id
    assert check_store(region).findings == []


def test_only_dirty_blocks_are_read(region: Region, disk: Disk) -> None:
    snap(region, disk.volume_id)
    with opened(region, disk) as volume:
        volume.device.write_at(7 * BLOCK + 5, b"new")
        watched = _Watched()
        create_snapshot_set(region, [disk.volume_id], OPTIONS, watched)
    assert watched.bytes_read == BLOCK


class _Watched:
    def __init__(self) -> None:
        self.bytes_read = 0

    def begin(self, what: str, total_bytes: int | None) -> None:
        del what, total_bytes

    def advance(self, size_bytes: int) -> None:
        self.bytes_read += size_bytes

    def end(self) -> None:
        return


def test_the_origin_may_be_deleted_and_every_block_still_arrives(
    region: Region, disk: Disk, tmp_path: Path
) -> None:
    delete_snapshots(region, [disk.snapshot_id])
    with opened(region, disk) as volume:
        disk.write(volume.device)
        (first,) = snap(region, disk.volume_id)
        buffer = memoryview(bytearray(len(disk.bytes)))
        volume.device.read_at(0, buffer)
        assert buffer == disk.bytes
    assert restored(region, first, tmp_path) == disk.bytes
    assert check_store(region).findings == []


def test_when_the_last_snapshot_is_gone_every_block_here_is_compared(
    region: Region, disk: Disk, tmp_path: Path
) -> None:
    with opened(region, disk) as volume:
        disk.write(volume.device)
        (first,) = snap(region, disk.volume_id)
        disk.write(volume.device)
        delete_snapshots(region, [first.snapshot_id])
        (second,) = snap(region, disk.volume_id)
    assert restored(region, second, tmp_path) == disk.bytes


def test_a_volume_that_stands_alone_goes_on_from_its_newest_snapshot(
    region: Region, disk: Disk, tmp_path: Path
) -> None:
    with open_volume(region, disk.volume_id, "test", hydrates=True) as volume:
        assert volume.hydrator is not None
        assert volume.hydrator.wait(30)
        disk.write(volume.device)
        (first,) = snap(region, disk.volume_id)
        disk.write(volume.device)
        (second,) = snap(region, disk.volume_id)
        disk.write(volume.device)
        delete_snapshots(region, [disk.snapshot_id, second.snapshot_id])
        (third,) = snap(region, disk.volume_id)
    assert third.parent_id == first.snapshot_id
    assert restored(region, third, tmp_path) == disk.bytes


def test_after_an_unclean_end_of_the_machine_every_block_is_compared(
    region: Region, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snap(region, disk.volume_id)
    with opened(region, disk) as volume:
        disk.write(volume.device)
        volume.device.flush()
        # What is in the page cache alone is lost with the machine.
        folder = volume_folder(region, disk.volume_id)
        saved = {p: p.read_bytes() for p in folder.path.iterdir() if p.is_file()}
    for path, data in saved.items():
        if path.name not in ("dirty", "present.live", "serving.json"):
            path.write_bytes(data)
    for name in ("dirty", "present.live"):
        (folder.path / name).unlink(missing_ok=True)
    monkeypatch.setattr("ebsim.engine.open_volume.current_boot", lambda: "another boot")
    (after,) = snap(region, disk.volume_id)
    assert restored(region, after, tmp_path) == disk.bytes


def test_writes_go_on_while_the_cut_is_uploaded(
    region: Region, disk: Disk, tmp_path: Path
) -> None:
    with opened(region, disk) as volume:
        disk.write(volume.device, 40)
        at_the_cut = bytes(disk.bytes)
        ended = threading.Event()
        reached = threading.Event()

        def scribble() -> None:
            while not ended.is_set():
                if volume.device.dirty_count() == 0 or reached.is_set():
                    # The cut has been made: what is written now must not be in it.
                    reached.set()
                    disk.write(volume.device, 1)

        writer = threading.Thread(target=scribble)
        writer.start()
        try:
            (first,) = snap(region, disk.volume_id)
        finally:
            ended.set()
            writer.join()
        assert restored(region, first, tmp_path) == at_the_cut
        (second,) = snap(region, disk.volume_id)
        assert restored(region, second, tmp_path) == disk.bytes


@contextmanager
def writing_process(region: Region, names: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that has the volumes *names* open and writes a rising number to each in turn."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.engine.volume_process", str(region.home), *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def another_volume(region: Region, disk: Disk) -> VolumeId:
    return create_volume(region, VolumeOptions(disk.snapshot_id)).volume_id


def test_a_set_holds_a_prefix_of_what_was_written_across_volumes(
    region: Region, disk: Disk, tmp_path: Path
) -> None:
    names = [disk.volume_id, another_volume(region, disk)]
    newest = 0
    with writing_process(region, names):
        for _ in range(12):
            taken = create_snapshot_set(region, names, OPTIONS)
            first, second = (
                int.from_bytes(restored(region, s, tmp_path)[:8], "little")
                for s in taken.snapshots
            )
            # The number goes to the first volume, then to the second.
            assert first - second in (0, 1)
            assert first >= newest
            newest = first
    assert newest > 0
    assert check_store(region).findings == []


def test_snapshots_one_after_the_other_are_no_set(
    region: Region, disk: Disk, tmp_path: Path
) -> None:
    names = [disk.volume_id, another_volume(region, disk)]
    torn = False
    with writing_process(region, names):
        for _ in range(10):
            (second,) = snap(region, names[1])
            (first,) = snap(region, names[0])
            numbers = [
                int.from_bytes(restored(region, s, tmp_path)[:8], "little")
                for s in (first, second)
            ]
            torn = torn or numbers[0] - numbers[1] > 1
            if torn:
                break
    assert torn, "the test of sets must be able to fail"


def test_killing_the_process_that_serves_while_it_is_cut_loses_nothing(
    region: Region, disk: Disk, tmp_path: Path
) -> None:
    name = disk.volume_id
    for _ in range(3):
        with writing_process(region, [name]) as process:
            snap(region, name)
            process.send_signal(signal.SIGKILL)
        (after,) = snap(region, name)
        with open_volume(region, name, "test", hydrates=False) as volume:
            buffer = memoryview(bytearray(volume.device.size_bytes))
            volume.device.read_at(0, buffer)
            assert restored(region, after, tmp_path) == buffer
            assert volume.device.dirty_count() == 0


def test_killing_the_process_that_takes_the_snapshot_makes_its_blocks_dirty_again(
    region: Region, disk: Disk, tmp_path: Path
) -> None:
    with opened(region, disk) as volume:
        disk.write(volume.device, 30)
        dirty = volume.device.dirty_count()
        child = os.fork()
        if child == 0:
            # Dies in the middle of the upload: after the cut, before it is completed.
            client = ControlClient(volume.folder)
            client.prepare_cut("snap-00000000000000001", None)
            client.freeze(5.0)
            client.make_cut("snap-00000000000000001", dirty_only=False)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        disk.write(volume.device, 5)  # thawed by the end of the conversation
        assert volume.device.dirty_count() >= dirty
        (after,) = snap(region, disk.volume_id)
        assert restored(region, after, tmp_path) == disk.bytes


def test_a_set_fails_as_one(region: Region, disk: Disk) -> None:
    other = another_volume(region, disk)
    with opened(region, disk) as volume:
        disk.write(volume.device)
        dirty = volume.device.dirty_count()
        # Somebody else's snapshot of the second volume is under way.
        with (
            open_volume(region, other, "test", hydrates=False) as busy,
            ControlClient(busy.folder) as client,
        ):
            client.prepare_cut("snap-00000000000000002", None)
            client.freeze(1.0)
            client.make_cut("snap-00000000000000002", dirty_only=False)
            client.thaw()
            with pytest.raises(Conflict, match="is being taken"):
                snap(region, disk.volume_id, other)
        assert volume.device.dirty_count() == dirty
        volume.device.write_at(0, b"not frozen")
    assert sorted(snapshot.state for snapshot in all_snapshots(region)) == [
        SnapshotState.COMPLETED,
        SnapshotState.ERROR,
        SnapshotState.ERROR,
    ]
    assert check_store(region).findings == []


def test_a_freeze_that_is_held_too_long_is_ended_and_fails_the_cut(
    region: Region, disk: Disk
) -> None:
    with opened(region, disk) as volume, ControlClient(volume.folder) as client:
        client.prepare_cut("snap-00000000000000003", None)
        client.freeze(1.0, held_seconds_max=0.01)
        volume.device.write_at(0, b"goes on by itself")
        with pytest.raises(Conflict, match="too long"):
            client.make_cut("snap-00000000000000003", dirty_only=False)
        assert not client.thaw()


def test_an_image_is_in_a_set_only_if_somebody_holds_it_still(
    region: Region, disk: Disk, tmp_path: Path
) -> None:
    image = write_disk(tmp_path / "other", 10 * BLOCK, {1: block_bytes(1)})
    with pytest.raises(InvalidRequest, match="--freeze-command"):
        snap(region, disk.volume_id, str(image))
    log = tmp_path / "log"

    def held() -> object:
        return frozen_by(f"sh -c 'echo freeze >> {log}'", f"sh -c 'echo thaw >> {log}'")

    options = SnapshotOptions(thread_count=1)
    taken = create_snapshot_set(region, [str(image)], options, held=held)  # type: ignore[arg-type]
    assert log.read_text() == "freeze\nthaw\n"
    assert restored(region, taken.snapshots[0], tmp_path) == image.read_bytes()


def test_a_command_that_fails_to_freeze_thaws_and_fails_the_set(
    region: Region, disk: Disk, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with pytest.raises(Conflict, match="false ended with code 1"):
        create_snapshot_set(
            region,
            [disk.volume_id],
            OPTIONS,
            held=lambda: frozen_by("false", f"sh -c 'echo thaw >> {log}'"),
        )
    assert log.read_text() == "thaw\n"
    with pytest.raises(Conflict, match="run the command yourself"):
        create_snapshot_set(
            region, [disk.volume_id], OPTIONS, held=lambda: frozen_by("true", "false")
        )


def test_what_cannot_be_in_a_set_is_refused_by_name(region: Region, disk: Disk) -> None:
    with pytest.raises(InvalidRequest, match="named twice"):
        snap(region, disk.volume_id, disk.volume_id)
    other_size = SnapshotOptions(block_size=2 * BLOCK)
    with pytest.raises(InvalidRequest, match="block size"):
        create_snapshot_set(region, [disk.volume_id], other_size)


def test_two_processes_cannot_have_one_volume(region: Region, disk: Disk) -> None:
    with (
        opened(region, disk),
        pytest.raises(VolumeInUse, match=f"process {os.getpid()}"),
        opened(region, disk),
    ):
        pass


def test_a_failed_snapshot_is_listed_and_can_be_deleted(region: Region, disk: Disk) -> None:
    with pytest.raises(Conflict):
        create_snapshot_set(
            region, [disk.volume_id], OPTIONS, held=lambda: frozen_by("true", "false")
        )
    failed = [s for s in all_snapshots(region) if s.state is SnapshotState.ERROR]
    assert [s.state_message for s in failed] == [
        "false ended with code 1. What was frozen may be frozen still: run the command yourself."
    ]
    delete_snapshots(region, [s.snapshot_id for s in failed])
    assert [s.snapshot_id for s in all_snapshots(region)] == [disk.snapshot_id]
    assert check_store(region).findings == []
