"""Disks that a database lies on: ext4 over loop over files that ebsim serves by FUSE."""

import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.tidy.source_tree import ROOT
from tests.tools import run

END_SECONDS = 60


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
    """Volumes of these *names*, each with an ext4 mounted at ``folder/NAME``.

    Everything is taken down when *stack* closes.
    """

    def __init__(self, stack: ExitStack, folder: Path, names: list[str], size_mib: int) -> None:
        self._kept = folder / "volumes"
        self._kept.mkdir()
        shown = folder / "shown"
        shown.mkdir()
        self._process = self._start(stack, shown, [str(size_mib), *names])
        self.wait_for("ready")
        for name in names:
            image = shown / f"{name}.img"
            run("mke2fs", "-q", "-F", "-t", "ext4", image)
            mount_image(stack, image, folder / name)

    def _start(
        self, stack: ExitStack, shown: Path, arguments: list[str]
    ) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.postgres.volume_process", self._kept, shown, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        def end() -> None:
            process.terminate()
            try:
                process.communicate(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                run("fusermount3", "-uz", shown)

        stack.callback(end)
        return process

    def begin_cut(self, set_name: str, names: list[str]) -> None:
        """Have *names* cut as one set; returns when writes go on again."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"cut {set_name} {' '.join(names)}\n")
        self._process.stdin.flush()
        self.wait_for(f"cut {set_name}")

    def end_cut(self, set_name: str) -> dict[str, Path]:
        """Wait for the copies of a cut: by name, what each disk held."""
        self.wait_for(f"copied {set_name}")
        return {path.stem: path for path in (self._kept / set_name).iterdir()}

    def wait_for(self, line: str) -> None:
        assert self._process.stdout is not None
        told = self._process.stdout.readline().rstrip("\n")
        if told != line:
            pytest.fail(f"'{line}' was expected, and the volumes' process told '{told}'")
