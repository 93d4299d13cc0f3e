"""Disks that a database lies on: ext4 over loop over volumes that ``ebsim mount`` shows."""

import shutil
import subprocess
import tempfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.region import open_region
from ebsim.engine.restore_snapshot import restore_snapshot
from ebsim.engine.snapshot_volumes import SnapshotSet, create_snapshot_set
from ebsim.ids import AccountId
from tests.cli.processes import command, environment
from tests.tidy.source_tree import ROOT
from tests.tools import run

REGION = "us-east-1"
ACCOUNT = AccountId("123456789012")
PATIENCE = 60.0


def make_folder(stack: ExitStack) -> Path:
    """A folder that every user may look into, removed when *stack* closes.

    pytest's own belong to root alone, and a database is no business of root's.
    """
    folder = Path(tempfile.mkdtemp(prefix="ebsim-pg-"))
    stack.callback(shutil.rmtree, folder)
    folder.chmod(0o755)
    return folder


def mount_image(stack: ExitStack, image: Path, folder: Path) -> Path:
    """The file system in *image* mounted at *folder*, until *stack* closes."""
    folder.mkdir(parents=True)
    device = run("losetup", "--find", "--show", image).strip()
    stack.callback(run, "losetup", "--detach", device)
    run("mount", device, folder)
    stack.callback(run, "umount", folder)
    return folder


class LiveDisks:
    """Volumes of 1 GiB of these *names*, each with an ext4 mounted at ``folder/NAME``.

    Everything is taken down when *stack* closes.
    """

    def __init__(self, stack: ExitStack, folder: Path, names: list[str]) -> None:
        self._folder = folder
        self._region = open_region(folder / "home", REGION, ACCOUNT)
        stack.callback(self._region.close)
        self._volume_ids = {
            name: create_volume(self._region, VolumeOptions(size_gib=1)).volume_id
            for name in names
        }
        self._pool = stack.enter_context(ThreadPoolExecutor(1))
        self._taking: Future[SnapshotSet] | None = None
        shown = folder / "shown"
        shown.mkdir()
        self._mount(stack, shown)
        for name, volume_id in self._volume_ids.items():
            image = shown / "volumes" / f"{volume_id}.img"
            run("mke2fs", "-q", "-F", "-t", "ext4", image)
            mount_image(stack, image, folder / name)

    def _mount(self, stack: ExitStack, shown: Path) -> None:
        process = subprocess.Popen(
            command("--region", REGION, "mount", str(shown)),
            cwd=ROOT,
            env=environment(self._region.home),
            stdout=subprocess.PIPE,
            text=True,
        )

        def end() -> None:
            process.terminate()
            try:
                process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                run("fusermount3", "-uz", shown)

        stack.callback(end)
        assert process.stdout is not None
        assert process.stdout.readline() == f"{shown}\n"

    def begin_snapshots(self, names: list[str]) -> None:
        """Snapshot *names* as one set; returns when they are cut, and writes go on."""
        uploading = _Uploading()
        ids = [self._volume_ids[name] for name in names]
        self._taking = self._pool.submit(
            create_snapshot_set, self._region, ids, progress=uploading
        )
        assert uploading.has_begun.wait(PATIENCE), self._taking

    def end_snapshots(self) -> dict[str, Path]:
        """Wait for the snapshots, and restore them: by name, an image of what each disk held."""
        assert self._taking is not None, "begun before"
        names = {volume_id: name for name, volume_id in self._volume_ids.items()}
        images = {}
        for snapshot in self._taking.result().snapshots:
            image = self._folder / f"{snapshot.snapshot_id}.img"
            restore_snapshot(self._region, snapshot.snapshot_id, str(image))
            images[names[snapshot.volume_id]] = image
        return images


class _Uploading:
    """Progress that is only watched for its begin: by then every volume has been cut."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()

    def begin(self, what: str, total_bytes: int | None) -> None:
        del what, total_bytes
        self.has_begun.set()

    def advance(self, size_bytes: int) -> None:
        """Nobody watches that."""

    def end(self) -> None:
        """Nobody watches that."""
