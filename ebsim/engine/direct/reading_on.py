"""Reading a snapshot without a hold on it, as many small requests do.

A hold is a session's, two transactions and their syncs for each request.  So these read
without: what they read is proved by its digest, and a chunk that is gone is no damage if
the snapshot is gone as well.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ebsim.catalog.records import find_snapshot
from ebsim.engine.region import Region
from ebsim.errors import IntegrityError, SnapshotNotFound
from ebsim.ids import SnapshotId


@contextmanager
def reading_on(region: Region, *snapshot_ids: SnapshotId) -> Iterator[None]:
    """Let a chunk that is not there be ``SnapshotNotFound`` if its snapshot was deleted.

    Raises:
        IntegrityError: what the body raised, of snapshots that are all there.
    """
    try:
        yield
    except IntegrityError as error:
        for snapshot_id in snapshot_ids:
            if region.metadata.read(lambda reader: find_snapshot(reader, snapshot_id)) is None:  # noqa: B023 (called at once)
                raise SnapshotNotFound(snapshot_id) from error
        raise
