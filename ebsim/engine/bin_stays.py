"""How long a deleted snapshot or volume is kept: what the account's rules say."""

from ebsim.catalog.bin_stay import BinStay
from ebsim.catalog.retention_rule import ResourceType, retention_days
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.snapshot_lock import DAY_NS
from ebsim.catalog.volume import Volume
from ebsim.metadata.transactions import Reader


def stay_of_snapshot(reader: Reader, snapshot: Snapshot, now_ns: int) -> BinStay | None:
    """The stay of *snapshot* in the recycle bin if it is deleted now; ``None``: it has none."""
    if snapshot.state is not SnapshotState.COMPLETED:
        return None
    days = retention_days(reader, snapshot.owner_id, ResourceType.SNAPSHOT, snapshot.tags)
    return _stay(days, now_ns)


def stay_of_volume(reader: Reader, volume: Volume, now_ns: int) -> BinStay | None:
    """The stay of *volume* in the recycle bin if it is deleted now; ``None``: it has none."""
    days = retention_days(reader, volume.owner_id, ResourceType.VOLUME, volume.tags)
    return _stay(days, now_ns)


def _stay(days: int | None, now_ns: int) -> BinStay | None:
    return None if days is None else BinStay(now_ns, now_ns + days * DAY_NS)
