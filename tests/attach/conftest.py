"""Images mounted by a process of their own, and always unmounted again."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.tidy.source_tree import ROOT
from tests.tools import require_fuse, require_root, require_tool, run

END_SECONDS = 60


class ServedImages:
    """A process that shows the images in a folder, mounted when this is made."""

    def __init__(self, images: Path, mount_point: Path, *options: str | Path) -> None:
        self.images = images
        self.mount_point = mount_point
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.attach.fuse_process", images, mount_point, *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.told: list[str] = []

    def wait_for(self, beginning: str) -> str:
        """The next line that the process tells with this *beginning*."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told.append(line.rstrip("\n"))
            if line.startswith(beginning):
                return self.told[-1]
        pytest.fail(f"the process ended before it told '{beginning}': {self.told}")

    def end(self) -> int:
        """Wait for the process to end; its exit code."""
        output, _ = self.process.communicate(timeout=END_SECONDS)
        self.told += output.splitlines()
        return self.process.returncode

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def clear(self) -> None:
        """Leave neither the process nor the mount behind, whatever the test did."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(END_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        if is_mounted(self.mount_point):
            run("fusermount3", "-uz", self.mount_point)


Serve = Callable[..., ServedImages]


def is_mounted(place: Path) -> bool:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return str(place) in {line.split()[4] for line in lines}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of images: one snapshot and one volume, of random bytes."""
    folder = tmp_path / "images"
    for place in ("snapshots/snap-1.img", "volumes/vol-1.img"):
        path = folder / place
        path.parent.mkdir(parents=True)
        path.write_bytes(os.urandom(1 << 20))
    return folder


@pytest.fixture
def mount_point(tmp_path: Path) -> Path:
    folder = tmp_path / "mounted"
    folder.mkdir()
    return folder


@pytest.fixture
def serve(images: Path, mount_point: Path, stack: ExitStack) -> Serve:
    """A function that starts a process which mounts *images*; gets its options."""
    require_fuse()

    def start(*options: str | Path) -> ServedImages:
        served = ServedImages(images, mount_point, *options)
        stack.callback(served.clear)
        return served

    return start


@pytest.fixture
def served(serve: Serve) -> ServedImages:
    """The images, mounted."""
    mounted = serve()
    mounted.wait_for("ready")
    return mounted


@pytest.fixture
def loop(stack: ExitStack) -> Callable[..., Path]:
    """A function that puts an image behind a loop device."""
    require_root()
    require_tool("losetup", package="mount")

    def attach(image: Path, *options: str) -> Path:
        device = run("losetup", "--find", "--show", *options, image).strip()
        stack.callback(_detach, device)
        return Path(device)

    return attach


def _detach(device: str) -> None:
    if Path(f"/sys/block/{Path(device).name}/loop/backing_file").exists():
        run("losetup", "--detach", device)
