"""The chunk store, driven by Hypothesis, agrees with dictionaries of bytes and edges.

Two writers store trees side by side, snapshots let go of them, space is given back,
packs are rewritten, writers are killed.  At every moment the counts are what a recount
says, everything reachable reads back, and after reclaim nothing else is there.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
)

from ebsim.backends.memory import Memory
from ebsim.chunkstore.chunk_writer import ChunkWriter
from ebsim.chunkstore.compaction import CompactionPlan, WastefulPack
from ebsim.chunkstore.deletion_plan import plan_deletion
from ebsim.chunkstore.reclaim import session_of
from ebsim.chunkstore.rows import Holder, decode_hold, hold_prefix
from ebsim.chunkstore.sessions import Session
from ebsim.content.digest import block_digest
from ebsim.ids import Digest
from ebsim.metadata.transactions import Table
from tests.chunkstore.small_store import (
    SmallStore,
    block_of,
    faults,
    inner_node,
    leaf_node,
)

WRITERS = (0, 1)

# Few blocks, so that writers meet; some large enough that their holes are punched.
SIZES = (50, 3000, 30_000, 70_000)
BLOCKS = [block_of(seed, SIZES[seed % 4]) for seed in range(16)]
contents = st.lists(st.integers(0, len(BLOCKS) - 1), min_size=1, max_size=4)
writers = st.sampled_from(WRITERS)


@dataclass
class Writing:
    """A writer at work, and the snapshot that it is writing."""

    session: Session
    writer: ChunkWriter
    owner: str
    leaves: list[Digest] = field(default_factory=list)


class ChunkStoreMachine(RuleBasedStateMachine):
    """Model: bytes and edges by digest, and the roots that each finished owner holds."""

    snapshots = Bundle("snapshots")
    chunks_seen = Bundle("chunks_seen")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.store = SmallStore(self.directory, Memory())
        self.chunks: dict[Digest, bytes] = {}
        self.edges: dict[Digest, list[Digest]] = {}
        self.roots: dict[str, Digest] = {}
        self.seen = []
        self.owner_count = 0
        self.at_work = {number: self.begin() for number in WRITERS}

    def teardown(self) -> None:
        for writing in self.at_work.values():
            writing.writer.close()
            writing.session.abandon()
        shutil.rmtree(self.directory)

    def begin(self) -> Writing:
        session = self.store.sessions.open()
        self.owner_count += 1
        writer = self.store.writer(session, BLOCKS)
        return Writing(session, writer, f"snap-{self.owner_count}")

    def reachable(self, others: Sequence[Digest] = ()) -> set[Digest]:
        """What finished owners hold, and *others*, and everything below."""
        found: set[Digest] = set()
        stack = [*self.roots.values(), *others]
        while stack:
            digest = stack.pop()
            if digest not in found:
                found.add(digest)
                stack.extend(self.edges.get(digest, []))
        return found

    @rule(target=chunks_seen, number=writers, seeds=contents)
    def put_leaf(self, number, seeds):
        leaf = self.put(number, seeds)
        return multiple(leaf, *self.edges[leaf])

    def put(self, number: int, seeds: Sequence[int]) -> Digest:
        writing = self.at_work[number]
        blocks = [BLOCKS[seed] for seed in seeds]
        node = leaf_node(Holder(writing.owner, 0, len(writing.leaves)), blocks)
        # Which of BLOCKS to read when one was freed before its commit.
        node.block_indexes.update({block_digest(BLOCKS[seed]): seed for seed in seeds})
        writing.writer.put_blocks([(block_digest(block), block) for block in blocks])
        writing.writer.put_node(node)
        self.chunks.update({block_digest(block): block for block in blocks})
        self.chunks[node.digest] = node.encoded
        self.edges[node.digest] = [block_digest(block) for block in blocks]
        writing.leaves.append(node.digest)
        return node.digest

    @rule(number=writers)
    def flush(self, number):
        self.at_work[number].writer.flush()

    @rule(target=snapshots, number=writers, leaves=st.lists(contents, min_size=1, max_size=3))
    def finish(self, number, leaves):
        """Put more leaves and a root, commit, end the session, begin another."""
        writing = self.at_work[number]
        for seeds in leaves:
            self.put(number, seeds)
        leaves = writing.leaves
        root = inner_node(Holder(writing.owner, 1, 0), leaves, range(len(leaves)))
        writing.writer.put_node(root)
        writing.writer.flush()
        writing.writer.close()
        writing.session.close()
        self.chunks[root.digest] = root.encoded
        self.edges[root.digest] = leaves
        self.roots[writing.owner] = root.digest
        self.at_work[number] = self.begin()
        return writing.owner

    @rule(number=writers)
    def kill(self, number):
        """The writer's process dies; what it held is let go, its stray packs deleted."""
        writing = self.at_work[number]
        writing.writer.close()
        writing.session.abandon()
        self.store.release(writing.owner)
        with self.store.sessions.clearing(writing.session.session_id) as is_dead:
            assert is_dead
        registered = {row.name for row in self.store.packs().values()}
        for name in set(self.store.backend.names("packs")) - registered:
            if writing.session.session_id in name:
                self.store.backend.delete(name)
        self.at_work[number] = self.begin()

    @rule(owner=snapshots)
    def delete(self, owner):
        self.store.release(owner)
        self.roots.pop(owner, None)

    @rule(owner=snapshots)
    def delete_as_planned(self, owner):
        """With nothing else waiting, what a plan says is what is then freed."""
        self.store.reclaimer.run()
        prefix = hold_prefix(owner)
        held = [
            decode_hold(value)[0]
            for key, value in self.store.rows(Table.HOLDS).items()
            if key.startswith(prefix)
        ]
        plan = plan_deletion(self.store.metadata, held)
        self.delete(owner)
        done = self.store.reclaimer.run()
        assert (plan.chunk_count, plan.freed_bytes) == (done.chunk_count, done.freed_bytes)

    @rule()
    def reclaim(self):
        self.store.reclaimer.run()
        there = {digest for digest in self.chunks if self.store.has(digest)}
        leaves = [leaf for writing in self.at_work.values() for leaf in writing.leaves]
        assert self.reachable() <= there <= self.reachable(leaves)

    @rule()
    def sweep(self):
        self.store.reclaimer.sweep()
        for row in self.store.packs().values():
            is_alive = self.store.sessions.is_alive(session_of(row.name))
            assert row.live_count or is_alive, "an empty pack of nobody's was left"

    @rule()
    def compact(self):
        assert self.store.compact().damage == []

    @rule(choose=st.randoms(use_true_random=False))
    def rewrite_any_packs(self, choose):
        """Whatever the packs are that a plan names, rewriting them loses nothing."""
        packs = tuple(
            WastefulPack(number, row.name, row.live_count, row.live_bytes, 0)
            for number, row in sorted(self.store.packs().items())
            if choose.random() < 0.7 and not self.store.sessions.is_alive(session_of(row.name))
        )
        done = self.store.compact(CompactionPlan(packs, 0, 0))
        assert done.damage == []
        assert done.moved_count == sum(pack.live_count for pack in packs)
        names = set(self.store.backend.names("packs"))
        assert not names & {pack.name for pack in packs}
        event(f"packs rewritten: {min(len(packs), 3)}")

    @rule(digest=chunks_seen)
    def look_up(self, digest):
        """Remember where a chunk lies, to read it later, when it may lie elsewhere."""
        (found,) = self.store.reader.find([digest])
        if found is not None:
            self.seen.append(found)

    @rule()
    def read_what_was_looked_up(self):
        seen, self.seen = self.seen, []
        for found in seen:
            if self.store.has(found.digest):
                chunk = self.store.reader.read_found(found)
                assert bytes(chunk) == self.chunks[found.digest]

    @invariant()
    def books_are_right(self):
        assert faults(self.store) == []

    @invariant()
    def everything_reachable_reads_back(self):
        for digest in self.reachable():
            assert bytes(self.store.reader.read(digest)) == self.chunks[digest]


TestChunkStore = pytest.mark.slow(ChunkStoreMachine.TestCase)
TestChunkStore.settings = settings(
    max_examples=settings.default.max_examples // 2, stateful_step_count=30
)
