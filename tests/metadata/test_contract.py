"""Both stores keep the contract."""

import pytest

from ebsim.metadata.lmdb_metadata import LmdbMetadata
from ebsim.metadata.memory_metadata import MemoryMetadata
from ebsim.units import MIB
from tests.metadata.metadata_contract import MetadataContract


class TestMemoryMetadata(MetadataContract):
    @pytest.fixture
    def metadata(self):
        return MemoryMetadata()


class TestLmdbMetadata(MetadataContract):
    @pytest.fixture
    def metadata(self, tmp_path):
        opened = LmdbMetadata(tmp_path / "metadata", map_size_bytes=64 * MIB)
        yield opened
        opened.close()
