"""Finding snapshots."""

from collections.abc import Sequence
from dataclasses import dataclass

from ebsim.catalog.audience import Audience
from ebsim.catalog.filter_streams import streams_for
from ebsim.catalog.records import get_usable_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState, seen_by
from ebsim.catalog.snapshot_filter import Filter, check_filters, fits, may_fit
from ebsim.chunkstore.chunk_index import find_numbers
from ebsim.chunkstore.deletion_plan import plan_deletion
from ebsim.engine.region import Region
from ebsim.engine.snapshot_pages import SnapshotPage, page_of
from ebsim.metadata.transactions import Reader


@dataclass(frozen=True, slots=True)
class SnapshotUse:
    """What a snapshot holds by itself and what it shares.

    Attributes:
        unique_bytes: What deleting it would free: records that nothing else refers to.
        shared_bytes: The records of its other blocks, each as often as it refers to them.
    """

    unique_bytes: int
    shared_bytes: int


def list_snapshots(
    region: Region,
    filters: Sequence[Filter] = (),
    *,
    audience: Audience | None = None,
    max_results: int | None = None,
    next_token: str | None = None,
) -> SnapshotPage:
    """The snapshots that *audience* shows and *filters* let through, oldest first.

    By default the account's own.  *max_results* of ``None`` is all of them.  Cost:
    proportional to the snapshots looked at, whatever came before them: those of the
    account, and those shared with it; or those that an index finds for a filter on id,
    volume, tag or state (``catalog.filter_streams``).

    Raises:
        InvalidRequest: an unknown filter, a page size out of range, or a foreign token.
    """
    check_filters(filters)
    if audience is None:
        audience = Audience.of(region.account_id, owners=[region.account_id])

    def show(reader: Reader, snapshot: Snapshot) -> Snapshot | None:
        if not audience.shows(reader, snapshot):
            return None
        seen = seen_by(snapshot, audience.account_id)
        return seen if fits(seen, filters) else None

    return page_of(
        region,
        streams_for(filters, audience),
        show,
        max_results=max_results,
        next_token=next_token,
        may_fit=may_fit(filters),
    )


def show_snapshot(region: Region, name: str) -> Snapshot:
    """The snapshot of that id, or the account's only one whose id begins so.

    One that is shared with the account is found by its whole id.
    """
    return region.metadata.read(
        lambda reader: get_usable_snapshot(reader, region.account_id, name)
    )


def shown_snapshots(region: Region, names: Sequence[str], audience: Audience) -> list[Snapshot]:
    """The snapshots of those whole ids that *audience* shows, in the order asked for.

    Raises:
        SnapshotNotFound: one that the account may not see.
    """

    def look(reader: Reader) -> list[Snapshot]:
        found = [get_usable_snapshot(reader, region.account_id, name) for name in names]
        return [one for one in found if audience.shows(reader, one)]

    return region.metadata.read(look)


def measure_snapshot(region: Region, snapshot: Snapshot) -> SnapshotUse:
    """What *snapshot* holds by itself and shares; cost in proportion to what is its own."""
    root = snapshot.root
    if snapshot.is_archived and snapshot.archive is not None:
        return SnapshotUse(snapshot.archive.size_bytes, 0)
    if snapshot.state is not SnapshotState.COMPLETED or root is None:
        return SnapshotUse(0, 0)

    def root_number(reader: Reader) -> list[int]:
        return list(find_numbers(reader, [root]).values())

    plan = plan_deletion(region.metadata, region.metadata.read(root_number))
    return SnapshotUse(
        plan.freed_bytes, max(snapshot.referenced_bytes - plan.block_reference_bytes, 0)
    )
