"""Which snapshots processes are at work on."""

from ebsim.catalog.records import find_snapshot
from ebsim.catalog.snapshot import Snapshot
from ebsim.chunkstore.ledger import scan_all
from ebsim.engine.region import Region
from ebsim.ids import SnapshotId
from ebsim.metadata.transactions import Reader, Table


def snapshots_in_progress(region: Region) -> list[Snapshot]:
    """The snapshots that sessions have noted: being taken, copied, moved between tiers.

    Cost: a row for each, however many snapshots there are.
    """

    def look(reader: Reader) -> list[Snapshot]:
        noted = {key.decode().partition("/")[2] for key, _ in scan_all(reader, Table.SESSIONS)}
        found = (find_snapshot(reader, SnapshotId(name)) for name in sorted(noted))
        return [snapshot for snapshot in found if snapshot is not None]

    return region.metadata.read(look)
