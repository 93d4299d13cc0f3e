"""Metadata on LMDB: the rows of a region in one memory-mapped tree on a local disk.

Any number of threads and processes use one environment at once.  Readers wait for
nobody; writers take turns behind a lock that the kernel takes from a dead process.  A
commit is durable when it returns, and a killed process leaves the last commit whole.
"""

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Final, TypeVar

import lmdb

from ebsim.errors import Conflict
from ebsim.metadata.commit_stamp import STAMP_KEY, commit_stamp
from ebsim.metadata.lmdb_environment import (
    DATA_FILE,
    close_environment,
    open_environment,
    open_lmdb,
    sync_directories,
)
from ebsim.metadata.lmdb_errors import translate
from ebsim.metadata.row_checksum import open_rows, row_corrupt, seal_rows
from ebsim.metadata.transactions import Reader, Row, Table, Transaction
from ebsim.units import TIB

T = TypeVar("T")

KEY_SIZE_MAX: Final = 511
# A row looked up by a random key maps up to 64 KiB of its surroundings: the kernel maps
# what it has in memory about a page that is touched.
_ROWS_PER_TRIM: Final = 256

_COUNTER: Final = struct.Struct("<q")
_key_of: Final = itemgetter(0)


class LmdbMetadata:
    """The metadata in the directory *path*, made if there is none.

    Opening a path twice in one process shares one environment, with the map size of the
    first; each is closed by itself.  The map is address space, not memory or disk.

    Raises:
        InvalidRequest: *path* lies on a network file system.
        MetadataCorrupt: what is there is no LMDB file, or a damaged one.
        UnsupportedFormat: a newer ebsim wrote it.
        StorageUnavailable: the directory cannot be used.
    """

    def __init__(self, path: Path, *, map_size_bytes: int = TIB) -> None:
        self._environment = open_environment(path, map_size_bytes)
        self._is_closed = False
        self.path = self._environment.path

    def read(self, fn: Callable[[Reader], T]) -> T:
        return self._read(fn)

    def run(self, fn: Callable[[Transaction], T]) -> T:
        assert not self._is_closed, "metadata was used after it was closed"
        environment, databases = self._environment.enter()
        doubtful = False
        try:
            try:
                handle = environment.begin(write=True)
            except lmdb.Error as error:
                doubtful = True
                raise translate(error, self.path, "beginning a transaction") from error
            try:
                # Before each: many in a row, each over other pages, add up to the whole file.
                self._environment.trim()
                transaction = _LmdbTransaction(
                    handle, databases, self.path, self._environment.trim
                )
                result = fn(transaction)
                transaction.stamp()
            except BaseException:
                handle.abort()
                raise
            try:
                handle.commit()
            except lmdb.Error as error:
                doubtful = True
                raise translate(error, self.path, "committing a transaction") from error
        finally:
            self._environment.leave(doubtful=doubtful)
        return result

    def entry_counts(self) -> dict[Table, int]:
        """How many rows each table has."""
        return {table: stat["entries"] for table, stat in self._stats().items()}

    def live_bytes(self) -> int:
        """The bytes of all pages that hold tables, half-empty ones whole."""
        return sum(
            stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])
            for stat in self._stats().values()
        )

    def file_bytes(self) -> int:
        """The length of the file, pages free for the next transactions included."""
        return (self.path / DATA_FILE).stat().st_size

    def compact_copy(self, target: Path) -> None:
        """Write the newest committed state, without free pages, to the directory *target*.

        *target* must not exist.  Durable when it returns; nobody waits meanwhile, but
        pages that others free during the copy are not used again until it is done.

        Raises:
            Conflict: *target* exists.
        """
        try:
            target.mkdir(mode=0o700)
        except FileExistsError as error:
            raise Conflict(
                f"{target} exists. Nothing was changed. Name a directory that does not."
            ) from error
        except OSError as error:
            raise translate(error, target, "making it") from error
        environment, _ = self._environment.enter()
        try:
            environment.copy(str(target), compact=True)
            map_size_bytes = environment.info()["map_size"]
        except lmdb.Error as error:
            raise translate(error, target, "copying the metadata") from error
        finally:
            self._environment.leave()
        _restamp(target, map_size_bytes)

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            close_environment(self._environment)

    def _read(self, fn: "Callable[[_LmdbReader], T]") -> T:
        assert not self._is_closed, "metadata was used after it was closed"
        environment, databases = self._environment.enter()
        doubtful = False
        try:
            try:
                handle = environment.begin()
            except lmdb.Error as error:
                doubtful = isinstance(error, lmdb.MapResizedError)
                raise translate(error, self.path, "beginning to read") from error
            try:
                return fn(_LmdbReader(handle, databases, self.path, self._environment.trim))
            finally:
                handle.abort()
        finally:
            self._environment.leave(doubtful=doubtful)

    def _stats(self) -> "dict[Table, lmdb._StatDict]":
        return self._read(lambda reader: {table: reader.stat(table) for table in Table})


class _LmdbReader:
    def __init__(
        self,
        handle: "lmdb.Transaction[bytes]",
        databases: "dict[Table, lmdb._Database]",
        path: Path,
        trim: Callable[[], None],
    ) -> None:
        self._handle = handle
        self._databases = databases
        self._path = path
        self._trim = trim

    def get_many(self, table: Table, keys: Sequence[bytes]) -> list[bytes | None]:
        found: list[Row] = []
        try:
            with self._handle.cursor(self._databases[table]) as cursor:
                for start in range(0, len(keys), _ROWS_PER_TRIM):
                    if start:
                        self._trim()
                    part = cursor.getmulti(keys[start : start + _ROWS_PER_TRIM])
                    found += open_rows(table, part)
        except lmdb.Error as error:
            raise translate(error, self._path, f"reading table {table}") from error
        if len(found) == len(keys):
            return [value for _, value in found]
        by_key = dict(found)
        return [by_key.get(key) for key in keys]

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
        try:
            with self._handle.cursor(self._databases[table]) as cursor:
                walk = _falling if reverse else _rising
                rows = open_rows(table, list(islice(walk(cursor, start, stop), limit)))
        except lmdb.Error as error:
            raise translate(error, self._path, f"reading table {table}") from error
        if len(rows) >= _ROWS_PER_TRIM:
            # Whoever reads a whole table in one transaction would map all of it.
            self._trim()
        return rows

    def stat(self, table: Table) -> "lmdb._StatDict":
        return self._handle.stat(self._databases[table])


class _LmdbTransaction(_LmdbReader):
    _has_written = False

    def put_many(self, table: Table, rows: Sequence[Row]) -> None:
        if not rows:
            return
        self._has_written = True
        try:
            with self._handle.cursor(self._databases[table]) as cursor:
                for start in range(0, len(rows), _ROWS_PER_TRIM):
                    if start:
                        self._trim()
                    _put(cursor, seal_rows(table, rows[start : start + _ROWS_PER_TRIM]))
        except lmdb.Error as error:
            raise translate(error, self._path, f"writing table {table}") from error

    def delete_many(self, table: Table, keys: Sequence[bytes]) -> None:
        delete, database = self._handle.delete, self._databases[table]
        try:
            for key in keys:
                if delete(key, db=database):
                    self._has_written = True
        except lmdb.Error as error:
            raise translate(error, self._path, f"deleting from table {table}") from error

    def incr_many(self, table: Table, increments: Sequence[tuple[bytes, int]]) -> list[int]:
        keys = sorted({key for key, _ in increments})
        values = {}
        for key, stored in zip(keys, self.get_many(table, keys), strict=True):
            if stored is not None and len(stored) != _COUNTER.size:
                raise row_corrupt(table, key, f"a counter of {len(stored)} bytes")
            values[key] = 0 if stored is None else _COUNTER.unpack(stored)[0]
        results = []
        for key, increment in increments:
            values[key] += increment
            results.append(values[key])
        self.put_many(table, [(key, _COUNTER.pack(values[key])) for key in keys])
        return results

    def stamp(self) -> None:
        """Name this transaction in the file, unless it wrote nothing: then nothing is synced."""
        if not self._has_written:
            return
        try:
            self._handle.put(STAMP_KEY, commit_stamp(self._handle.id()))
        except lmdb.Error as error:
            raise translate(error, self._path, "committing a transaction") from error


def _put(cursor: "lmdb.Cursor[bytes]", rows: Sequence[Row]) -> None:
    """Store *rows*; those that rise past the table's end fill their pages whole.

    LMDB's plain insert leaves room at the end too: rows of 1 KiB took 2057 bytes each that
    way, and 1372 appended; rows of 40 bytes gain one percent.
    """
    last = cursor.key() if cursor.last() else b""
    appended_count = 0
    if rows[-1][0] > last and all(one[0] < other[0] for one, other in pairwise(rows)):
        appended_count = len(rows) - bisect_right(rows, last, key=_key_of)
    plain_count = len(rows) - appended_count
    if plain_count:
        cursor.putmulti(rows[:plain_count] if appended_count else rows)
    if appended_count:
        tail = rows[plain_count:] if plain_count else rows
        _, added_count = cursor.putmulti(tail, append=True)
        assert added_count == appended_count, "an appended row did not rise past the end"


def _rising(cursor: "lmdb.Cursor[bytes]", start: bytes, stop: bytes | None) -> Iterator[Row]:
    if not (cursor.set_range(start) if start else cursor.first()):
        return
    for row in cursor.iternext():
        if stop is not None and row[0] >= stop:
            return
        yield row


def _falling(cursor: "lmdb.Cursor[bytes]", start: bytes, stop: bytes | None) -> Iterator[Row]:
    if stop == b"":
        return
    is_found = cursor.prev() if stop is not None and cursor.set_range(stop) else cursor.last()
    if not is_found:
        return
    for row in cursor.iterprev():
        if row[0] < start:
            return
        yield row


def _restamp(path: Path, map_size_bytes: int) -> None:
    """Give both meta pages of a fresh copy, which LMDB numbers anew, their commit stamps."""
    try:
        with open_lmdb(path, map_size_bytes) as environment:
            for _ in range(2):
                with environment.begin(write=True) as writer:
                    writer.put(STAMP_KEY, commit_stamp(writer.id()))
        sync_directories(path)
    except (lmdb.Error, OSError) as error:
        raise translate(error, path, "copying the metadata") from error
