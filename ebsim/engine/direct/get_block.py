"""Reading one block of a snapshot by its token."""

from ebsim.engine.direct.block_access import BlockAccess
from ebsim.engine.direct.reading_on import reading_on
from ebsim.engine.direct.refusals import BlockTokenInvalid
from ebsim.engine.direct.tokens import Scope, TokenKind, open_token
from ebsim.engine.region import Region
from ebsim.ids import SnapshotId

Buffer = bytes | bytearray | memoryview


def get_block(
    region: Region, access: BlockAccess, snapshot_id: SnapshotId, block_index: int, token: str
) -> Buffer:
    """The block's bytes, proved by their digest.

    Cost: a look-up in the map, whose nodes are cached, and one read of a pack.

    Raises:
        SnapshotNotFound, ForeignBlockSize: the snapshot.
        BlockTokenInvalid: the token is not one that was given for this block.
    """
    found = access.readable(region, snapshot_id)
    scope = Scope(TokenKind.BLOCK, snapshot_id)
    now_seconds = region.clock.now_ns() // 10**9
    if open_token(access.token_key, scope, token, now_seconds) != block_index:
        raise BlockTokenInvalid(token)
    with reading_on(region, snapshot_id):
        digest = access.block_digest(found.block_map, block_index)
        if digest is None:
            raise BlockTokenInvalid(token)
        return region.chunks.read(digest)
