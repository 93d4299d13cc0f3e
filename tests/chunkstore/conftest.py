"""A store for each test."""

from pathlib import Path

import pytest

from tests.chunkstore.small_store import SmallStore


@pytest.fixture
def store(tmp_path: Path) -> SmallStore:
    """A store in memory; its sessions are files."""
    return SmallStore(tmp_path)
