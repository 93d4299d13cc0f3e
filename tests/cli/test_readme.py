"""The commands that README.md shows work as they are pasted."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from tests.cli.processes import environment
from tests.tidy.source_tree import ROOT
from tests.tools import require_fuse, require_root, require_tool

README = (ROOT / "README.md").read_text("utf-8")
MIB = 1 << 20

CLEAN_UP = """set +e
umount -q files
fusermount3 -uzq disks
ebsim volume ls | awk '/in-use/ { print $1 }' | xargs -rn1 ebsim volume detach
"""
"""What is left to be done where a command in the middle failed."""


def shell_blocks(heading: str) -> list[str]:
    """The shell commands below *heading*, block by block."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def paste(
    blocks: Sequence[str], folder: Path, *, runtime: Path | None = None, at_the_end: str = ":"
) -> subprocess.CompletedProcess[str]:
    """Run *blocks* in one shell in *folder*, as somebody who may use sudo."""
    programs = folder / "bin"
    programs.mkdir()
    python = shlex.quote(sys.executable)
    for name, line in (("ebsim", f'exec {python} -m ebsim "$@"'), ("sudo", 'exec "$@"')):
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    inherited = environment(folder / "home", PYTHONPATH=str(ROOT))
    inherited["PATH"] = f"{programs}:{inherited['PATH']}"
    if runtime is not None:
        inherited["XDG_RUNTIME_DIR"] = str(runtime)
    script = f"trap {shlex.quote(at_the_end)} EXIT\n" + "\n".join(blocks)
    return subprocess.run(
        ["bash", "-e", "-u", "-o", "pipefail", "-c", script],
        cwd=folder, env=inherited, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_the_tour_can_be_pasted_from_start_to_end(tmp_path: Path) -> None:
    """One shell runs all of it, on a disk of 8 MiB and a home of its own."""
    blocks = shell_blocks("A tour")
    assert len(blocks) >= 4
    disk = Random(2).randbytes(6 * MIB) + bytes(2 * MIB)
    (tmp_path / "vm.img").write_bytes(disk)

    done = paste(blocks, tmp_path)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "monday.img").read_bytes() == disk
    assert (tmp_path / "vm.img").read_bytes() != disk
    assert "all is whole" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"snap-[0-9a-f]{17} \d{4}-\d\d-\d\dT[0-9:.]+Z \d+", last)


@pytest.mark.slow
@pytest.mark.xdist_group("loop_devices")
def test_the_life_of_a_volume_can_be_pasted_from_start_to_end(
    tmp_path: Path, stack: ExitStack
) -> None:
    """From an image to a volume, mounted, snapshotted while it is, and taken back."""
    for tool, package in (
        ("mke2fs", "e2fsprogs"),
        ("nbdinfo", "libnbd-bin"),
        ("qemu-io", "qemu-utils"),
        ("mount", "mount"),
    ):
        require_tool(tool, package=package)
    require_fuse()
    require_root()
    blocks = shell_blocks("A volume")
    assert len(blocks) >= 5
    runtime = Path(tempfile.mkdtemp(prefix="ebsim-"))  # a socket's path must be short
    stack.callback(shutil.rmtree, runtime)

    done = paste(blocks, tmp_path, runtime=runtime, at_the_end=CLEAN_UP)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "export-size: 67108864" in done.stdout
    assert done.stdout.splitlines().count("a letter") == 2  # as it was written, and brought back
    *_, boot, log = re.findall(r"^snap-[0-9a-f]{17}$", done.stdout, re.MULTILINE)
    assert boot != log


def test_every_command_shown_in_a_sentence_exists() -> None:
    """``ebsim import debian.qcow2`` begins with a command of the table."""
    shown = re.findall(r"`ebsim ([^`]+)`", README)
    known = re.findall(r"^\| `ebsim ([^`]+)` \|", README, re.MULTILINE)
    assert len(shown) > len(known) > 10
    assert [
        words
        for words in shown
        if not f"{words} ".startswith(tuple(f"{name} " for name in [*known, "COMMAND"]))
    ] == []


@pytest.mark.slow
def test_schedules_and_sinks_can_be_pasted(tmp_path: Path) -> None:
    make = "head -c 1M /dev/zero > data.img"
    look = "ebsim lifecycle run --now; ebsim events deliver; ebsim events sink ls"
    done = paste([make, *shell_blocks("Schedules and retention"), look], tmp_path)
    assert (done.returncode, done.stderr.count("error")) == (0, 0), done.stderr
    assert done.stdout.count("policy-") == 4
    assert {"createSnapshot", "audit", "alarm"} <= set(done.stdout.split())


@pytest.mark.slow
def test_aws_clients_can_be_pointed_at_a_server_as_the_readme_says(tmp_path: Path) -> None:
    """The AWS command line as processes of its own, from a volume to its snapshot's blocks."""
    aws = Path(sys.executable).with_name("aws")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "aws").symlink_to(aws)
    setup = f'PATH={shlex.quote(str(tmp_path / "tools"))}:"$PATH"\n'
    blocks = [setup, *shell_blocks("An EBS for your tests")]
    done = paste(blocks, tmp_path, at_the_end='kill "$server" 2>/dev/null; wait')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Blocks"] == []
