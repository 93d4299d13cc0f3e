"""The file system of a store goes away under a volume that others use.

The volume's own files lie on another one.  What is here is served on, what is not is an
error, never wrong bytes; and when the store is back, what was answered is there.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ebsim.engine.check_store import check_store
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.open_volume import open_volume
from ebsim.engine.recovery import recover
from ebsim.ids import VolumeId
from tests.engine.lost_disk_process import ANSWERED, BLOCKS, PRESENT, WRITTEN
from tests.engine.stores import BLOCK, MIB, block_bytes, open_store, take, write_disk
from tests.tidy.source_tree import ROOT
from tests.tools import require_root, require_tool, run

pytestmark = [pytest.mark.xdist_group("loop_devices"), pytest.mark.slow]


class LosableStore:
    """A store on a file system of its own, and a volume whose files lie on another."""

    def __init__(self, folder: Path) -> None:
        self.image = folder / "disk.img"
        self.disk = folder / "disk"
        self.home = self.disk / "home"
        self._volumes = folder / "volumes"
        self._kept = folder / "kept.img"
        self.disk.mkdir()
        self._volumes.mkdir()
        with self.image.open("wb") as file:
            file.truncate(64 * MIB)
        run("mkfs.ext4", "-q", self.image)
        run("mount", "-o", "loop", self.image, self.disk)
        source = write_disk(
            folder / "source", BLOCKS * BLOCK, {i: block_bytes(i) for i in range(BLOCKS)}
        )
        self.contents = bytearray(source.read_bytes())
        with closing(open_store(self.home)) as region:
            (region.path / "volumes").mkdir(exist_ok=True)
            self._volumes_of_home = region.path / "volumes"
            run("mount", "--bind", self._volumes, self._volumes_of_home)
            made = create_volume(region, VolumeOptions(take(region, source)))
            self.volume_id = VolumeId(made.volume_id)
        # Nothing of the store is in memory afterwards.
        self.let_go()
        shutil.copy(self.image, self._kept)
        self.bring_back()

    def bring_back(self) -> None:
        run("mount", "-o", "loop", self.image, self.disk)
        run("mount", "--bind", self._volumes, self._volumes_of_home)

    def let_go(self) -> None:
        run("umount", self._volumes_of_home)
        run("umount", self.disk)

    def lose_its_bytes(self) -> None:
        """Have the disk answer every read with an error."""
        os.truncate(self.image, 0)

    def get_its_bytes_back(self) -> None:
        self.let_go()
        shutil.copy(self._kept, self.image)
        self.bring_back()

    def unmount(self) -> None:
        run("umount", "-l", self._volumes_of_home)
        run("umount", "-l", self.disk)

    def move_away(self) -> None:
        self.home.rename(self.disk / "elsewhere")

    def move_back(self) -> None:
        (self.disk / "elsewhere").rename(self.home)

    def serving(self) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "tests.engine.lost_disk_process"]
        return subprocess.Popen(
            [*words, self.home, self.volume_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LosableStore]:
    require_root()
    require_tool("mkfs.ext4", package="e2fsprogs")
    try:
        yield LosableStore(tmp_path)
    finally:
        for point in (tmp_path / "disk/home/regions/test/volumes", tmp_path / "disk"):
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)


def serve_through(store: LosableStore, loss: Callable[[], None]) -> tuple[int, list[str]]:
    """Lose the disk while a process has the volume open: how it ended, and what it told."""
    with store.serving() as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        loss()
        output, _ = process.communicate("go on\n", timeout=300)
    return process.returncode, output.splitlines()


def assert_whole(store: LosableStore) -> None:
    """Nothing that was answered is lost, now that the store is back."""
    store.contents[WRITTEN * BLOCK : (WRITTEN + 1) * BLOCK] = ANSWERED
    with closing(open_store(store.home)) as region:
        recover(region)
        with open_volume(region, store.volume_id, "test", hydrates=False) as opened:
            found = bytearray(len(store.contents))
            opened.device.read_at(0, memoryview(found))
        assert found == store.contents
        assert check_store(region, read_data=True).findings == []


def test_what_a_disk_does_not_give_any_more_is_an_error_and_what_is_here_is_served(
    store: LosableStore,
) -> None:
    """Or the process ends: LMDB reads through a mapping, and a page that cannot be read
    from its file is a signal there.
    """
    ending, told = serve_through(store, store.lose_its_bytes)
    assert told[:2] == ["flushed", f"{PRESENT} whole"]
    outcomes = {line.split()[1] for line in told if " " in line}
    assert outcomes <= {"whole", "StorageUnavailable"}
    if ending != -signal.SIGBUS:
        assert (ending, told[-1]) == (0, "read")
        assert "StorageUnavailable" in outcomes
    store.get_its_bytes_back()
    assert_whole(store)


@pytest.mark.parametrize("how", ["unmounted lazily", "moved away"])
def test_a_store_that_is_gone_by_name_is_read_on_and_the_end_is_told(
    store: LosableStore, how: str
) -> None:
    """What is open stays open; the volume cannot be closed cleanly, and is whole."""
    lose, find = {
        "unmounted lazily": (store.unmount, store.bring_back),
        "moved away": (store.move_away, store.move_back),
    }[how]
    ending, told = serve_through(store, lose)
    assert (ending, told[-1]) == (1, "read")
    assert {line.split()[1] for line in told if " " in line} == {"whole"}
    find()
    assert_whole(store)
