"""The commands that README.md shows work as they are pasted."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from random import Random

from tests.cli.processes import environment
from tests.tidy.source_tree import ROOT

README = (ROOT / "README.md").read_text("utf-8")
MIB = 1 << 20


def shell_blocks(heading: str) -> list[str]:
    """The shell commands below *heading*, block by block."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def test_the_tour_can_be_pasted_from_start_to_end(tmp_path: Path) -> None:
    """One shell runs all of it, on a disk of 8 MiB and a home of its own."""
    blocks = shell_blocks("A tour")
    assert len(blocks) >= 4
    program = tmp_path / "bin" / "ebsim"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ebsim "$@"\n')
    program.chmod(0o755)
    disk = Random(2).randbytes(6 * MIB) + bytes(2 * MIB)
    (tmp_path / "vm.img").write_bytes(disk)
    inherited = environment(tmp_path / "home", PYTHONPATH=str(ROOT))

    done = subprocess.run(
        ["bash", "-e", "-u", "-o", "pipefail", "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env={**inherited, "PATH": f"{program.parent}:{inherited['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "monday.img").read_bytes() == disk
    assert (tmp_path / "vm.img").read_bytes() != disk
    assert "all is whole" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"snap-[0-9a-f]{17} \d{4}-\d\d-\d\dT[0-9:.]+Z \d+", last)


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
