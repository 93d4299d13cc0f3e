"""The rows that find snapshots, and the streams that listings read from them.

    table                key                                             which snapshots
    SNAPSHOTS_BY_TIME    owner id, start time 8 BE, snapshot id          not in the recycle bin
    SNAPSHOTS_BY_VOLUME  volume id, start time 8 BE, snapshot id         all
    SNAPSHOTS_SHARED     account id or "all", start time 8 BE, ...       shared, not in the bin
    SNAPSHOTS_BY_TERM    term 16, start time 8 BE, snapshot id      it is true of; not in the bin
    SNAPSHOTS_LOCKED     owner id, start time 8 BE, snapshot id          locked, or once locked
    LOCK_MOMENTS         time 8 BE, "c" or "e", snapshot id              cool-off or lock ends
    RECYCLE_BIN          exit time 8 BE, id                              in the recycle bin
    RECYCLE_BIN_BY_OWNER owner id, "snap" or "vol-", enter time 8 BE, id in the recycle bin
    ARCHIVES             archive id, "/", snapshot id                    those with an archive
    RESTORE_EXPIRIES     expiry time 8 BE, snapshot id                   restored for a time

Every value is empty.  What follows the first part of a key is the same in the first five,
so that several streams can be merged into one listing by start time.
"""

from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from itertools import groupby, islice
from typing import NamedTuple

from ebsim.catalog.snapshot import Snapshot, decode_snapshot
from ebsim.catalog.snapshot_terms import terms_of
from ebsim.catalog.volume import Volume
from ebsim.ids import AccountId, SnapshotId, VolumeId
from ebsim.metadata.transactions import Reader, Table, Transaction

PUBLIC = "all"
"""Amazon's name for the group of all accounts."""

COOL_OFF_ENDS, LOCK_ENDS = b"c", b"e"

_AFTER_ALL = b"\xff"
_CHUNK_LEAST = 16
_TERMS_INDEXED = b"terms_indexed"
_SNAPSHOTS_PER_SCAN = 256

IndexRow = tuple[Table, bytes]

INDEX_TABLES = (
    Table.SNAPSHOTS_BY_TIME,
    Table.SNAPSHOTS_BY_VOLUME,
    Table.SNAPSHOTS_SHARED,
    Table.SNAPSHOTS_BY_TERM,
    Table.SNAPSHOTS_LOCKED,
    Table.LOCK_MOMENTS,
    Table.RECYCLE_BIN,
    Table.RECYCLE_BIN_BY_OWNER,
    Table.ARCHIVES,
    Table.RESTORE_EXPIRIES,
)


def index_rows(snapshot: Snapshot) -> frozenset[IndexRow]:
    """The rows that find *snapshot*."""
    name = snapshot.snapshot_id
    suffix = _suffix(snapshot)
    rows = {(Table.SNAPSHOTS_BY_VOLUME, snapshot.volume_id.encode() + suffix)}
    stay = snapshot.bin_stay
    if stay is not None:
        rows |= bin_rows(snapshot)
    else:
        rows.add((Table.SNAPSHOTS_BY_TIME, snapshot.owner_id.encode() + suffix))
        given = (*snapshot.shared_with, *([PUBLIC] if snapshot.is_public else []))
        rows.update((Table.SNAPSHOTS_SHARED, who.encode() + suffix) for who in given)
        terms = terms_of(snapshot, (snapshot.owner_id, *given))
        rows.update((Table.SNAPSHOTS_BY_TERM, term + suffix) for term in terms)
    if snapshot.archive is not None:
        rows.add((Table.ARCHIVES, f"{snapshot.archive.archive_id}/{name}".encode()))
    if snapshot.restore_expiry_time_ns is not None:
        expiry = snapshot.restore_expiry_time_ns.to_bytes(8, "big")
        rows.add((Table.RESTORE_EXPIRIES, expiry + name.encode()))
    lock = snapshot.lock
    if lock is not None:
        rows.add((Table.SNAPSHOTS_LOCKED, snapshot.owner_id.encode() + suffix))
        for kind, time_ns in (
            (COOL_OFF_ENDS, lock.cool_off_expires_time_ns),
            (LOCK_ENDS, lock.expires_time_ns),
        ):
            if time_ns is not None:
                moment = time_ns.to_bytes(8, "big") + kind
                rows.add((Table.LOCK_MOMENTS, moment + snapshot.snapshot_id.encode()))
    return frozenset(rows)


def _suffix(snapshot: Snapshot) -> bytes:
    return snapshot.start_time_ns.to_bytes(8, "big") + snapshot.snapshot_id.encode()


def bin_rows(resource: Snapshot | Volume) -> frozenset[IndexRow]:
    """The rows that find *resource* in the recycle bin; none unless it is there."""
    stay = resource.bin_stay
    if stay is None:
        return frozenset()
    name = resource.snapshot_id if isinstance(resource, Snapshot) else resource.volume_id
    key = name.encode()
    by_owner = resource.owner_id.encode() + key[:4] + stay.enter_time_ns.to_bytes(8, "big") + key
    return frozenset(
        {
            (Table.RECYCLE_BIN, stay.exit_time_ns.to_bytes(8, "big") + key),
            (Table.RECYCLE_BIN_BY_OWNER, by_owner),
        }
    )


def snapshot_id_in(key: bytes) -> SnapshotId:
    """The snapshot that an index row leads to."""
    return SnapshotId(key[key.rfind(b"snap-") :].decode(errors="replace"))


def volume_id_in(key: bytes) -> VolumeId:
    """The volume that a row of the recycle bin leads to."""
    return VolumeId(key[key.rfind(b"vol-") :].decode(errors="replace"))


class Stream(NamedTuple):
    """Snapshots whose index rows begin alike, by rising start time."""

    table: Table
    prefix: bytes

    @property
    def mark(self) -> bytes:
        """What tells it from another."""
        return self.table.encode() + b":" + self.prefix

    def suffixes(self, reader: Reader, after: bytes, chunk: int) -> Iterator[bytes]:
        """What follows the first part of its rows' keys, behind *after*; *chunk* at a time."""
        while True:
            start = self.prefix + after + b"\0" if after else self.prefix
            rows = reader.scan(self.table, start, self.prefix + _AFTER_ALL, limit=chunk)
            yield from (key[len(self.prefix) :] for key, _ in rows)
            if len(rows) < chunk:
                return
            after = rows[-1][0][len(self.prefix) :]


class NamedSnapshots(NamedTuple):
    """Those of the snapshots of certain ids that there are, by rising start time."""

    snapshot_ids: tuple[SnapshotId, ...]

    @property
    def mark(self) -> bytes:
        """What tells it from another."""
        return ",".join(self.snapshot_ids).encode()

    def suffixes(self, reader: Reader, after: bytes, chunk: int) -> Iterator[bytes]:
        """As :meth:`Stream.suffixes`."""
        del chunk
        rows = reader.get_many(Table.SNAPSHOTS, [one.encode() for one in self.snapshot_ids])
        found = (_suffix(decode_snapshot(row)) for row in rows if row is not None)
        yield from sorted(suffix for suffix in found if suffix > after)


def of_owner(account_id: AccountId) -> Stream:
    return Stream(Table.SNAPSHOTS_BY_TIME, account_id.encode())


def of_volume(volume_id: VolumeId) -> Stream:
    return Stream(Table.SNAPSHOTS_BY_VOLUME, volume_id.encode())


def shared_with(who: str) -> Stream:
    """Those shared with an account, or with all: :data:`PUBLIC`."""
    return Stream(Table.SNAPSHOTS_SHARED, who.encode())


def having(term: bytes) -> Stream:
    """Those that a term is true of: see ``snapshot_terms.py``."""
    return Stream(Table.SNAPSHOTS_BY_TERM, term)


def locked_of(account_id: AccountId) -> Stream:
    return Stream(Table.SNAPSHOTS_LOCKED, account_id.encode())


def read_streams(
    reader: Reader,
    streams: Sequence[Stream] | Sequence[NamedSnapshots],
    after: bytes,
    limit: int,
    *,
    may_fit: Callable[[bytes], bool] | None = None,
) -> Sequence[tuple[bytes, Snapshot | None]]:
    """At most *limit* snapshots of all *streams* together, each once, by rising start time.

    Each comes with what to pass as *after* to go on behind it; fewer than *limit* are the
    last.  ``None`` where *may_fit* says no of the stored row, which is then not read, and
    where an index row leads to nothing: ``store check`` tells of it.  Cost:
    proportional to *limit* and the number of streams.
    """
    chunk = max(limit // max(len(streams), 1), _CHUNK_LEAST)
    merged = merge(*(stream.suffixes(reader, after, chunk) for stream in streams))
    ordered = list(islice((suffix for suffix, _ in groupby(merged)), limit))
    ids = [snapshot_id_in(suffix).encode() for suffix in ordered]
    found = reader.get_many(Table.SNAPSHOTS, ids)
    return [
        (
            suffix,
            decode_snapshot(row)
            if row is not None and (may_fit is None or may_fit(row))
            else None,
        )
        for suffix, row in zip(ordered, found, strict=True)
    ]


def note_terms_indexed(txn: Transaction) -> None:
    """From now on every snapshot has its rows in SNAPSHOTS_BY_TERM."""
    txn.put_many(Table.STORE, [(_TERMS_INDEXED, b"1")])


def has_terms_indexed(reader: Reader) -> bool:
    """Whether the store is not one of an earlier version, which had no such rows."""
    return reader.get_many(Table.STORE, [_TERMS_INDEXED]) != [None]


def index_terms(txn: Transaction) -> None:
    """Write what a store of an earlier version lacks, unless another process just did."""
    if has_terms_indexed(txn):
        return
    start = b""
    while rows := txn.scan(Table.SNAPSHOTS, start, limit=_SNAPSHOTS_PER_SCAN):
        found = {row for _, value in rows for row in index_rows(decode_snapshot(value))}
        keys = sorted(key for table, key in found if table is Table.SNAPSHOTS_BY_TERM)
        txn.put_many(Table.SNAPSHOTS_BY_TERM, [(key, b"") for key in keys])
        start = rows[-1][0] + b"\0"
    note_terms_indexed(txn)
