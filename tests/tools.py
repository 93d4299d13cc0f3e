"""Outside programs and privileges that some tests need, and what happens without them.

On a user's machine such a test skips and names the package it wants.  With
``EBSIM_TEST_REQUIRE_TOOLS=1``, as in CI, it fails instead, so that nothing goes untested
there unnoticed.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest


def require_tool(name: str, *, package: str) -> str:
    """The path of the program *name*; without it the test skips and names *package*."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if path is None:
        lacking(f"'{name}' is not installed: apt-get install {package}")
    return path


def require_root() -> None:
    """Skip the test unless it may mount file systems and set up loop devices."""
    if os.geteuid() != 0 or not os.access("/dev/loop-control", os.R_OK | os.W_OK):
        lacking("needs root and loop devices")


def require_fuse() -> None:
    """Skip the test unless directories can be mounted by FUSE."""
    require_tool("fusermount3", package="fuse3")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        lacking("needs /dev/fuse")


def lacking(reason: str) -> NoReturn:
    """End the test: something outside the project is lacking, for this *reason*."""
    if os.environ.get("EBSIM_TEST_REQUIRE_TOOLS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def run(*command: str | Path) -> str:
    """Run an outside program that must succeed; return what it printed."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
