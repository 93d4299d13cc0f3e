"""The metadata's pages are let go of when they have become many, and come back when read."""

from mmap import PAGESIZE, PROT_READ, mmap

import pytest

from ebsim.metadata.lmdb_metadata import LmdbMetadata
from ebsim.metadata.mapped_pages import drop_mapped, find_mapping, mapped_resident_bytes
from ebsim.metadata.transactions import Table
from ebsim.units import MIB
from tests.metadata.metadata_contract import put, rows_of


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metadata"


@pytest.fixture
def metadata(path):
    opened = LmdbMetadata(path, map_size_bytes=64 * MIB)
    yield opened
    opened.close()


def test_pages_taken_out_of_memory_are_read_again(metadata, path):
    rows = [(b"%04d" % n, bytes(3000)) for n in range(3000)]
    put(metadata, Table.NODES, *rows)
    assert rows_of(metadata, Table.NODES) == rows
    before = mapped_resident_bytes()
    drop_mapped(*find_mapping(path / "data.mdb"))

    assert mapped_resident_bytes() < before - 8 * MIB
    assert rows_of(metadata, Table.NODES) == rows


def test_what_is_mapped_of_other_files_does_not_count_against_the_metadata(
    metadata, path, tmp_path
):
    """A process with large libraries would drop its pages at every transaction otherwise."""
    rows = [(b"%04d" % n, bytes(3000)) for n in range(3000)]
    put(metadata, Table.NODES, *rows)
    other = tmp_path / "library"
    other.write_bytes(bytes(80 * MIB))
    with other.open("rb") as file, mmap(file.fileno(), 0, prot=PROT_READ) as mapped:
        for at in range(0, len(mapped), PAGESIZE):
            mapped[at]
        rows_of(metadata, Table.NODES)  # the first to see it drops, and takes it into account
        assert rows_of(metadata, Table.NODES) == rows
        before = mapped_resident_bytes()
        assert rows_of(metadata, Table.NODES) == rows
        drop_mapped(*find_mapping(path / "data.mdb"))

        assert mapped_resident_bytes() < before - 8 * MIB
