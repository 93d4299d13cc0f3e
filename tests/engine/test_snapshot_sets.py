"""Snapshots of several volumes at one instant."""

from pathlib import Path

import pytest

from ebsim.catalog.snapshot import SnapshotState
from ebsim.engine.check_store import check_store
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.freeze_commands import frozen_by
from ebsim.engine.open_volume import open_volume
from ebsim.engine.region import Region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.errors import Conflict, InvalidRequest
from ebsim.volumes.control import ControlClient
from tests.engine.live_disks import (
    OPTIONS,
    Disk,
    all_snapshots,
    another_volume,
    opened,
    restored,
    snap,
    writing_process,
)
from tests.engine.stores import BLOCK, block_bytes, write_disk


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
            assert not client.thaw(), "it went on when it was cut"
            busy.device.write_at(0, b"not frozen")
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
