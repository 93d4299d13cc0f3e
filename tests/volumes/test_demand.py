"""Blocks that somebody waits for are fetched once, and brought here behind."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ebsim.errors import StorageFull, StorageUnavailable
from ebsim.volumes.demand import WAITING_MAX, Demand

PATIENCE = 30.0


class Store:
    """Gives blocks while it may, and counts how often it was asked."""

    def __init__(self) -> None:
        self.fetches: Counter[int] = Counter()
        self.failures: dict[int, Exception] = {}
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.was_asked = threading.Event()

    def fetch(self, block_index: int) -> bytes | None:
        self.fetches[block_index] += 1
        self.was_asked.set()
        assert self.may_go_on.wait(PATIENCE)
        if block_index in self.failures:
            raise self.failures.pop(block_index)
        return None if block_index % 5 == 0 else bytes([block_index % 256]) * 8


class Filled:
    """Where blocks go to; a failure for each block that is asked to fail."""

    def __init__(self) -> None:
        self.blocks: dict[int, bytes] = {}
        self.failures: dict[int, Exception] = {}
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def fill(self, block_index: int, data: bytes) -> None:
        assert self.may_go_on.wait(PATIENCE)
        if block_index in self.failures:
            raise self.failures.pop(block_index)
        assert block_index not in self.blocks, "each block is filled once"
        self.blocks[block_index] = bytes(data)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def filled() -> Filled:
    return Filled()


@pytest.fixture
def demand(store: Store, filled: Filled) -> Iterator[Demand]:
    made = Demand(store.fetch, filled.fill)
    yield made
    made.close()


def test_many_readers_of_one_block_share_a_fetch(
    demand: Demand, store: Store, filled: Filled
) -> None:
    """The block is not filled before all have read, so none of them came too late."""
    store.may_go_on.clear()
    filled.may_go_on.clear()
    with ThreadPoolExecutor(16) as pool:
        readers = [pool.submit(demand.get, 7) for _ in range(16)]
        assert store.was_asked.wait(PATIENCE)
        store.may_go_on.set()
        assert {reader.result(PATIENCE) for reader in readers} == {b"\7" * 8}
    assert store.fetches[7] == 1
    filled.may_go_on.set()
    demand.close()
    assert filled.blocks == {7: b"\7" * 8}


def test_a_failed_fetch_is_told_to_who_waited_and_tried_again(
    demand: Demand, store: Store, filled: Filled
) -> None:
    store.failures[7] = StorageUnavailable("gone")
    with pytest.raises(StorageUnavailable, match="gone"):
        demand.get(7)
    assert demand.get(7) == b"\7" * 8
    demand.close()
    assert store.fetches[7] == 2
    assert filled.blocks == {7: b"\7" * 8}


def test_a_block_of_zeros_is_not_written(demand: Demand, filled: Filled) -> None:
    assert demand.get(5) is None
    demand.close()
    assert filled.blocks == {}


def test_a_block_that_cannot_be_kept_is_read_all_the_same_and_fetched_again(
    demand: Demand, store: Store, filled: Filled
) -> None:
    filled.failures[7] = StorageFull("no room")
    assert demand.get(7) == b"\7" * 8
    demand.close()
    assert isinstance(demand.fill_failure, StorageFull)
    assert demand.get(7) == b"\7" * 8
    assert demand.get(8) == b"\x08" * 8
    demand.close()
    assert store.fetches[7] == 2
    assert set(filled.blocks) == {7, 8}


def test_closing_brings_everything_here(demand: Demand, filled: Filled) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(demand.get, range(200)))
    demand.close()
    assert set(filled.blocks) == {block for block in range(200) if block % 5}


def test_readers_bring_their_blocks_themselves_where_filling_falls_behind(
    store: Store, filled: Filled
) -> None:
    """One block is stuck; what else is fetched must not pile up in memory."""
    stuck, is_stuck = threading.Event(), threading.Event()

    def fill(block_index: int, data: bytes) -> None:
        if block_index == 1:
            is_stuck.set()
            assert stuck.wait(PATIENCE)
        filled.fill(block_index, data)

    demand = Demand(store.fetch, fill)
    demand.get(1)
    assert is_stuck.wait(PATIENCE)
    wanted = [block for block in range(2, 60) if block % 5]
    for block in wanted:
        assert demand.get(block) == bytes([block]) * 8
    assert set(filled.blocks) == set(wanted[WAITING_MAX:])
    stuck.set()
    demand.close()
    assert set(filled.blocks) == {1, *wanted}


def test_the_background_waits_only_while_somebody_waits(demand: Demand, store: Store) -> None:
    demand.wait_until_idle(PATIENCE)
    store.may_go_on.clear()
    with ThreadPoolExecutor(2) as pool:
        reader = pool.submit(demand.get, 7)
        assert store.was_asked.wait(PATIENCE)
        demand.wait_until_idle(0.0)
        background = pool.submit(demand.wait_until_idle, PATIENCE)
        assert not background.done()
        store.may_go_on.set()
        background.result(PATIENCE)
        reader.result(PATIENCE)
