"""A region whose transactions are timed and whose node reads are counted."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

from ebsim.backends.backend import Backend
from ebsim.chunkstore.chunk_reader import Buffer, ChunkReader
from ebsim.engine.region import Region
from ebsim.ids import Digest
from ebsim.metadata.transactions import Metadata, Reader, Row, Table, Transaction

T = TypeVar("T")


@dataclass(slots=True)
class Work:
    """What transactions did: time in them, commit included, and rows written and deleted."""

    transaction_count: int = 0
    wall_seconds: float = 0.0
    processor_seconds: float = 0.0
    row_count: int = 0
    row_bytes: int = 0


class CountedMetadata:
    """A :class:`Metadata` that passes everything on and adds up the work of ``run``."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self.work = Work()

    def take_work(self) -> Work:
        """The work since the last call."""
        work, self.work = self.work, Work()
        return work

    def read(self, fn: Callable[[Reader], T]) -> T:
        return self._metadata.read(fn)

    def run(self, fn: Callable[[Transaction], T]) -> T:
        begun_ns, used_ns = time.perf_counter_ns(), time.thread_time_ns()
        try:
            return self._metadata.run(lambda txn: fn(_CountedTransaction(txn, self.work)))
        finally:
            # The commit runs in the calling thread, so its processor time is here too.
            self.work.transaction_count += 1
            self.work.wall_seconds += (time.perf_counter_ns() - begun_ns) / 1e9
            self.work.processor_seconds += (time.thread_time_ns() - used_ns) / 1e9

    def close(self) -> None:
        self._metadata.close()


class _CountedTransaction:
    def __init__(self, transaction: Transaction, work: Work) -> None:
        self._transaction = transaction
        self._work = work
        self.get_many = transaction.get_many
        self.scan = transaction.scan

    def put_many(self, table: Table, rows: Sequence[Row]) -> None:
        self._work.row_count += len(rows)
        # As cheap as can be: it is inside of what is timed.
        self._work.row_bytes += sum(map(len, chain.from_iterable(rows)))
        self._transaction.put_many(table, rows)

    def delete_many(self, table: Table, keys: Sequence[bytes]) -> None:
        self._work.row_count += len(keys)
        self._transaction.delete_many(table, keys)

    def incr_many(self, table: Table, increments: Sequence[tuple[bytes, int]]) -> list[int]:
        self._work.row_count += len(increments)
        return self._transaction.incr_many(table, increments)


class CountedChunks(ChunkReader):
    """A :class:`ChunkReader` that notes which chunks were read by digest: nodes, all of them."""

    def __init__(self, backend: Backend, metadata: Metadata) -> None:
        super().__init__(backend, metadata)
        self.read_digests: list[Digest] = []

    def read(self, digest: Digest) -> Buffer:
        self.read_digests.append(digest)
        return super().read(digest)

    def take_reads(self) -> list[Digest]:
        """The digests since the last call."""
        digests, self.read_digests = self.read_digests, []
        return digests


def counted(region: Region) -> tuple[Region, CountedMetadata, CountedChunks]:
    """*region* with counters in it, and the counters."""
    metadata = CountedMetadata(region.metadata)
    chunks = CountedChunks(region.backend, metadata)
    return replace(region, metadata=metadata, chunks=chunks), metadata, chunks
