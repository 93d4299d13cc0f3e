"""The transactional key-value interface that everything stored as rows goes through.

Rows live in named tables, ordered by key bytes.  All access is in batches, inside a
function that the store runs in a transaction and may run again; nothing read there may
outlive it as a view of the store's memory: every value is ``bytes``.

Two stores implement it, under one contract suite: LMDB (``lmdb_metadata.py``) and
memory (``memory_metadata.py``).
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol, TypeVar

T = TypeVar("T")

Row = tuple[bytes, bytes]
"""A key and its value."""


class Table(StrEnum):
    """The tables; ``FORMAT.md`` gives the layout of the keys and values of each."""

    STORE = "store"  # settings and counters of the region
    CHUNKS = "chunks"  # digest -> chunk number
    LOCATIONS = "locations"  # page of chunk numbers -> where their records lie
    COUNTS = "counts"  # page of chunk numbers -> their reference counts
    NODES = "nodes"  # chunk number of a node -> its children, a leaf's fingerprints
    PACKS = "packs"  # pack number -> name, size, live bytes
    DEAD = "dead"  # (pack number, offset) -> dead bytes not yet given back
    RECLAIM = "reclaim"  # chunk numbers whose count reached zero
    DAMAGED = "damaged"  # chunk numbers known to be unreadable
    SESSIONS = "sessions"  # processes at work
    HOLDS = "holds"  # references that sessions hold on nodes
    SNAPSHOTS = "snapshots"  # snapshot id -> the snapshot
    SNAPSHOTS_BY_TIME = "snapshots_by_time"
    SNAPSHOTS_BY_VOLUME = "snapshots_by_volume"
    SNAPSHOTS_SHARED = "snapshots_shared"  # account or all -> what was shared with it
    SNAPSHOTS_BY_TERM = "snapshots_by_term"  # by state and by tag
    SNAPSHOTS_LOCKED = "snapshots_locked"
    LOCK_MOMENTS = "lock_moments"  # by the time at which a lock changes by itself
    RECYCLE_BIN = "recycle_bin"  # by the time at which its retention ends
    RECYCLE_BIN_BY_OWNER = "recycle_bin_by_owner"
    RETENTION_RULES = "retention_rules"  # owner, rule id -> the rule
    FAST_RESTORES = "fast_restores"  # account, snapshot id, zone -> its state and pool
    ACCOUNT_SETTINGS = "account_settings"  # account -> what it set for the region
    KMS_KEYS = "kms_keys"  # account, key id -> the key and its aliases
    VOLUMES = "volumes"  # volume id -> the volume
    VOLUMES_BY_SOURCE = "volumes_by_source"
    INSTANCES = "instances"  # instance id -> the instance
    DIRECT_SNAPSHOTS = "direct_snapshots"  # snapshot id -> what it needs until it is completed
    DIRECT_CHECKSUMS = "direct_checksums"  # (snapshot id, block index) -> SHA-256 of what was put
    IMPORT_TASKS = "import_tasks"  # (account, task id) -> the task
    CLIENT_TOKENS = "client_tokens"  # (account, token) -> the request that it stands for
    ARCHIVES = "archives"  # packs of snapshots that are archived, by what their names begin with
    ARCHIVES_DROPPED = "archives_dropped"  # archives whose packs are to be deleted
    RESTORE_EXPIRIES = "restore_expiries"  # temporary restores, by when they end
    MANIFEST_TASKS = "manifest_tasks"  # manifests to be written or unlinked
    EVENTS = "events"  # sequence number -> an event


class Reader(Protocol):
    """A consistent view of the whole store at one moment."""

    def get_many(self, table: Table, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, ``None`` where there is none, in the order asked.

        Sorted keys cost least.
        """

    def scan(
        self,
        table: Table,
        start: bytes = b"",
        stop: bytes | None = None,
        *,
        limit: int,
        reverse: bool = False,
    ) -> list[Row]:
        """At most *limit* rows with ``start <= key < stop``, by rising key.

        ``stop=None`` is the end of the table.  *reverse* gives the last rows of the
        range, by falling key.
        """


class Transaction(Reader, Protocol):
    """A :class:`Reader` that also writes, and sees its own writes."""

    def put_many(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert or replace rows.  Rows that rise past the table's end cost least."""

    def delete_many(self, table: Table, keys: Sequence[bytes]) -> None:
        """Remove rows; keys that do not exist are passed over."""

    def incr_many(self, table: Table, increments: Sequence[tuple[bytes, int]]) -> list[int]:
        """Add to 64-bit signed counters, absent ones counting as 0; return the new values.

        A counter's value is 8 bytes, little endian.  The key may be named more than once.
        """


class Metadata(Protocol):
    """A store of tables."""

    def read(self, fn: Callable[[Reader], T]) -> T:
        """Return ``fn(reader)`` for the newest committed state.  Never waits for a writer."""

    def run(self, fn: Callable[[Transaction], T]) -> T:
        """Return ``fn(transaction)`` after its writes are durable, all or none of them.

        *fn* may be called more than once and must have no effect but through its
        transaction.  An exception from *fn* leaves the store unchanged and is passed on.
        Only one transaction runs at a time, over all processes: *fn* does no input or
        output of its own.

        Raises:
            StorageFull: no room; nothing was changed.
            StorageUnavailable: the disk failed; whether it was committed is not known
                until the store is opened again.
            MetadataCorrupt: a row read fails its checksum.
        """

    def close(self) -> None:
        """Release the store.  Transactions must have ended."""
