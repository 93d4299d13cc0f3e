"""Listing the blocks of a snapshot, a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from ebsim.blockmap.geometry import BLOCKS_MAX
from ebsim.engine.direct.block_access import (
    BLOCK_TOKEN_SECONDS,
    MAX_RESULTS_MAX,
    PAGE_TOKEN_SECONDS,
    BlockAccess,
)
from ebsim.engine.direct.reading_on import reading_on
from ebsim.engine.direct.refusals import PageTokenInvalid
from ebsim.engine.direct.start_direct_snapshot import DIRECT_BLOCK_SIZE
from ebsim.engine.direct.tokens import NONCE_SIZE, Scope, TokenKind, open_token, token_maker
from ebsim.engine.region import Region
from ebsim.ids import SnapshotId


class ListedBlock(NamedTuple):
    """A block that is present, and the token to read it with."""

    block_index: int
    token: str


@dataclass(frozen=True, slots=True)
class BlockPage:
    """A page of blocks by rising index.

    Attributes:
        expiry_time_ns: Until when the tokens are good; now, where there are none.
        next_token: For the page that follows; ``None`` on the last.
    """

    blocks: Sequence[ListedBlock]
    expiry_time_ns: int
    volume_size_gib: int
    block_size: int
    next_token: str | None


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page: *token*, if there is one, wins over *start*, a block index."""

    start: int = 0
    max_results: int = MAX_RESULTS_MAX
    token: str | None = None


def list_blocks(
    region: Region, access: BlockAccess, snapshot_id: SnapshotId, page: PageRequest
) -> BlockPage:
    """The present blocks of a completed snapshot, its own and inherited ones.

    Cost: the leaves of the page and the path to them, wherever in the map it begins.

    Raises:
        SnapshotNotFound, SnapshotUnusable: the snapshot.
        PageTokenInvalid: the token is not one of this list.
    """
    found = access.readable(region, snapshot_id)
    now_ns = region.clock.now_ns()
    scope = Scope(TokenKind.BLOCKS_PAGE, snapshot_id)
    start = page_start(access, scope, page, now_ns)
    with reading_on(region, snapshot_id):
        blocks = found.scale.present(found.block_map, start) if start is not None else ()
        indexes = list(islice(blocks, page.max_results + 1))
    seconds = now_ns // 10**9
    nonce = region.random.randbytes(NONCE_SIZE)
    block_token = token_maker(
        access.token_key,
        Scope(TokenKind.BLOCK, snapshot_id),
        seconds + BLOCK_TOKEN_SECONDS,
        nonce,
    )
    page_token = token_maker(access.token_key, scope, seconds + PAGE_TOKEN_SECONDS, nonce)
    listed = indexes[: page.max_results]
    return BlockPage(
        [ListedBlock(index, block_token(index)) for index in listed],
        (seconds + BLOCK_TOKEN_SECONDS if listed else seconds) * 10**9,
        found.snapshot.volume_size_gib,
        DIRECT_BLOCK_SIZE,
        page_token(indexes[-1]) if len(indexes) > len(listed) else None,
    )


def page_start(access: BlockAccess, scope: Scope, page: PageRequest, now_ns: int) -> int | None:
    """The block index at which the page begins; ``None`` where it is past every block.

    Raises:
        PageTokenInvalid: there is a token, and it is none of *scope*.
    """
    if page.token is None:
        return page.start if page.start < BLOCKS_MAX else None
    start = open_token(access.token_key, scope, page.token, now_ns // 10**9)
    if start is None:
        raise PageTokenInvalid(page.token)
    return start
