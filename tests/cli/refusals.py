"""What every refused command must have in common, and commands run with fewer rights."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from ebsim.cli.exit_codes import ExitCode
from tests.cli.processes import command, environment, run_ebsim
from tests.tidy.source_tree import ROOT
from tests.tools import require_tool

Done = subprocess.CompletedProcess[str]

# Processes that only read write here who they are.
_READERS = {"lock.mdb"}


def assert_refused(done: Done, code: ExitCode, *parts: str) -> None:
    """One line on standard error, with *parts* in it, nothing on standard output, *code*."""
    assert "Traceback" not in done.stderr, done.stderr
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("ebsim: error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert [part for part in parts if part not in done.stderr] == [], done.stderr


def tree(folder: Path) -> dict[str, str]:
    """The digest of every file under *folder*, by relative path; folders have none."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else ""
        for path in sorted(folder.rglob("*"))
        if path.name not in _READERS
    }


@contextmanager
def unchanged(*folders: Path) -> Iterator[None]:
    """What runs inside must leave every byte and name under *folders* as it was."""
    before = [tree(folder) for folder in folders]
    yield
    assert [tree(folder) for folder in folders] == before


def listed_ids(home: Path) -> list[str]:
    """The snapshots of *home*, oldest first."""
    lines = run_ebsim("snapshot", "ls", home=home).stdout.splitlines()[1:]
    return [line.split()[0] for line in lines]


def assert_whole(home: Path) -> None:
    """The store of *home* has no fault."""
    done = run_ebsim("store", "check", "--read-data", home=home)
    assert done.returncode == 0, done.stdout + done.stderr


def run_unprivileged(*arguments: str, home: Path) -> Done:
    """Run ``ebsim`` as somebody to whom permissions apply: root loses the right to pass."""
    prefix = []
    if os.geteuid() == 0:
        setpriv = require_tool("setpriv", package="util-linux")
        prefix = [setpriv, "--bounding-set=-dac_override,-dac_read_search"]
    return subprocess.run(
        [*prefix, *command(*arguments)],
        cwd=ROOT, env=environment(home), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
