"""Snapshots of live volumes, while others write, die, or get in the way."""

import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from ebsim.engine.check_store import check_store
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.list_volumes import show_volume
from ebsim.engine.live_cuts import find_target
from ebsim.engine.open_volume import open_volume, volume_folder
from ebsim.engine.region import Region
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.errors import Conflict, VolumeInUse
from ebsim.volumes.control import ControlClient
from tests.engine.interruptions import Interference
from tests.engine.live_disks import (
    OPTIONS,
    Disk,
    opened,
    restored,
    snap,
    writing_process,
)
from tests.engine.stores import BLOCK

PATIENCE = 30.0


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


def test_who_serves_a_volume_may_let_it_go_while_its_snapshot_is_uploaded(
    region: Region, disk: Disk, tmp_path: Path
) -> None:
    with ExitStack() as serving:
        volume = serving.enter_context(opened(region, disk))
        disk.write(volume.device, 20)
        at_the_cut = bytes(disk.bytes)

        def change_hands() -> None:
            serving.close()
            with opened(region, disk) as again:
                disk.write(again.device, 20)

        detaching = Interference(1, change_hands)
        taken = create_snapshot_set(region, [disk.volume_id], OPTIONS, detaching).snapshots
    assert restored(region, taken[0], tmp_path) == at_the_cut
    (after,) = snap(region, disk.volume_id)
    assert restored(region, after, tmp_path) == disk.bytes
    assert after.parent_id == taken[0].snapshot_id


def test_a_snapshot_thaws_only_what_it_froze(region: Region, disk: Disk) -> None:
    volume = show_volume(region, disk.volume_id)
    with ExitStack() as here, ExitStack() as conversations:
        cut = find_target(region, volume, here, conversations)
        with ControlClient(cut.folder) as other:
            other.freeze(PATIENCE)
            with pytest.raises(Conflict, match="frozen already"):
                cut.target.freeze(PATIENCE)
            assert not cut.target.thaw()
            assert other.thaw(), "it was frozen still"


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


def test_two_processes_cannot_have_one_volume(region: Region, disk: Disk) -> None:
    with (
        opened(region, disk),
        pytest.raises(VolumeInUse, match=f"process {os.getpid()}"),
        opened(region, disk),
    ):
        pass
