"""The linter, the formatter and the type checker, run as tests."""

import subprocess
import sys

import pytest

from tests.tidy.source_tree import ROOT

FOLDERS = [name for name in ("ebsim", "tests", "benchmarks") if (ROOT / name).is_dir()]

CHECKS = {
    "ruff check": ["ruff", "check", "--quiet", *FOLDERS],
    "ruff format": ["ruff", "format", "--quiet", "--diff", *FOLDERS],
    "mypy": ["mypy", "--strict", "ebsim"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_the_source_passes(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *CHECKS[name]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"{name}:\n{done.stdout}{done.stderr}", pytrace=False)
