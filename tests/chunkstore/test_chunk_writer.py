"""Storing chunks from many threads: each once, nodes behind their packs, nothing lost."""

from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from ebsim.backends.backend import ObjectWriter
from ebsim.backends.memory import Memory
from ebsim.chunkstore.rows import Holder
from ebsim.content.digest import block_digest
from ebsim.errors import Conflict, StorageFull
from ebsim.metadata.transactions import Table
from ebsim.units import MIB
from tests.chunkstore.small_store import (
    SmallStore,
    block_of,
    faults,
    inner_node,
    leaf_node,
    put_leaf,
)


def test_many_threads_that_put_the_same_blocks_store_each_once(store):
    blocks = [block_of(seed, 3000) for seed in range(20)]

    def put(at: int) -> None:
        some = Random(at).sample(blocks, 8)
        put_leaf(writer, "snap-a", some, at)

    with store.writing() as writer, ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(40)))
    chunks = store.rows(Table.CHUNKS)
    assert {block_digest(block) for block in blocks} <= chunks.keys()
    (row,) = store.packs().values()
    assert row.live_count == len(chunks)
    assert store.rows(Table.DEAD) == {}, "no chunk was written twice"
    assert faults(store) == []


def test_commits_go_on_while_threads_put(store):
    with store.writing() as writer, ThreadPoolExecutor(4) as pool:
        puts = [
            pool.submit(put_leaf, writer, "snap-a", [block_of(at, 2000)], at) for at in range(60)
        ]
        for at, put in enumerate(puts):
            put.result()
            if at % 7 == 0:
                writer.flush()
        writer.flush()
        leaves = [put.result() for put in puts]
        writer.put_node(inner_node(Holder("snap-a", 1, 0), leaves, range(60)))
    assert len(store.rows(Table.HOLDS)) == 1
    assert faults(store) == []


def test_a_chunk_that_the_store_has_is_not_written(store):
    store.put_leaf("snap-a", [block_of(1), block_of(2)])
    store.put_leaf("snap-b", [block_of(1), block_of(3)])
    _, second = sorted(store.packs().items())
    assert second[1].live_count == 2  # The leaf and the one new block.


def test_one_block_many_times_in_one_put_is_stored_once(store):
    store.put_leaf("snap-a", [block_of(1)] * 5)
    (row,) = store.packs().values()
    assert row.live_count == 2
    assert faults(store) == []


def test_a_node_waits_until_its_pack_is_durable(store):
    with store.writing() as writer:
        put_leaf(writer, "snap-a", [block_of(1)])
        writer.commit_ready()
        assert store.rows(Table.CHUNKS) == {}
        writer.flush()
        assert len(store.rows(Table.CHUNKS)) == 2


@pytest.mark.slow
def test_nodes_of_full_packs_are_committed_before_the_flush(store):
    """Else all nodes of a first snapshot would be in memory at its end."""
    with store.writing() as writer:
        for at in range(18):
            put_leaf(writer, "snap-a", [block_of(at, 4 * MIB)], at)
        # The sealing thread works behind: wait for it as the next pack's writer would.
        writer._packs._seals[0].result()  # noqa: SLF001 (no other way to wait without sleeping)
        writer.commit_ready()
        assert len(store.rows(Table.HOLDS)) == 15
    assert len(store.rows(Table.HOLDS)) == 18
    assert faults(store) == []


def test_a_parent_is_never_committed_before_its_children(store):
    blocks = [block_of(1), block_of(2)]
    store.put_leaf("snap-old", blocks)
    with store.writing(blocks) as writer:
        leaf = put_leaf(writer, "snap-a", blocks)
        writer.put_node(inner_node(Holder("snap-a", 1, 0), [leaf], range(1)))
        store.release("snap-old")
        store.reclaimer.run()
    assert [holder.count(b"snap-a") for holder in store.rows(Table.HOLDS)] == [1]
    assert store.count(leaf) == 1
    assert faults(store) == []


class FullAfter(Memory):
    """No room for packs after *pack_count* of them."""

    __slots__ = ("pack_count",)

    def __init__(self, pack_count: int) -> None:
        super().__init__()
        self.pack_count = pack_count

    def create(self, name: str) -> ObjectWriter:
        if self.pack_count == 0:
            raise StorageFull("no room. Nothing was changed.")
        self.pack_count -= 1
        return super().create(name)


def test_a_full_disk_fails_every_put_and_leaves_what_was_committed(tmp_path):
    store = SmallStore(tmp_path, FullAfter(1))
    store.put_leaf("snap-a", [block_of(1)])
    session = store.sessions.open()
    writer = store.writer(session)
    for _ in range(2):
        with pytest.raises(StorageFull):
            put_leaf(writer, "snap-b", [block_of(2)])
    writer.close()
    session.abandon()
    assert len(store.rows(Table.CHUNKS)) == 2
    assert faults(store) == []


def test_what_was_not_flushed_is_given_up(store):
    session = store.sessions.open()
    writer = store.writer(session)
    put_leaf(writer, "snap-a", [block_of(1)])
    writer.close()
    session.close()
    assert list(store.backend.names("packs")) == []
    assert store.rows(Table.CHUNKS) == {}


def test_a_block_put_without_a_node_is_not_in_the_store(store):
    """A fingerprint lied: the blocks were put, and their leaf is made anew."""
    with store.writing() as writer:
        writer.put_blocks([(block_digest(block_of(9)), block_of(9))])
        put_leaf(writer, "snap-a", [block_of(1)])
    assert not store.has(block_digest(block_of(9)))
    assert leaf_node(Holder("x", 0, 0), [block_of(1)]).digest in store.rows(Table.CHUNKS)
    assert faults(store) == []


def test_a_block_that_is_another_when_it_is_read_again_is_not_stored_as_what_it_was(store):
    blocks = [block_of(1), block_of(2)]
    store.put_leaf("snap-old", blocks)
    session = store.sessions.open()
    writer = store.writer(session, [block_of(3), block_of(2)])
    put_leaf(writer, "snap-a", blocks)
    store.release("snap-old")
    store.reclaimer.run()
    with pytest.raises(Conflict, match="no longer has the same bytes"):
        writer.flush()
    writer.close()
    session.abandon()
    assert not store.has(block_digest(block_of(1)))
    assert faults(store) == []


def test_of_claims_from_many_threads_each_chunk_is_claimed_once(store):
    store.put_leaf("snap-a", [block_of(1), block_of(2)])
    digests = [block_digest(block_of(seed)) for seed in range(40)]
    with store.writing() as writer, ThreadPoolExecutor(4) as pool:
        claims = list(pool.map(lambda at: writer.claim(digests[at : at + 20]), range(20)))
    claimed = [digest for claim in claims for digest in claim]
    assert sorted(claimed) == sorted({*digests[:39]} - {*digests[1:3]})
