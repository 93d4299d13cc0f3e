"""Metadata in memory, for tests: the contract of the LMDB one, and nothing on a disk."""

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TypeVar

from ebsim.metadata.transactions import Reader, Row, Table, Transaction

T = TypeVar("T")

_COUNTER_SIZE = 8
_KEY_SIZE_MAX = 511

_Tables = dict[Table, dict[bytes, bytes]]


class MemoryMetadata:
    """Metadata that lives as long as the object.  Safe from many threads.

    A committed state is never changed: a writer copies each table that it first writes,
    and its commit replaces the state as a whole.  Readers so see one moment.
    """

    def __init__(self) -> None:
        self._tables: _Tables = {table: {} for table in Table}
        self._writing = threading.Lock()
        self._thread = threading.local()
        self._is_closed = False

    def read(self, fn: Callable[[Reader], T]) -> T:
        self._enter()
        try:
            return fn(_MemoryReader(self._tables))
        finally:
            self._thread.inside = False

    def run(self, fn: Callable[[Transaction], T]) -> T:
        self._enter()
        try:
            with self._writing:
                transaction = _MemoryTransaction(dict(self._tables))
                result = fn(transaction)
                self._tables = transaction.tables
                return result
        finally:
            self._thread.inside = False

    def close(self) -> None:
        self._is_closed = True

    def _enter(self) -> None:
        assert not self._is_closed, "metadata was used after it was closed"
        assert not getattr(self._thread, "inside", False), "a transaction inside a transaction"
        self._thread.inside = True


class _MemoryReader:
    def __init__(self, tables: _Tables) -> None:
        self.tables = tables

    def get_many(self, table: Table, keys: Sequence[bytes]) -> list[bytes | None]:
        assert all(keys), "a key has at least one byte"
        return [self.tables[table].get(key) for key in keys]

    def scan(
        self,
        table: Table,
        start: bytes = b"",
        stop: bytes | None = None,
        *,
        limit: int,
        reverse: bool = False,
    ) -> list[Row]:
        assert limit >= 0, "a limit counts rows"
        keys = sorted(self.tables[table])
        first = bisect_left(keys, start)
        chosen = keys[first : len(keys) if stop is None else max(first, bisect_left(keys, stop))]
        if reverse:
            chosen.reverse()
        return [(key, self.tables[table][key]) for key in chosen[:limit]]


class _MemoryTransaction(_MemoryReader):
    def __init__(self, tables: _Tables) -> None:
        super().__init__(tables)
        self._copied: set[Table] = set()

    def put_many(self, table: Table, rows: Sequence[Row]) -> None:
        assert all(0 < len(key) <= _KEY_SIZE_MAX for key, _ in rows), "a key has 1 to 511 bytes"
        self._own(table).update(rows)

    def delete_many(self, table: Table, keys: Sequence[bytes]) -> None:
        assert all(keys), "a key has at least one byte"
        own = self._own(table)
        for key in keys:
            own.pop(key, None)

    def incr_many(self, table: Table, increments: Sequence[tuple[bytes, int]]) -> list[int]:
        own = self._own(table)
        results = []
        for key, increment in increments:
            value = int.from_bytes(own.get(key, b""), "little", signed=True) + increment
            own[key] = value.to_bytes(_COUNTER_SIZE, "little", signed=True)
            results.append(value)
        return results

    def _own(self, table: Table) -> dict[bytes, bytes]:
        if table not in self._copied:
            self.tables[table] = dict(self.tables[table])
            self._copied.add(table)
        return self.tables[table]
