"""Holding a snapshot while it is read, whoever deletes or archives it meanwhile."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ebsim.catalog.records import find_snapshot
from ebsim.catalog.snapshot import Snapshot
from ebsim.engine.holds import reading
from ebsim.engine.region import Region
from ebsim.engine.storage_tiers import refuse_archived
from ebsim.errors import ChunkMissing, SnapshotNotFound


@contextmanager
def reading_snapshot(region: Region, snapshot: Snapshot) -> Iterator[None]:
    """Hold the root of *snapshot*, which was readable a moment ago, while the body runs.

    Raises:
        SnapshotNotFound, SnapshotArchived: it is not any more.
        ChunkMissing: it is, and its root is lost.
    """
    assert snapshot.root is not None, "only what is readable is read"
    with ExitStack() as held:
        try:
            held.enter_context(reading(region, snapshot.root))
        except ChunkMissing as error:
            name = snapshot.snapshot_id
            current = region.metadata.read(lambda reader: find_snapshot(reader, name))
            if current is None:
                raise SnapshotNotFound(name) from error
            refuse_archived(region, current)
            raise
        yield
