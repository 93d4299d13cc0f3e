"""Listing snapshots a page at a time, from the index streams that hold them."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.snapshot_index import NamedSnapshots, Stream, read_streams
from ebsim.content.fingerprint import checksum
from ebsim.engine.region import Region
from ebsim.errors import InvalidRequest
from ebsim.metadata.transactions import Reader

_Streams = Sequence[Stream] | Sequence[NamedSnapshots]

_ROWS_PER_READ = 256
PAGE_SIZE_MAX = 1000


@dataclass(frozen=True, slots=True)
class SnapshotPage:
    """Some of the snapshots asked for, and the token that asks for those behind them."""

    snapshots: Sequence[Snapshot]
    next_token: str | None


def page_of(
    region: Region,
    streams: _Streams,
    show: Callable[[Reader, Snapshot], Snapshot | None],
    *,
    max_results: int | None,
    next_token: str | None,
    may_fit: Callable[[bytes], bool] | None = None,
) -> SnapshotPage:
    """At most *max_results* of *streams*, oldest first, each as *show* makes it.

    *show* returns ``None`` for one that is not wanted; *max_results* of ``None`` is all.
    Rows of which *may_fit* says no are passed over unread.

    Raises:
        InvalidRequest: a page size out of range, or another listing's token.
    """
    if max_results is not None and not 1 <= max_results <= PAGE_SIZE_MAX:
        raise InvalidRequest(f"a page of {max_results} snapshots: expected 1 to {PAGE_SIZE_MAX}.")
    after = b"" if next_token is None else _decode_token(next_token, streams)
    found: list[Snapshot] = []
    # All that are looked at are likely wanted, and one more shows whether there are others.
    limit = _ROWS_PER_READ if max_results is None else min(_ROWS_PER_READ, max_results + 1)

    def look(reader: Reader) -> list[tuple[bytes, Snapshot | None]]:
        rows = read_streams(reader, streams, after, limit, may_fit=may_fit)
        return [(suffix, show(reader, one) if one is not None else None) for suffix, one in rows]

    while True:
        rows = region.metadata.read(look)
        for suffix, shown in rows:
            if shown is not None:
                if len(found) == max_results:
                    return SnapshotPage(found, _encode_token(after, streams))
                found.append(shown)
            after = suffix
        if len(rows) < limit:
            return SnapshotPage(found, None)
        limit = _ROWS_PER_READ


def _encode_token(after: bytes, streams: _Streams) -> str:
    return base64.urlsafe_b64encode(_listing_mark(streams) + after).decode()


def _listing_mark(streams: _Streams) -> bytes:
    """What tells the tokens of one listing from those of another."""
    return checksum(b"/".join(stream.mark for stream in streams))


def _decode_token(token: str, streams: _Streams) -> bytes:
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
