"""Opening a snapshot to read it like a disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ebsim.catalog.records import get_usable_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.engine.reading_snapshot import reading_snapshot
from ebsim.engine.region import Region
from ebsim.engine.storage_tiers import refuse_archived
from ebsim.errors import Conflict
from ebsim.volumes.origin import Origin
from ebsim.volumes.snapshot_device import SnapshotDevice


@dataclass(frozen=True, slots=True)
class OpenedSnapshot:
    """A snapshot and its disk."""

    snapshot: Snapshot
    device: SnapshotDevice

    @property
    def block_size(self) -> int:
        return self.snapshot.block_size


@contextmanager
def open_snapshot(region: Region, name: str) -> Iterator[OpenedSnapshot]:
    """Have the snapshot open while the body runs, whoever deletes it meanwhile.

    Raises:
        SnapshotNotFound, InvalidRequest: there is none of this id or unique prefix.
        Conflict: it is not completed.
        SnapshotArchived: it is archived.
    """
    snapshot = region.metadata.read(
        lambda reader: get_usable_snapshot(reader, region.account_id, name)
    )
    refuse_archived(region, snapshot)
    if snapshot.state is not SnapshotState.COMPLETED or snapshot.root is None:
        raise Conflict(
            f"{snapshot.snapshot_id} is {snapshot.state}, not completed, and cannot be read."
        )
    with reading_snapshot(region, snapshot):
        origin = Origin(snapshot.root, region.chunks)
        device = SnapshotDevice(origin, snapshot.size_bytes, snapshot.block_size)
        yield OpenedSnapshot(snapshot, device)
