"""ext4 on a loop device on a volume that is mounted by FUSE, snapshotted while it is used."""

import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

from tests.cli.in_process import CommandLine
from tests.cli.processes import run_ebsim
from tests.tools import require_fuse, require_root, require_tool, run

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("loop_devices")]

E2FSCK_MENDED = 1


@pytest.fixture
def disks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[CommandLine, Path]:
    """The command line, and where its volumes are to be mounted."""
    require_fuse()
    require_root()
    (tmp_path / "disks").mkdir()
    return CommandLine(tmp_path / "home", capsys), tmp_path / "disks"


def write_files(folder: Path, *, round_number: int) -> None:
    """Make some files, change some, remove some; the file system has work to do."""
    for index in range(12):
        (folder / f"{round_number}-{index}").write_bytes(os.urandom(index * 20_011 + 1))
    for index in range(0, 12, 5):
        (folder / f"{round_number}-{index}").unlink()
    with (folder / "log").open("ab") as log:
        log.write(os.urandom(30_001))


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file()
    }


def mount(stack: ExitStack, image: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    run("mount", "-o", "loop", image, folder)
    stack.callback(run, "umount", folder)


def test_every_snapshot_of_a_mounted_file_system_is_whole(
    disks: tuple[CommandLine, Path], tmp_path: Path
) -> None:
    """What was synced is in the snapshot; its journal is replayed, and all is clean then."""
    ebsim, place = disks
    e2fsck = require_tool("e2fsck", package="e2fsprogs")
    image = tmp_path / "disk.img"
    run(require_tool("mke2fs", package="e2fsprogs"), "-q", "-t", "ext4", image, "64M")
    golden = ebsim.told("--quiet", "snapshot", "create", str(image))
    volume_id = ebsim.told("volume", "create", "--snapshot", golden)
    with ExitStack() as stack:
        runtime = Path(tempfile.mkdtemp(prefix="ebsim-"))
        stack.callback(shutil.rmtree, runtime)
        mounted = run_ebsim(
            "mount", str(place), "--detach-process", home=ebsim.home, XDG_RUNTIME_DIR=str(runtime)
        )
        assert mounted.returncode == 0, mounted.stderr
        stack.callback(run, "fusermount3", "-u", place)
        files = tmp_path / "files"
        mount(stack, place / "volumes" / f"{volume_id}.img", files)
        taken = []
        for round_number in range(3):
            write_files(files, round_number=round_number)
            run("sync", "-f", files)
            expected = digests(files)
            taken.append((ebsim.told("--quiet", "snapshot", "create", volume_id), expected))
    for snapshot_id, expected in taken:
        restored = tmp_path / "restored.img"
        ebsim.told("--quiet", "restore", snapshot_id, str(restored), "--force")
        # Preen: it replays the journal and would refuse anything that needs a decision.
        replayed = subprocess.run([e2fsck, "-p", restored], check=False, capture_output=True)
        assert replayed.returncode in {0, E2FSCK_MENDED}, replayed.stdout
        run(e2fsck, "-fn", restored)
        with ExitStack() as stack:
            mount(stack, restored, tmp_path / "before")
            assert digests(tmp_path / "before") == expected
