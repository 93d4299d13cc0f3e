"""Stores that refused commands must leave alone, and devices."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from ebsim.cli.settings import DEFAULT_ACCOUNT, DEFAULT_REGION
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.region import open_region
from ebsim.ids import AccountId

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
    # In this process: the tests that need a store are many.
    with closing(open_region(home, DEFAULT_REGION, AccountId(DEFAULT_ACCOUNT))) as region:
        snapshot = create_snapshot(region, str(image))
    return Store(home, image, snapshot.snapshot_id, snapshot.volume_id, work)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened
