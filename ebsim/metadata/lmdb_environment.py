"""One open LMDB environment, shared by everything in this process that names its path.

LMDB's locks belong to the process, so one file must never be open twice in it: the
second to close would let go of the first one's locks.  Opening a path again therefore
gives the same environment, counted.

States of an environment:

    open       transactions begin and end; any number of threads
    doubtful   a commit failed, so what LMDB holds in memory may not be what the disk
               holds: no transaction begins until those under way have ended; the next
               then closes and reopens the environment
    closed     the last user has closed it

A transaction must not begin inside another of the same thread: one inside a writer
would wait for itself, and one inside a reader would see another moment.

An environment does not survive ``fork``: the child would share its parent's reader
slots.  Using it there is a bug, and asserted.
"""

import os
import threading
from pathlib import Path
from typing import Final

import lmdb

from ebsim.errors import InvalidRequest, MetadataCorrupt, UnsupportedFormat
from ebsim.metadata.commit_stamp import STAMP_KEY, commit_stamp
from ebsim.metadata.lmdb_errors import translate
from ebsim.metadata.mapped_pages import drop_mapped, find_mapping, mapped_resident_bytes
from ebsim.metadata.network_filesystems import MOUNT_TABLE, network_filesystem_of
from ebsim.metadata.transactions import Table

DATA_FILE: Final = "data.mdb"

_READERS_MAX: Final = 2048
_SPARE_READERS: Final = 8
_HOUSEKEEPING_INTERVAL: Final = 16
_MAPPED_RESIDENT_MAX: Final = 64 << 20
"""Beyond what the process has mapped of other files, programs' code above all."""

# LMDB allows a file to be open once in a process, so who has it open is a fact of the
# process and of nothing smaller.  By process id: a forked child must open its own.
_opened: Final[dict[tuple[int, int, int], "LmdbEnvironment"]] = {}
_opening: Final = threading.Lock()


class LmdbEnvironment:
    """An open environment.  Got by :func:`open_environment`; safe from many threads."""

    def __init__(self, path: Path, map_size_bytes: int) -> None:
        self.path = path
        self.user_count = 0
        self._map_size_bytes = map_size_bytes
        self._pid = os.getpid()
        self._idle = threading.Condition()
        self._under_way_count = 0
        self._begun_count = 0
        self._doubtful = False
        self._thread = threading.local()
        self._resident_elsewhere = mapped_resident_bytes()
        self._open()

    def enter(self) -> tuple[lmdb.Environment, "dict[Table, lmdb._Database]"]:
        """A transaction of this thread begins: what it runs on.  Must be left again."""
        assert os.getpid() == self._pid, "metadata opened before a fork was used after it"
        assert not getattr(self._thread, "inside", False), "a transaction inside a transaction"
        with self._idle:
            assert self.user_count > 0, "metadata was used after it was closed"
            if self._doubtful:
                self._idle.wait_for(lambda: self._under_way_count == 0)
                self._reopen_if_doubtful()
            self._under_way_count += 1
            self._begun_count += 1
            housekeeping_due = self._begun_count % _HOUSEKEEPING_INTERVAL == 0
        self._thread.inside = True
        if housekeeping_due:
            try:
                self._keep_house()
            except (lmdb.Error, OSError) as error:
                self.leave()
                raise translate(error, self.path, "looking for dead readers") from error
        return self._environment, self._databases

    def leave(self, *, doubtful: bool = False) -> None:
        """The transaction is over; *doubtful* if its commit failed."""
        self._thread.inside = False
        with self._idle:
            self._under_way_count -= 1
            self._doubtful |= doubtful
            if self._under_way_count == 0:
                self._idle.notify_all()

    def trim(self) -> None:
        """Drop the mapped pages of the file from this process if they have become many."""
        if mapped_resident_bytes() - self._resident_elsewhere > _MAPPED_RESIDENT_MAX:
            drop_mapped(*self._mapping)
            self._resident_elsewhere = mapped_resident_bytes()

    def close(self) -> None:
        with self._idle:
            assert self._under_way_count == 0, "metadata was closed inside a transaction"
            self._environment.close()

    def _keep_house(self) -> None:
        # A killed reader's slot keeps the pages it saw from being used again.
        self._environment.reader_check()
        self.trim()

    def _reopen_if_doubtful(self) -> None:
        if self._doubtful:
            self._environment.close()
            self._open()
            self._doubtful = False

    def _open(self) -> None:
        is_new = not (self.path / DATA_FILE).exists()
        try:
            self._environment = open_lmdb(self.path, self._map_size_bytes)
        except (lmdb.Error, OSError) as error:
            raise translate(error, self.path, "opening it") from error
        try:
            self._environment.reader_check()
            self._databases = _open_databases(self._environment, self.path)
            self._mapping = find_mapping(self.path / DATA_FILE)
            if is_new:
                sync_directories(self.path)
        except (lmdb.Error, OSError) as error:
            self._environment.close()
            raise translate(error, self.path, "opening it") from error
        except BaseException:
            self._environment.close()
            raise


def open_lmdb(path: Path, map_size_bytes: int) -> lmdb.Environment:
    """Open LMDB in the directory *path* in the one way that ebsim ever does.

    Synced at each commit and written by ``pwrite`` (a writable map lets a stray pointer
    write into the file).  No readahead: lookups are scattered, and read-ahead pages
    count as this process's memory.  The file's format is fixed to LMDB 0.9's.
    """
    return lmdb.open(
        str(path),
        map_size=map_size_bytes,
        mode=0o600,
        readahead=False,
        writemap=False,
        max_readers=_READERS_MAX,
        max_dbs=len(Table),
        max_spare_txns=_SPARE_READERS,
        lib_version=0,
    )


def open_environment(path: Path, map_size_bytes: int) -> LmdbEnvironment:
    """The environment in the directory *path*, made if there is none; close by
    :func:`close_environment`."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = path.resolve(strict=True)
        status = path.stat()
        mount_table = MOUNT_TABLE.read_text(errors="replace")
    except OSError as error:
        raise translate(error, path, "opening it") from error
    filesystem = network_filesystem_of(path, mount_table)
    if filesystem is not None:
        raise InvalidRequest(
            f"{path} lies on a network file system ({filesystem}), where the metadata would be "
            "torn by two machines writing at once. Nothing was changed. Choose a home on a "
            "local disk."
        )
    identity = (os.getpid(), status.st_dev, status.st_ino)
    with _opening:
        environment = _opened.get(identity)
        if environment is None:
            environment = LmdbEnvironment(path, map_size_bytes)
            _opened[identity] = environment
        environment.user_count += 1
        return environment


def close_environment(environment: LmdbEnvironment) -> None:
    """Give back what :func:`open_environment` gave; the last user's call closes it."""
    with _opening:
        environment.user_count -= 1
        if environment.user_count:
            return
        environment.close()
        for identity in [one for one, other in _opened.items() if other is environment]:
            del _opened[identity]


def _open_databases(environment: lmdb.Environment, path: Path) -> "dict[Table, lmdb._Database]":
    """Open every table, making those that are missing.

    In a writing transaction though it mostly writes nothing, since LMDB forgets the
    handles that a reading one opened.
    """
    with environment.begin(write=True) as writer:
        names = set(writer.cursor().iternext(values=False))
        if names:
            _check_names(names, path)
            _check_stamp(writer, path)
        databases = {table: environment.open_db(table.encode(), txn=writer) for table in Table}
        if any(table.encode() not in names for table in Table):
            writer.put(STAMP_KEY, commit_stamp(writer.id()))
        return databases


def _check_names(names: set[bytes], path: Path) -> None:
    known = {table.encode() for table in Table}
    unknown = sorted(names - known - {STAMP_KEY})
    missing = sorted(known - names)
    if STAMP_KEY not in names:
        raise MetadataCorrupt(where=f"{path}", found="its commit stamp is missing")
    if unknown and missing:
        # One name turned into another: a newer ebsim would have kept the old ones.
        raise MetadataCorrupt(
            where=f"{path}", found=f"table {missing[0]!r} is missing and {unknown[0]!r} unknown"
        )
    if unknown:
        raise UnsupportedFormat(
            f"the metadata in {path} has a table {unknown[0]!r}, which this ebsim does not know. "
            "Nothing was changed. Use the newer ebsim that wrote it."
        )


def _check_stamp(writer: "lmdb.Transaction[bytes]", path: Path) -> None:
    # A writer is numbered one above the state that it began from.
    committed = writer.id() - 1
    if writer.get(STAMP_KEY) != commit_stamp(committed):
        raise MetadataCorrupt(
            where=f"{path}, meta pages",
            found=f"transaction {committed} does not match the commit stamp",
        )


def sync_directories(path: Path) -> None:
    """Make the name of the directory *path*, and the names in it, durable."""
    for directory in (path, path.parent):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
