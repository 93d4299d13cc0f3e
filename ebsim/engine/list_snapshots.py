"""Finding snapshots."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from ebsim.catalog.records import get_snapshot, scan_snapshots
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.snapshot_filter import Filter, check_filters, fits
from ebsim.chunkstore.chunk_index import find_numbers
from ebsim.chunkstore.deletion_plan import plan_deletion
from ebsim.engine.region import Region
from ebsim.errors import InvalidRequest
from ebsim.ids import VolumeId
from ebsim.metadata.transactions import Reader

_ROWS_PER_READ = 256
PAGE_SIZE_MAX = 1000


@dataclass(frozen=True, slots=True)
class SnapshotPage:
    """Some of the snapshots asked for, and the token that asks for those behind them."""

    snapshots: Sequence[Snapshot]
    next_token: str | None


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
    max_results: int | None = None,
    next_token: str | None = None,
) -> SnapshotPage:
    """The account's snapshots that fit *filters*, oldest first.

    *max_results* of ``None`` is all of them.  Cost: proportional to the snapshots looked
    at, whatever came before them; a filter on one volume's id looks only at that volume's.

    Raises:
        InvalidRequest: an unknown filter, a page size out of range, or a foreign token.
    """
    check_filters(filters)
    if max_results is not None and not 1 <= max_results <= PAGE_SIZE_MAX:
        raise InvalidRequest(f"a page of {max_results} snapshots: expected 1 to {PAGE_SIZE_MAX}.")
    volume_id = _only_volume(filters)
    after = b""
    if next_token is not None:
        after = _decode_token(next_token, (volume_id or region.account_id).encode())
    found: list[Snapshot] = []
    while True:
        limit = _ROWS_PER_READ
        if max_results is not None and not filters:
            # All that are looked at are wanted, and one more shows whether there are others.
            limit = min(limit, max_results - len(found) + 1)
        rows = region.metadata.read(
            lambda reader: scan_snapshots(
                reader,
                owner_id=region.account_id,
                volume_id=volume_id,
                after=after,  # noqa: B023 (called at once)
                limit=limit,  # noqa: B023 (called at once)
            )
        )
        for key, snapshot in rows:
            if snapshot.owner_id == region.account_id and fits(snapshot, filters):
                if len(found) == max_results:
                    return SnapshotPage(found, _encode_token(after))
                found.append(snapshot)
            after = key
        if len(rows) < limit:
            return SnapshotPage(found, None)


def _only_volume(filters: Sequence[Filter]) -> VolumeId | None:
    """The one volume that the filters allow, if they name one."""
    for name, values in filters:
        if name == "volume-id" and len(values) == 1 and not set(values[0]) & set("*?\\"):
            return VolumeId(values[0])
    return None


def _encode_token(after: bytes) -> str:
    return base64.urlsafe_b64encode(after).decode()


def _decode_token(token: str, prefix: bytes) -> bytes:
    """The key that *token* was made of, one of those that begin with *prefix*."""
    try:
        after = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        after = b""
    if not after.startswith(prefix):
        raise InvalidRequest(
            f"'{token}' is no token that this listing gave. Repeat the listing that gave it, "
            "with the same filters, or begin anew without a token."
        )
    return after


def show_snapshot(region: Region, name: str) -> Snapshot:
    """The snapshot of that id, or the only one whose id begins so."""
    return region.metadata.read(lambda reader: get_snapshot(reader, region.account_id, name))


def measure_snapshot(region: Region, snapshot: Snapshot) -> SnapshotUse:
    """What *snapshot* holds by itself and shares; cost in proportion to what is its own."""
    root = snapshot.root
    if snapshot.state is not SnapshotState.COMPLETED or root is None:
        return SnapshotUse(0, 0)

    def root_number(reader: Reader) -> list[int]:
        return list(find_numbers(reader, [root]).values())

    plan = plan_deletion(region.metadata, region.metadata.read(root_number))
    return SnapshotUse(
        plan.freed_bytes, max(snapshot.referenced_bytes - plan.block_reference_bytes, 0)
    )
