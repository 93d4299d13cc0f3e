"""Stores that refused commands must leave alone, and devices."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from tests.cli.processes import run_ebsim

MIB = 1 << 20


class Store(NamedTuple):
    """A home with one snapshot of a disk of 2 MiB, and a folder for what a test makes."""

    home: Path
    image: Path
    snapshot_id: str
    volume_id: str
    work: Path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    image, home, work = tmp_path / "disk.img", tmp_path / "home", tmp_path / "work"
    image.write_bytes(Random(7).randbytes(2 * MIB))
    work.mkdir()
    done = run_ebsim("snapshot", "create", str(image), home=home)
    assert done.returncode == 0, done.stderr
    volumes = run_ebsim("volume", "ls", home=home).stdout.splitlines()
    return Store(home, image, done.stdout.strip(), volumes[1].split()[0], work)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened
