"""Real NBD clients on a volume that is loaded while they use it, and snapshotted meanwhile."""

import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import pytest

from ebsim.attach.nbd_export import Export
from ebsim.attach.nbd_server import NbdServer
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.open_volume import OpenedVolume, open_volume
from ebsim.engine.region import Region, open_region
from ebsim.engine.restore_snapshot import restore_snapshot
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.ids import AccountId
from tests.tools import lacking, require_tool, run

KIB, MIB = 1 << 10, 1 << 20
SIZE = 24 * MIB
BLOCK = 64 * KIB
OPTIONS = SnapshotOptions(block_size=BLOCK, thread_count=1)


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Region]:
    with closing(open_region(tmp_path / "home", "test", AccountId("123456789012"))) as opened:
        yield opened


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Random bytes, a hole, and zeros that are no hole."""
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.write(Random(3).randbytes(10 * MIB))
        file.seek(16 * MIB)
        file.write(Random(4).randbytes(4 * MIB) + bytes(4 * MIB))
    return path


@contextmanager
def attached(region: Region, image: Path, *, hydrates: bool) -> Iterator[tuple[OpenedVolume, str]]:
    """A new volume of a snapshot of *image*, open and served; and its URI."""
    snapshot = create_snapshot(region, str(image), OPTIONS)
    volume_id = create_volume(region, VolumeOptions(snapshot.snapshot_id)).volume_id
    folder = Path(tempfile.mkdtemp(prefix="ebsim-"))  # a socket's path must be short
    try:
        with open_volume(region, volume_id, "test", hydrates=hydrates) as opened:
            export = Export(volume_id, "", opened.device, False, BLOCK)
            server = NbdServer(lambda: [export])
            try:
                server.listen_unix(folder / "s")
                server.start()
                yield opened, server.uris(volume_id)[0]
            finally:
                server.stop()
    finally:
        shutil.rmtree(folder)


def snapped(region: Region, volume_id: str, target: Path) -> bytes:
    """What a snapshot holds that is taken now."""
    (snapshot,) = create_snapshot_set(region, [volume_id], OPTIONS).snapshots
    restore_snapshot(region, snapshot.snapshot_id, str(target), force=True)
    return target.read_bytes()


def content(opened: OpenedVolume) -> bytes:
    buffer = bytearray(SIZE)
    opened.device.read_at(0, memoryview(buffer))
    return bytes(buffer)


@pytest.mark.parametrize("hydrates", [False, True])
def test_nbdcopy_copies_what_is_not_here_yet(
    region: Region, image: Path, tmp_path: Path, hydrates: bool
) -> None:
    nbdcopy = require_tool("nbdcopy", package="libnbd-bin")
    with attached(region, image, hydrates=hydrates) as (_, uri):
        run(nbdcopy, "--connections=4", uri, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == image.read_bytes()


def test_qemu_img_sees_the_holes_of_what_is_not_here_and_compares_equal(
    region: Region, image: Path
) -> None:
    qemu_img = require_tool("qemu-img", package="qemu-utils")
    with attached(region, image, hydrates=False) as (_, uri):
        mapped = json.loads(run(qemu_img, "map", "--output=json", "-f", "raw", uri))
        run(qemu_img, "compare", "-f", "raw", "-F", "raw", uri, image)
    holes = [(piece["start"], piece["length"]) for piece in mapped if piece["zero"]]
    assert holes == [(10 * MIB, 6 * MIB), (20 * MIB, 4 * MIB)]


def test_nbdinfo_sees_what_was_written_since_the_last_snapshot(
    region: Region, image: Path, tmp_path: Path
) -> None:
    nbdinfo = require_tool("nbdinfo", package="libnbd-bin")
    qemu_io = require_tool("qemu-io", package="qemu-utils")

    def dirty(uri: str) -> list[tuple[int, int]]:
        told = json.loads(run(nbdinfo, "--map=ebsim:dirty", "--json", uri))
        return [(piece["offset"], piece["length"]) for piece in told if piece["type"] == 1]

    with attached(region, image, hydrates=False) as (opened, uri):
        assert dirty(uri) == []
        run(qemu_io, "-f", "raw", "-c", f"write -P 5 {12 * MIB + 5} 100", uri)
        assert dirty(uri) == [(12 * MIB, BLOCK)]
        expected = content(opened)
        assert snapped(region, opened.volume.volume_id, tmp_path / "restored") == expected
        assert dirty(uri) == []
    assert expected[12 * MIB : 12 * MIB + 106] == bytes(5) + b"\5" * 100 + b"\0"


@pytest.mark.slow
def test_fio_finds_what_it_wrote_while_the_volume_is_loaded_and_snapshotted(
    region: Region, image: Path, tmp_path: Path
) -> None:
    """Writes of every size go over blocks that are here, or not, or being preserved."""
    fio = require_tool("fio", package="fio")
    if "nbd" not in run(fio, "--enghelp").split():
        lacking("fio was built without its nbd engine")
    with attached(region, image, hydrates=True) as (opened, uri):
        volume_id = opened.volume.volume_id
        ended = threading.Event()
        failures: list[BaseException] = []
        taken = 0

        def snapshot_again_and_again() -> None:
            nonlocal taken
            try:
                while not ended.is_set():
                    create_snapshot_set(region, [volume_id], OPTIONS)
                    taken += 1
            except BaseException as error:  # noqa: BLE001 - told by the test itself
                failures.append(error)

        snapshots = threading.Thread(target=snapshot_again_and_again)
        snapshots.start()
        try:
            done = subprocess.run(
                [fio, "--name=verify", "--ioengine=nbd", f"--uri={uri}", f"--size={SIZE}",
                 "--rw=randrw", "--bsrange=512-256k", "--blockalign=512", "--iodepth=16",
                 "--verify=crc32c", "--verify_fatal=1", "--fsync=64", "--randseed=1"],
                capture_output=True, text=True, check=False, cwd=tmp_path,
            )  # fmt: skip
        finally:
            ended.set()
            snapshots.join()
        assert done.returncode == 0, done.stdout + done.stderr
        assert failures == []
        assert taken > 0
        expected = content(opened)
        assert snapped(region, volume_id, tmp_path / "restored") == expected
        assert opened.folder.cuts() == []
