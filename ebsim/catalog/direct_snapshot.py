"""Snapshots that are written block by block: what is kept of one until it is completed.

    table             key                          value
    DIRECT_SNAPSHOTS  snapshot id                  the record, JSON
    DIRECT_CHECKSUMS  snapshot id, "/", block 8 BE SHA-256 of the bytes put there last
    HOLDS             "puts-", snapshot id, ...    level 0: the block put at that place;
                                                   level 255: the parent's block map

The rows go, in that order, when the snapshot is completed, fails or is deleted.
Functions work inside a transaction or reader given by the caller.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

from ebsim.errors import MetadataCorrupt
from ebsim.ids import SnapshotId
from ebsim.metadata.transactions import Reader, Table, Transaction

_PUTS = "puts-"


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What somebody who wants a snapshot completed says that it is.

    Attributes:
        changed_block_count: Distinct blocks put.
        checksum: SHA-256 of the blocks' SHA-256 digests by rising index, in hexadecimal.
    """

    changed_block_count: int
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class DirectSnapshot:
    """What a snapshot written block by block needs while it is pending.

    Attributes:
        timeout_minutes: After so long without a put it fails.
        active_time_ns: When it was begun or a block was last put.
        base_root: The root, in hexadecimal, of the parent's block map; ``None`` without.
        base_block_count: Blocks present in that map.
        base_referenced_bytes: Their records, each as often as it occurs.
        stored_bytes: What the puts added to the packs.
        request: Set once completion was asked for; nothing can be put from then on.
        finisher: The session that is completing it, or was when it died.
    """

    timeout_minutes: int
    active_time_ns: int
    base_root: str | None = None
    base_block_count: int = 0
    base_referenced_bytes: int = 0
    stored_bytes: int = 0
    request: CompletionRequest | None = None
    finisher: str = ""

    @property
    def expiry_time_ns(self) -> int:
        """When it fails if nothing is put until then."""
        return self.active_time_ns + self.timeout_minutes * 60 * 10**9


def encode_direct(record: DirectSnapshot) -> bytes:
    return json.dumps(asdict(record), separators=(",", ":")).encode()


def decode_direct(row: bytes) -> DirectSnapshot:
    """The record that ``encode_direct`` wrote.

    Raises:
        MetadataCorrupt: a field is missing or unknown.
    """
    try:
        values = json.loads(row)
        if values["request"] is not None:
            values["request"] = CompletionRequest(**values["request"])
        return DirectSnapshot(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise MetadataCorrupt(where="a direct snapshot's record", found=repr(error)) from error


def put_direct(txn: Transaction, snapshot_id: SnapshotId, record: DirectSnapshot) -> None:
    txn.put_many(Table.DIRECT_SNAPSHOTS, [(snapshot_id.encode(), encode_direct(record))])


def find_direct(reader: Reader, snapshot_id: SnapshotId) -> DirectSnapshot | None:
    """The record; ``None`` for a snapshot that is not being written block by block."""
    (row,) = reader.get_many(Table.DIRECT_SNAPSHOTS, [snapshot_id.encode()])
    return None if row is None else decode_direct(row)


def remove_direct(txn: Transaction, snapshot_id: SnapshotId) -> None:
    txn.delete_many(Table.DIRECT_SNAPSHOTS, [snapshot_id.encode()])


def scan_direct(
    reader: Reader, after: SnapshotId | None, limit: int
) -> list[tuple[SnapshotId, DirectSnapshot]]:
    """At most *limit* of them behind the snapshot *after*, by id."""
    start = after.encode() + b"\0" if after else b""
    rows = reader.scan(Table.DIRECT_SNAPSHOTS, start, limit=limit)
    return [(SnapshotId(key.decode()), decode_direct(row)) for key, row in rows]


def puts_owner(snapshot_id: SnapshotId) -> str:
    """The owner of the holds on what was put, and on the parent's block map."""
    return f"{_PUTS}{snapshot_id}"


def snapshot_of_puts(owner: str) -> SnapshotId | None:
    """The snapshot whose puts that owner holds; ``None`` if it is another kind of owner."""
    return SnapshotId(owner.removeprefix(_PUTS)) if owner.startswith(_PUTS) else None


class PutChecksum(NamedTuple):
    """SHA-256 of what was put at a place."""

    snapshot_id: SnapshotId
    block_index: int
    sha256: bytes


def put_checksums(txn: Transaction, checksums: Sequence[PutChecksum]) -> None:
    """Write *checksums*; of two at one place the later one stays."""
    rows = {_checksum_key(one.snapshot_id, one.block_index): one.sha256 for one in checksums}
    txn.put_many(Table.DIRECT_CHECKSUMS, sorted(rows.items()))


def scan_checksums(
    reader: Reader, snapshot_id: SnapshotId, start: int, limit: int
) -> list[tuple[int, bytes]]:
    """At most *limit* block indexes from *start* on and their SHA-256, by rising index."""
    first, stop = _checksum_key(snapshot_id, start), snapshot_id.encode() + b"/" + b"\xff" * 9
    rows = reader.scan(Table.DIRECT_CHECKSUMS, first, stop, limit=limit)
    return [(int.from_bytes(key[-8:], "big"), row) for key, row in rows]


def drop_checksums(txn: Transaction, snapshot_id: SnapshotId, limit: int) -> bool:
    """Remove at most *limit* of them; return whether more may be left."""
    rows = scan_checksums(txn, snapshot_id, 0, limit)
    txn.delete_many(
        Table.DIRECT_CHECKSUMS, [_checksum_key(snapshot_id, index) for index, _ in rows]
    )
    return len(rows) == limit


def _checksum_key(snapshot_id: SnapshotId, block_index: int) -> bytes:
    return snapshot_id.encode() + b"/" + block_index.to_bytes(8, "big")
