"""How many snapshots an account has."""

from ebsim.catalog.direct_snapshot import find_direct
from ebsim.catalog.snapshot import SnapshotState
from ebsim.catalog.snapshot_index import having, of_owner, snapshot_id_in
from ebsim.catalog.snapshot_terms import state_term
from ebsim.engine.region import Region
from ebsim.metadata.transactions import Reader

_ROWS_PER_SCAN = 256


def count_snapshots(region: Region, most: int) -> int:
    """The account's snapshots, whatever their state; *most* if there are more.

    Those in the recycle bin are left out.  Cost: proportional to them, by the index alone.
    """

    def count(reader: Reader) -> int:
        suffixes = of_owner(region.account_id).suffixes(reader, b"", _ROWS_PER_SCAN)
        return sum(1 for _, _ in zip(range(most), suffixes, strict=False))

    return region.metadata.read(count)


def count_pending_direct_snapshots(region: Region) -> int:
    """The account's snapshots that are written block by block and not yet completed.

    Cost: proportional to the pending snapshots that the account sees.
    """

    def count(reader: Reader) -> int:
        pending = having(state_term(region.account_id, SnapshotState.PENDING))
        ids = map(snapshot_id_in, pending.suffixes(reader, b"", _ROWS_PER_SCAN))
        return sum(find_direct(reader, snapshot_id) is not None for snapshot_id in ids)

    return region.metadata.read(count)
