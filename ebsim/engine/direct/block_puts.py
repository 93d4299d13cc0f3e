"""Putting blocks: durable when acknowledged, many threads sharing each sync.

    1  each thread, by itself   the digest; a look-up; compressed if the store has it not
    2  one thread, for all that wait   records into a pack, which is sealed
    3  the same                 one transaction: numbers, locations, holds, checksums
    4  all of them              acknowledged

Whoever comes while 2 and 3 are under way waits, and is in the next group; the thread that
leads a group wakes its followers, and the first of those who came meanwhile to lead the
next.  A crash before 3 leaves a pack that no row names; after it, blocks held for a pending
snapshot, which any process can complete.  Puts of several processes meet in the
transaction: the last one committed stays.

A server keeps one ``BlockPuts`` for each region.  Its session is ended now and then, so
that its packs can be merged (``merge_packs.py``) and others can compact or rebuild.
"""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ebsim.catalog.direct_snapshot import (
    DirectSnapshot,
    PutChecksum,
    find_direct,
    put_checksums,
    put_direct,
    puts_owner,
)
from ebsim.chunkstore.chunk_index import find_numbers
from ebsim.chunkstore.held_blocks import commit_held_blocks
from ebsim.chunkstore.node_commit import ChunksFreed, Committed, PackInProgress
from ebsim.chunkstore.pack_format import Kind, Record
from ebsim.chunkstore.pack_writer import PackWriter, Placed
from ebsim.chunkstore.rows import Holder, number_key
from ebsim.chunkstore.sessions import Session
from ebsim.content.compression import LEVEL_DEFAULT, encode
from ebsim.content.digest import block_digest
from ebsim.engine.direct.merge_packs import merge_packs
from ebsim.engine.direct.refusals import SnapshotAlreadyCompleted
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.errors import StorageUnavailable
from ebsim.ids import Digest, SnapshotId
from ebsim.metadata.transactions import Reader, Table, Transaction

Buffer = bytes | bytearray | memoryview

# 32 MiB, so that a group is always one pack.
_PUTS_PER_GROUP = 64
_PACKS_PER_SESSION = 64
_IDLE_NS = 5 * 10**9


@dataclass(slots=True)
class _Put:
    """A block on its way; *error* is set, or not, when it is done.

    *turn* is set when it is done, or when its thread is to lead the next group.
    """

    snapshot_id: SnapshotId
    block_index: int
    digest: Digest
    sha256: bytes
    data: Buffer
    record: Record | None
    payload: Buffer
    turn: threading.Event = field(default_factory=threading.Event)
    is_done: bool = False
    error: BaseException | None = None


@dataclass(slots=True)
class _Written:
    """A session that puts are written in."""

    session: Session
    packs: PackWriter
    pack_numbers: dict[int, int] = field(default_factory=dict)


class BlockPuts:
    """Puts blocks for the pending snapshots of a region.  Safe to use from many threads."""

    def __init__(self, region: Region, *, level: int = LEVEL_DEFAULT) -> None:
        self._region = region
        self._level = level
        self._queue_lock = threading.Lock()
        self._queue: list[_Put] = []
        self._is_led = False
        self._group_lock = threading.Lock()
        self._written: _Written | None = None
        self._used_ns = 0
        # Nothing is written in them any more; their packs are to be merged.
        self._ended: list[_Written] = []
        self.group_count = 0

    def put(self, snapshot_id: SnapshotId, block_index: int, data: Buffer, sha256: bytes) -> None:
        """Put *data*, whose SHA-256 is *sha256*; return when it is durable.

        Raises:
            SnapshotAlreadyCompleted: it is not pending, or was asked to be completed.
            StorageFull, StorageUnavailable: whether it was put is not known.
        """
        put = self._prepared(snapshot_id, block_index, data, sha256)
        with self._queue_lock:
            self._queue.append(put)
            is_led, self._is_led = self._is_led, True
        if is_led:
            put.turn.wait()
        if not put.is_done:
            self._lead()
        if put.error is not None:
            raise put.error

    def end_idle_session(self) -> None:
        """End the session if nothing was put for some seconds, and merge what is over."""
        with self._group_lock:
            idle_ns = self._region.clock.now_ns() - self._used_ns
            if self._written is not None and idle_ns >= _IDLE_NS:
                self._end_session()
        self._merge()

    def close(self) -> None:
        """End the session; nothing is put any more."""
        with self._group_lock:
            self._end_session()
        self._merge()

    def _prepared(
        self, snapshot_id: SnapshotId, block_index: int, data: Buffer, sha256: bytes
    ) -> _Put:
        digest = block_digest(data)
        put = _Put(snapshot_id, block_index, digest, sha256, data, None, b"")
        if not self._region.metadata.read(lambda reader: _is_stored(reader, digest)):
            self._encode(put)
        return put

    def _encode(self, put: _Put) -> None:
        codec, put.payload = encode(put.data, self._level)
        put.record = Record(put.digest, 0, len(put.payload), len(put.data), Kind.BLOCK, codec)

    def _lead(self) -> None:
        """Do what waits, as far as it makes one group: the caller's own put is the first."""
        with self._queue_lock:
            group, self._queue = self._queue[:_PUTS_PER_GROUP], self._queue[_PUTS_PER_GROUP:]
        try:
            with self._group_lock:
                self._write_or_give_up(group)
        except BaseException as error:
            # Each of the waiting threads raises it: none may take its block for durable.
            for put in group:
                put.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            for put in group:
                put.is_done = True
                put.turn.set()
            with self._queue_lock:
                self._is_led = bool(self._queue)
                if self._queue:
                    self._queue[0].turn.set()
            self.group_count += 1

    def _write_or_give_up(self, group: Sequence[_Put]) -> None:
        try:
            self._write_group(group)
        except BaseException:
            self._give_up_session()
            raise

    def _write_group(self, group: Sequence[_Put]) -> None:
        written = self._written or self._begin_session()
        self._used_ns = self._region.clock.now_ns()
        placed = self._place(written, group, {})
        while True:
            packs = _sealed(written, placed)
            try:
                outcome = self._region.metadata.run(
                    lambda txn: _commit(txn, group, placed, packs, self._used_ns)  # noqa: B023 (called at once)
                )
                break
            except ChunksFreed as freed:
                # They were in the store when they were looked up.
                for put in group:
                    if put.digest in freed.digests:
                        self._encode(put)
                placed = self._place(written, group, placed)
        written.pack_numbers.update(outcome.pack_numbers)
        for index in packs.keys() - outcome.pack_numbers.keys():
            # Everything in it was refused.
            self._region.backend.delete(written.packs.names[index])
        for put in group:
            if put.snapshot_id in outcome.refused:
                put.error = SnapshotAlreadyCompleted()
        if len(written.packs.names) >= _PACKS_PER_SESSION:
            self._end_session()

    def _place(
        self, written: _Written, group: Sequence[_Put], placed: Mapping[Digest, Placed]
    ) -> dict[Digest, Placed]:
        """Write the records of *group* that are not in *placed* yet; return all."""
        found = dict(placed)
        for put in group:
            if put.record is not None and put.digest not in found:
                found[put.digest] = written.packs.append_encoded(put.record, put.payload)
        written.packs.flush()
        return found

    def _begin_session(self) -> _Written:
        region = self._region
        recover(region)
        region.reserve.fill()
        session = region.open_session()
        self._written = _Written(session, PackWriter(region.backend, session.next_pack_name))
        return self._written

    def _end_session(self) -> None:
        written, self._written = self._written, None
        if written is not None:
            written.packs.close()
            self._ended.append(written)

    def _give_up_session(self) -> None:
        """Leave the session for recovery to clear: nothing that was acknowledged needs it."""
        written, self._written = self._written, None
        if written is not None:
            with suppress(StorageUnavailable):
                written.packs.close()
            written.session.abandon()

    def _merge(self) -> None:
        while self._ended:
            written = self._ended.pop(0)
            try:
                numbers = list(written.pack_numbers.values())
                merge_packs(self._region, written.session.session_id, numbers)
            except BaseException:
                written.session.abandon()
                raise
            # Last, so that recovery knows of it if this process dies on the way.
            written.session.close()


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What the transaction of a group did."""

    pack_numbers: Mapping[int, int]
    refused: frozenset[SnapshotId]


def _is_stored(reader: Reader, digest: Digest) -> bool:
    number = find_numbers(reader, [digest]).get(digest)
    if number is None:
        return False
    return reader.get_many(Table.DAMAGED, [number_key(number)]) == [None]


def _sealed(written: _Written, placed: Mapping[Digest, Placed]) -> dict[int, PackInProgress]:
    packs = written.packs
    return {
        index: PackInProgress(packs.names[index], packs.sizes[index])
        for index in {place.pack_index for place in placed.values()}
    }


def _commit(
    txn: Transaction,
    group: Sequence[_Put],
    placed: Mapping[Digest, Placed],
    packs: Mapping[int, PackInProgress],
    now_ns: int,
) -> _Outcome:
    """Hold what *group* put, for the snapshots that may still be put to."""
    pack_numbers: dict[int, int] = {}
    refused: set[SnapshotId] = set()
    unregistered = dict(placed)
    for snapshot_id in sorted({put.snapshot_id for put in group}):
        record = find_direct(txn, snapshot_id)
        if record is None or record.request is not None:
            refused.add(snapshot_id)
            continue
        puts = [put for put in group if put.snapshot_id == snapshot_id]
        digests = {put.digest for put in puts} & unregistered.keys()
        done = commit_held_blocks(
            txn,
            [(Holder(puts_owner(snapshot_id), 0, put.block_index), put.digest) for put in puts],
            {digest: unregistered.pop(digest) for digest in digests},
            {i: replace(p, number=pack_numbers.get(i, p.number)) for i, p in packs.items()},
        )
        pack_numbers.update(done.pack_numbers)
        put_checksums(txn, [PutChecksum(snapshot_id, put.block_index, put.sha256) for put in puts])
        put_direct(txn, snapshot_id, _after_puts(record, done, now_ns))
    return _Outcome(pack_numbers, frozenset(refused))


def _after_puts(record: DirectSnapshot, done: Committed, now_ns: int) -> DirectSnapshot:
    return replace(
        record, active_time_ns=now_ns, stored_bytes=record.stored_bytes + done.stored_bytes
    )
