"""What puts leave in the metadata, and its end."""

from ebsim.catalog.direct_snapshot import (
    drop_checksums,
    puts_owner,
    scan_checksums,
)
from ebsim.chunkstore.rows import hold_prefix
from ebsim.engine.holds import drop_all_holds
from ebsim.engine.region import Region
from ebsim.ids import SnapshotId
from ebsim.metadata.transactions import Reader, Table

_ROWS_PER_STEP = 1024


def drop_puts(region: Region, snapshot_id: SnapshotId) -> None:
    """Let go of all that was put, and of the parent; the snapshot's record is gone already.

    May be done twice, and be broken off: recovery does it as well.  Writes nothing where
    there is nothing.
    """
    if not region.metadata.read(lambda reader: has_puts(reader, snapshot_id)):
        return
    while region.metadata.run(lambda txn: drop_checksums(txn, snapshot_id, _ROWS_PER_STEP)):
        pass
    drop_all_holds(region, puts_owner(snapshot_id))


def has_puts(reader: Reader, snapshot_id: SnapshotId) -> bool:
    """Whether anything is left of the puts to a snapshot."""
    prefix = hold_prefix(puts_owner(snapshot_id))
    holds = reader.scan(Table.HOLDS, prefix, prefix + b"\xff" * 10, limit=1)
    return bool(holds or scan_checksums(reader, snapshot_id, 0, 1))
