"""Comparing the nodes of a sparse disk, a block or two in each leaf, with their rows."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from ebsim.blockmap.geometry import FAN_OUT
from ebsim.chunkstore.pack_check import PackChecker, Reading
from ebsim.chunkstore.rows import decode_node_row, encode_node_row
from ebsim.engine import check_nodes
from ebsim.engine.check_nodes import ChunkComparison
from ebsim.engine.region import Region
from ebsim.metadata.transactions import Metadata, Reader, Table, Transaction
from tests.engine.stores import BLOCK, block_bytes, open_store, take, write_disk

T = TypeVar("T")

LEAF_COUNT = 40


class CountedReads:
    """A store's rows, and how often they were read."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self.read_count = 0

    def read(self, fn: Callable[[Reader], T]) -> T:
        self.read_count += 1
        return self._metadata.read(fn)

    def run(self, fn: Callable[[Transaction], T]) -> T:
        return self._metadata.run(fn)

    def close(self) -> None:
        self._metadata.close()


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Region]:
    """A region with a snapshot of a disk that has two blocks in each of its leaves."""
    indexes = [leaf * FAN_OUT + slot for leaf in range(LEAF_COUNT) for slot in (0, 1)]
    blocks = {index: block_bytes(index) for index in indexes}
    disk = write_disk(tmp_path / "disk.img", LEAF_COUNT * FAN_OUT * BLOCK, blocks)
    with closing(open_store(tmp_path / "home")) as region:
        take(region, disk)
        yield region


def swap_children(region: Region, at: int) -> int:
    """Make the row of the node *at* that place among all wrong; return its number."""

    def swap(txn: Transaction) -> int:
        key, value = txn.scan(Table.NODES, limit=LEAF_COUNT + 1)[at]
        row = decode_node_row(value)
        row.children.reverse()
        txn.put_many(Table.NODES, [(key, encode_node_row(row))])
        return int.from_bytes(key, "big")

    return region.metadata.run(swap)


def compared(region: Region) -> tuple[ChunkComparison, int]:
    """Compare all nodes of the region; also return in how many reads of the rows."""
    reading = Reading(read_data=False, sample=0.0, random=region.random, known_damaged=frozenset())
    checker = PackChecker(region.backend, region.metadata, reading)
    rows = CountedReads(region.metadata)
    comparison = ChunkComparison(rows, region.seed)
    for pack_number, name in enumerate(region.backend.names("packs"), 1):
        checker.check(pack_number, name, comparison.take)
    comparison.finish()
    return comparison, rows.read_count


def test_the_nodes_of_a_sparse_disk_are_looked_up_together(region: Region) -> None:
    comparison, read_count = compared(region)
    assert not comparison.wrong_nodes
    assert read_count == 1


@pytest.mark.parametrize("at", [0, 7, LEAF_COUNT - 1])
def test_a_wrong_row_is_found_in_whichever_batch_it_comes(
    region: Region, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With batches of four leaves; the root, which has many children, is one by itself."""
    monkeypatch.setattr(check_nodes, "_CHILDREN_PER_LOOK_UP", 12)
    wrong = swap_children(region, at)
    comparison, read_count = compared(region)
    assert comparison.wrong_nodes == {wrong: "its row has other children"}
    assert read_count == LEAF_COUNT // 4 + 1
