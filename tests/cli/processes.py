"""The real command, run as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.tidy.source_tree import ROOT
from tests.tools import lacking


def environment(home: Path | None = None, **variables: str) -> dict[str, str]:
    """The test's environment without any EBSIM_* of the machine, plus *variables*."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("EBSIM_")}
    if home is not None:
        kept["EBSIM_HOME"] = str(home)
    return {**kept, **variables}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ebsim", *arguments]


def run_ebsim(
    *arguments: str, home: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run ``ebsim`` with *arguments* to its end; *variables* are added to the environment."""
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment(home, **variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def pseudo_terminal() -> tuple[int, int]:
    """Our end and the process's end of a new terminal; the caller closes both."""
    try:
        return os.openpty()
    except OSError:
        lacking("needs pseudo-terminals: mount /dev/pts")
