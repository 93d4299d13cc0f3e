"""Finding snapshots."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from ebsim.catalog.audience import Audience
from ebsim.catalog.records import get_usable_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState, seen_by
from ebsim.catalog.snapshot_filter import Filter, check_filters, fits
from ebsim.catalog.snapshot_index import Stream, of_volume, read_streams
from ebsim.chunkstore.chunk_index import find_numbers
from ebsim.chunkstore.deletion_plan import plan_deletion
from ebsim.content.fingerprint import checksum
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
    audience: Audience | None = None,
    max_results: int | None = None,
    next_token: str | None = None,
) -> SnapshotPage:
    """The snapshots that *audience* shows and *filters* let through, oldest first.

    By default the account's own.  *max_results* of ``None`` is all of them.  Cost:
    proportional to the snapshots looked at, whatever came before them: those of the
    account, and those shared with it; a filter on one volume's id looks only at that
    volume's.

    Raises:
        InvalidRequest: an unknown filter, a page size out of range, or a foreign token.
    """
    check_filters(filters)
    if max_results is not None and not 1 <= max_results <= PAGE_SIZE_MAX:
        raise InvalidRequest(f"a page of {max_results} snapshots: expected 1 to {PAGE_SIZE_MAX}.")
    if audience is None:
        audience = Audience.of(region.account_id, owners=[region.account_id])
    volume_id = _only_volume(filters)
    streams = [of_volume(volume_id)] if volume_id else audience.streams()
    after = b"" if next_token is None else _decode_token(next_token, streams)
    found: list[Snapshot] = []
    while True:
        limit = _ROWS_PER_READ
        if max_results is not None and not filters:
            # All that are looked at are wanted, and one more shows whether there are others.
            limit = min(limit, max_results - len(found) + 1)
        rows = region.metadata.read(
            lambda reader: _looked_at(reader, streams, audience, after, limit)  # noqa: B023 (called at once)
        )
        for suffix, snapshot in rows:
            if snapshot is not None and fits(snapshot, filters):
                if len(found) == max_results:
                    return SnapshotPage(found, _encode_token(after, streams))
                found.append(snapshot)
            after = suffix
        if len(rows) < limit:
            return SnapshotPage(found, None)


def _looked_at(
    reader: Reader, streams: Sequence[Stream], audience: Audience, after: bytes, limit: int
) -> list[tuple[bytes, Snapshot | None]]:
    """The next of *streams*, each as the account sees it; ``None`` if it does not."""
    me = audience.account_id
    return [
        (suffix, seen_by(one, me) if one is not None and audience.shows(reader, one) else None)
        for suffix, one in read_streams(reader, streams, after, limit)
    ]


def _only_volume(filters: Sequence[Filter]) -> VolumeId | None:
    """The one volume that the filters allow, if they name one."""
    for name, values in filters:
        if name == "volume-id" and len(values) == 1 and not set(values[0]) & set("*?\\"):
            return VolumeId(values[0])
    return None


def _encode_token(after: bytes, streams: Sequence[Stream]) -> str:
    return base64.urlsafe_b64encode(_listing_mark(streams) + after).decode()


def _listing_mark(streams: Sequence[Stream]) -> bytes:
    """What tells the tokens of one listing from those of another."""
    return checksum(b"/".join(table.encode() + b":" + prefix for table, prefix in streams))


def _decode_token(token: str, streams: Sequence[Stream]) -> bytes:
    """Where the page behind *token*, one of this listing's, begins."""
    try:
        decoded = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        decoded = b""
    mark = _listing_mark(streams)
    if not decoded.startswith(mark):
        raise InvalidRequest(
            f"'{token}' is no token that this listing gave. Repeat the listing that gave it, "
            "with the same filters, or begin anew without a token."
        )
    return decoded.removeprefix(mark)


def show_snapshot(region: Region, name: str) -> Snapshot:
    """The snapshot of that id, or the account's only one whose id begins so.

    One that is shared with the account is found by its whole id.
    """
    return region.metadata.read(
        lambda reader: get_usable_snapshot(reader, region.account_id, name)
    )


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
