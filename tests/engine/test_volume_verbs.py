"""Volumes copied, grown, and asked how they are."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from socket import AF_UNIX, socket

import pytest

from ebsim.engine.copy_volume import copy_volume
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.instances import attach_to_instance, create_instance
from ebsim.engine.list_volumes import list_volumes, show_volume
from ebsim.engine.open_volume import INITIALIZE, OpenedVolume, open_volume, volume_folder
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.resize_volume import resize_volume
from ebsim.engine.served_volume import ask_to_load
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.engine.volume_status import VolumeStatus, volume_status
from ebsim.errors import (
    InvalidRequest,
    StorageUnavailable,
    UnsupportedParameter,
    VolumeInUse,
    VolumeNotFound,
)
from ebsim.ids import VolumeId
from ebsim.units import GIB, MIB
from ebsim.volumes.control import ControlServer
from ebsim.volumes.volume_folder import VolumeFolder
from ebsim.waiting import wait_until
from tests.engine.stores import BLOCK, block_bytes, restored, take, write_disk

BLOCKS = 64
DISK = {index: block_bytes(index) for index in range(0, BLOCKS, 3)}
HERE = 5
"""Blocks that are brought here by writing them."""


@contextmanager
def opened(region: Region, volume_id: str, purpose: str = "test") -> Iterator[OpenedVolume]:
    with open_volume(region, VolumeId(volume_id), purpose, hydrates=False) as found:
        yield found


def read_all(region: Region, volume_id: str) -> bytes:
    with opened(region, volume_id) as found:
        buffer = bytearray(found.device.size_bytes)
        found.device.read_at(0, memoryview(buffer))
        return bytes(buffer)


def write(region: Region, volume_id: str, block_index: int, data: bytes) -> None:
    with opened(region, volume_id) as found:
        found.device.write_at(block_index * BLOCK, data)


def load_all(region: Region, volume_id: str) -> None:
    with open_volume(region, VolumeId(volume_id), INITIALIZE, hydrates=True) as found:
        assert found.hydrator is not None
        assert found.hydrator.wait(30)


def status(region: Region, volume_id: str) -> VolumeStatus:
    return volume_status(region, show_volume(region, volume_id))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_disk(tmp_path / "disk", BLOCKS * BLOCK, DISK)


@pytest.fixture
def lazy(region: Region, image: Path) -> str:
    """A volume of which the first blocks are here; its snapshot is deleted."""
    snapshot_id = take(region, image)
    volume_id = create_volume(region, VolumeOptions(snapshot=snapshot_id)).volume_id
    delete_snapshots(region, [snapshot_id])
    write(region, volume_id, 0, b"written" * (HERE * BLOCK // 7 + 1))
    return volume_id


# Copies


def test_a_copy_has_the_bytes_that_are_here_and_those_that_are_not(
    region: Region, lazy: str
) -> None:
    copy = copy_volume(region, lazy, tags={"of": "lazy"})
    assert copy.tags == {"of": "lazy"}
    assert read_all(region, copy.volume_id) == read_all(region, lazy)
    assert status(region, copy.volume_id).present_bytes == status(region, lazy).present_bytes


def test_a_copy_and_its_volume_go_separate_ways(region: Region, lazy: str) -> None:
    before = read_all(region, lazy)
    copy = copy_volume(region, lazy, tags={})
    write(region, copy.volume_id, 9, b"c" * BLOCK)
    assert read_all(region, lazy) == before
    write(region, lazy, 9, b"v" * BLOCK)
    assert read_all(region, copy.volume_id)[9 * BLOCK : 10 * BLOCK] == b"c" * BLOCK


def test_a_copy_needs_its_volume_no_more(region: Region, lazy: str) -> None:
    expected = read_all(region, lazy)
    copy = copy_volume(region, lazy, tags={})
    load_all(region, lazy)
    assert status(region, lazy).stands_alone
    assert not status(region, copy.volume_id).stands_alone
    assert read_all(region, copy.volume_id) == expected


def test_a_copy_of_a_volume_that_stands_alone_stands_alone(region: Region, lazy: str) -> None:
    load_all(region, lazy)
    copy = copy_volume(region, lazy, tags={})
    assert copy.origin is None
    assert read_all(region, copy.volume_id) == read_all(region, lazy)


def test_the_first_snapshot_of_a_copy_is_the_copy(
    region: Region, lazy: str, tmp_path: Path
) -> None:
    create_snapshot_set(region, [lazy], SnapshotOptions(thread_count=1))
    write(region, lazy, 20, b"later" * 100)
    copy = copy_volume(region, lazy, tags={})
    write(region, copy.volume_id, 30, b"only in the copy")
    (snapshot,) = create_snapshot_set(
        region, [copy.volume_id], SnapshotOptions(thread_count=1)
    ).snapshots
    assert restored(region, snapshot.snapshot_id, tmp_path) == read_all(region, copy.volume_id)


def test_a_copy_takes_no_room_for_what_is_not_written(region: Region) -> None:
    made = create_volume(region, VolumeOptions(size_gib=1024))
    write(region, made.volume_id, 0, b"x")
    copy = copy_volume(region, made.volume_id, tags={})
    assert status(region, copy.volume_id).allocated_bytes <= 16 * BLOCK
    assert copy.size_bytes == 1024 * GIB


def test_a_volume_that_is_open_is_not_copied(region: Region, lazy: str) -> None:
    with opened(region, lazy), pytest.raises(VolumeInUse, match=f"snapshot create {lazy}"):
        copy_volume(region, lazy, tags={})
    assert [volume.volume_id for volume in list_volumes(region) if volume.is_local] == [lazy]


def test_a_source_is_not_copied(region: Region, image: Path) -> None:
    take(region, image)
    (source,) = list_volumes(region)
    with pytest.raises(InvalidRequest, match="is a source"):
        copy_volume(region, source.volume_id, tags={})


# Growing


@pytest.mark.parametrize("is_open", [False, True])
def test_a_volume_grows_by_zeros(region: Region, lazy: str, is_open: bool) -> None:
    before = read_all(region, lazy)
    with opened(region, lazy) if is_open else nullcontext():
        assert resize_volume(region, lazy, 1).size_bytes == GIB
    with opened(region, lazy) as found:
        assert found.device.size_bytes == GIB
        buffer = bytearray(len(before) + 64 * BLOCK)
        found.device.read_at(0, memoryview(buffer))
    assert buffer == before + bytes(64 * BLOCK)
    assert show_volume(region, lazy).size_bytes == status(region, lazy).volume.size_bytes == GIB


def test_whoever_opens_a_volume_notes_the_size_that_a_crash_kept_from_the_catalog(
    region: Region, lazy: str
) -> None:
    with opened(region, lazy) as found:
        found.device.grow(GIB)
    assert show_volume(region, lazy).size_bytes == BLOCKS * BLOCK
    with opened(region, lazy) as found:
        assert found.volume.size_bytes == GIB
    assert show_volume(region, lazy).size_bytes == GIB


def test_a_volume_does_not_shrink(region: Region) -> None:
    made = create_volume(region, VolumeOptions(size_gib=2))
    with pytest.raises(UnsupportedParameter, match=r"cannot shrink to 1\.00 GiB"):
        resize_volume(region, made.volume_id, 1)
    assert show_volume(region, made.volume_id).size_bytes == 2 * GIB


def test_a_volume_of_the_size_asked_for_stays_as_it_is(region: Region) -> None:
    made = create_volume(region, VolumeOptions(size_gib=2))
    assert resize_volume(region, made.volume_id, 2) == made


@pytest.mark.parametrize("size_gib", [0, -1, 1 << 20])
def test_a_size_that_no_volume_can_have_is_refused(region: Region, size_gib: int) -> None:
    made = create_volume(region, VolumeOptions(size_gib=1))
    with pytest.raises(InvalidRequest, match="from 1 to 65536 GiB"):
        resize_volume(region, made.volume_id, size_gib)


def test_a_volume_that_is_not_there_does_not_grow(region: Region) -> None:
    with pytest.raises(VolumeNotFound):
        resize_volume(region, "vol-00000000000000000", 1)


# Status


def test_a_new_volume_has_nothing_here_and_nothing_written(region: Region, image: Path) -> None:
    made = create_volume(region, VolumeOptions(snapshot=take(region, image)))
    found = volume_status(region, made)
    assert (found.present_bytes, found.dirty_bytes, found.allocated_bytes) == (0, 0, 0)
    assert (found.state, found.loaded_percent, found.stands_alone) == ("available", 0, False)


def test_what_is_written_is_here_and_dirty_whoever_is_asked(region: Region, lazy: str) -> None:
    told = status(region, lazy)
    with opened(region, lazy):
        asked = status(region, lazy)
    for found in (told, asked):
        assert found.present_bytes == found.dirty_bytes == (HERE + 1) * BLOCK
        assert found.present_percent == (HERE + 1) * 100 // BLOCKS
    assert (told.pid, told.purpose) == (None, "")
    assert (asked.pid is not None, asked.purpose) == (True, "test")


def test_a_volume_that_was_loaded_is_all_here(region: Region, lazy: str) -> None:
    load_all(region, lazy)
    found = status(region, lazy)
    assert (found.present_bytes, found.loaded_percent) == (BLOCKS * BLOCK, 100)
    assert found.stands_alone


def test_a_snapshot_makes_what_was_written_clean(region: Region, lazy: str) -> None:
    create_snapshot_set(region, [lazy], SnapshotOptions(thread_count=1))
    assert status(region, lazy).dirty_bytes == 0


def test_after_an_unclean_end_of_the_machine_every_block_counts_as_written(
    region: Region, lazy: str
) -> None:
    folder = volume_folder(region, VolumeId(lazy))
    state = folder.load()
    folder.store(replace(state, boot="another"))
    assert status(region, lazy).dirty_bytes == BLOCKS * BLOCK


@pytest.mark.parametrize(
    ("purpose", "state"), [("attach", "in-use"), ("mount", "in-use"), (INITIALIZE, "available")]
)
def test_a_volume_is_in_use_while_somebody_has_it_for_its_bytes(
    region: Region, lazy: str, purpose: str, state: str
) -> None:
    with opened(region, lazy, purpose):
        assert status(region, lazy).state == state
    assert status(region, lazy).state == "available"


def test_a_volume_of_an_instance_is_in_use(region: Region, lazy: str) -> None:
    create_instance(region, "db")
    attach_to_instance(region, lazy, "db", "/dev/sdf")
    assert status(region, lazy).state == "in-use"


def test_how_far_loading_has_come_is_told_block_by_block(region: Region, image: Path) -> None:
    """All of the volume is one leaf of the block map, and its second block never comes."""
    made = create_volume(region, VolumeOptions(snapshot=take(region, image)))
    with open_volume(region, made.volume_id, "test", hydrates=True, rate=1) as found:
        hydrator = found.hydrator
        assert hydrator is not None
        assert wait_until(lambda: hydrator.progress().percent > 0, 30)
        told = status(region, made.volume_id)
    assert 0 < told.loaded_percent < 100
    assert told.seconds_left is not None
    assert told.seconds_left > 0
    assert (told.hydration, told.stands_alone) == ("running", False)


def test_a_volume_is_loaded_at_its_own_rate_unless_somebody_says_otherwise(
    region: Region, image: Path
) -> None:
    """At a byte a second it is not done before it is asked to go on."""
    options = VolumeOptions(snapshot=take(region, image), initialization_rate=7)
    volume_id = create_volume(region, options).volume_id
    with open_volume(region, volume_id, "test", hydrates=True, rate=1) as found:
        assert found.hydrator is not None
        assert found.hydrator.rate == 1
        assert ask_to_load(region, volume_id, None)
        assert found.hydrator.rate == 7 * MIB
    with open_volume(
        region, create_volume(region, options).volume_id, "test", hydrates=True
    ) as found:
        assert found.status()["mib_per_second"] == 7


def test_a_copy_has_no_rate(region: Region, image: Path) -> None:
    options = VolumeOptions(snapshot=take(region, image), initialization_rate=7)
    volume_id = create_volume(region, options).volume_id
    assert copy_volume(region, volume_id, tags={}).initialization_rate is None
    assert show_volume(region, volume_id).initialization_rate == 7


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_of_nothing_is_refused(region: Region, image: Path, rate: int) -> None:
    options = VolumeOptions(snapshot=take(region, image), initialization_rate=rate)
    with pytest.raises(InvalidRequest, match="1 or more"):
        create_volume(region, options)


@pytest.mark.parametrize("is_ending", [True, False])
def test_a_process_that_hangs_up_is_believed_only_if_it_is_ending(
    region: Region, image: Path, monkeypatch: pytest.MonkeyPatch, is_ending: bool
) -> None:
    """It takes its socket away before it lets go of those who are asking."""
    made = create_volume(region, VolumeOptions(snapshot=take(region, image)))
    folder = volume_folder(region, made.volume_id)
    monkeypatch.chdir(folder.path)  # a socket's path must be short
    with socket(AF_UNIX) as listening, ThreadPoolExecutor(1) as pool:
        listening.bind(folder.control_socket.name)
        listening.listen()

        def hang_up() -> None:
            asking, _ = listening.accept()
            asking.recv(100)
            if is_ending:
                folder.control_socket.unlink()
            asking.close()

        hanging_up = pool.submit(hang_up)
        with nullcontext() if is_ending else pytest.raises(StorageUnavailable):
            assert status(region, made.volume_id).state == "available"
        hanging_up.result()


def test_a_socket_that_cannot_be_made_leaves_the_volume_to_be_opened_later(
    region: Region, lazy: str
) -> None:
    folder = volume_folder(region, VolumeId(lazy))
    in_the_way = folder.control_socket
    in_the_way.mkdir()
    with pytest.raises(StorageUnavailable, match=r"control\.sock"), opened(region, lazy):
        pass
    in_the_way.rmdir()
    assert not folder.serving.exists()
    recover(region)
    with opened(region, lazy) as found:
        assert status(region, lazy).pid == found.facts["pid"]


def test_a_socket_that_cannot_be_bound_is_said_to_be_the_reason(region: Region, lazy: str) -> None:
    """Nobody, not even root, makes a file in that directory."""
    nowhere = VolumeFolder(region.files, Path("/proc/self/fdinfo"))
    with opened(region, lazy) as found:
        server = ControlServer(nowhere, found.device, {})
        with pytest.raises(StorageUnavailable, match=r"cannot listen on /proc.*control\.sock"):
            server.start()


def test_which_blocks_are_here_is_known_again_however_far_apart_they_are(
    region: Region, tmp_path: Path
) -> None:
    """A million blocks: their bits are read, and stored, in several pieces."""
    borders = [0, 7, (1 << 19) - 1, 1 << 19, 900_000, (1 << 20) + 4]
    block_count = (1 << 20) + 5
    sparse = write_disk(tmp_path / "sparse", block_count * BLOCK, {2: block_bytes(2)})
    volume_id = create_volume(region, VolumeOptions(snapshot=take(region, sparse))).volume_id
    for index in borders:
        write(region, volume_id, index, block_bytes(index))
    with opened(region, volume_id) as found:
        absent = found.device.absent_runs(0, block_count)
        here = block_count - sum(stop - start for start, stop in absent)
        assert here == len(borders) == found.device.present_count()
        for index in borders:
            buffer = bytearray(BLOCK)
            found.device.read_at(index * BLOCK, memoryview(buffer))
            assert buffer == block_bytes(index)
