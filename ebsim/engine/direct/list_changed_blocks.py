"""Listing the blocks that were written between two snapshots of one lineage.

What counts is the write generation and not the content: a block that was rewritten with
the bytes that it had is listed.

Amazon pages *candidates*, the blocks present on either side, and lists those of a page
that differ: a page can be empty and not the last.  So it is here for maps that are small.
Of large ones the subtrees that are the same on both sides are passed over unread, and
only what is in leaves that differ is a candidate: the cost follows what was written and
not the size of the volume.  See ``decisions/0006-direct-puts.md``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import NamedTuple

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.changed_blocks import ChangedLeaf, changed_leaves
from ebsim.blockmap.geometry import FAN_OUT_BITS
from ebsim.blockmap.node_format import EMPTY_LEAF
from ebsim.catalog.snapshot import lineage_of
from ebsim.engine.direct.block_access import (
    BLOCK_TOKEN_SECONDS,
    PAGE_TOKEN_SECONDS,
    BlockAccess,
    Readable,
)
from ebsim.engine.direct.list_blocks import PageRequest, page_start
from ebsim.engine.direct.reading_on import reading_on
from ebsim.engine.direct.refusals import UnrelatedSnapshots
from ebsim.engine.direct.start_direct_snapshot import DIRECT_BLOCK_SIZE
from ebsim.engine.direct.tokens import NONCE_SIZE, Scope, TokenKind, token_maker
from ebsim.engine.region import Region
from ebsim.ids import SnapshotId

COUNTED_BLOCKS_MAX = 16_384
"""Up to so many blocks in both maps together all of them are candidates, as Amazon's are."""


class ListedChange(NamedTuple):
    """A block that was written; the token of a side is ``None`` where it is absent there."""

    block_index: int
    first_token: str | None
    second_token: str | None


@dataclass(frozen=True, slots=True)
class ChangedPage:
    """A page of changes by rising index.

    Attributes:
        is_end: Nothing was listed and nothing follows: then Amazon tells no sizes.
        volume_size_gib: Of the second snapshot.
    """

    changes: Sequence[ListedChange]
    expiry_time_ns: int
    volume_size_gib: int
    block_size: int
    next_token: str | None

    @property
    def is_end(self) -> bool:
        return not self.changes and self.next_token is None


class _Candidate(NamedTuple):
    """A block present on one side at least."""

    block_index: int
    is_in_first: bool
    is_in_second: bool
    is_changed: bool


def list_changed_blocks(
    region: Region,
    access: BlockAccess,
    pair: tuple[SnapshotId, SnapshotId],
    page: PageRequest,
) -> ChangedPage:
    """The blocks of a *pair* of snapshots, first and second, that were written in between.

    Either may be the older one.

    Raises:
        SnapshotNotFound, SnapshotUnusable: a snapshot.
        UnrelatedSnapshots: they are of two lineages.
        PageTokenInvalid: the token is not one of this list.
    """
    first, second = (access.readable(region, snapshot_id) for snapshot_id in pair)
    lineages = {(lineage_of(s), s.block_size) for s in (first.snapshot, second.snapshot)}
    if len(lineages) > 1:
        raise UnrelatedSnapshots(*pair)
    now_ns = region.clock.now_ns()
    scope = Scope(TokenKind.CHANGES_PAGE, *pair)
    start = page_start(access, scope, page, now_ns)
    with reading_on(region, *pair):
        found = _candidates(first, second, start) if start is not None else iter(())
        candidates = list(islice(found, page.max_results + 1))
    seconds = now_ns // 10**9
    nonce = region.random.randbytes(NONCE_SIZE)
    expiry = seconds + BLOCK_TOKEN_SECONDS
    first_token, second_token = (
        token_maker(access.token_key, Scope(TokenKind.BLOCK, one), expiry, nonce) for one in pair
    )
    page_token = token_maker(access.token_key, scope, seconds + PAGE_TOKEN_SECONDS, nonce)
    has_next = len(candidates) > page.max_results
    changes = [
        ListedChange(
            index,
            first_token(index) if is_in_first else None,
            second_token(index) if is_in_second else None,
        )
        for index, is_in_first, is_in_second, is_changed in candidates[: page.max_results]
        if is_changed
    ]
    return ChangedPage(
        changes,
        expiry * 10**9,
        second.snapshot.volume_size_gib,
        DIRECT_BLOCK_SIZE,
        page_token(candidates[-1].block_index) if has_next else None,
    )


def _candidates(first: Readable, second: Readable, start: int) -> Iterator[_Candidate]:
    """Yield the candidates from block *start* on, by rising index."""
    scale = first.scale
    of_map = _candidates_of_map(first, second, scale.first_in_map(start))
    if scale.is_same:
        yield from of_map
        return
    for indexes, group in groupby(of_map, lambda one: scale.indexes_of(one.block_index)):
        parts = list(group)
        sides = (
            any(one.is_in_first for one in parts),
            any(one.is_in_second for one in parts),
            any(one.is_changed for one in parts),
        )
        for index in range(max(indexes.start, start), indexes.stop):
            yield _Candidate(index, *sides)


def _candidates_of_map(first: Readable, second: Readable, start: int) -> Iterator[_Candidate]:
    """Yield those of the map's own blocks, from its block *start* on."""
    start_leaf = start >> FAN_OUT_BITS
    block_count = first.snapshot.block_count + second.snapshot.block_count
    leaves = (
        _all_leaves(first.block_map, second.block_map, start_leaf)
        if block_count <= COUNTED_BLOCKS_MAX
        else changed_leaves(first.block_map, second.block_map, start_leaf)
    )
    for leaf in leaves:
        before, after = leaf.first.entries(), leaf.second.entries()
        for slot in sorted(before.keys() | after.keys()):
            index = (leaf.leaf_index << FAN_OUT_BITS) + slot
            if index >= start:
                old, new = before.get(slot), after.get(slot)
                yield _Candidate(index, old is not None, new is not None, old != new)


def _all_leaves(first: BlockMap, second: BlockMap, start: int) -> Iterator[ChangedLeaf]:
    """Yield both sides' leaves from leaf *start* on, differing or not, by rising index."""
    of_first, of_second = dict(first.leaves(start)), dict(second.leaves(start))
    for index in sorted(of_first.keys() | of_second.keys()):
        old, new = of_first.get(index), of_second.get(index)
        yield ChangedLeaf(
            index,
            EMPTY_LEAF if old is None else first.leaf(old),
            EMPTY_LEAF if new is None else second.leaf(new),
        )
