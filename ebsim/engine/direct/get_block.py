"""Reading one block of a snapshot by its token."""

from ebsim.engine.direct.block_access import BlockAccess, Readable
from ebsim.engine.direct.reading_on import reading_on
from ebsim.engine.direct.refusals import BlockTokenInvalid
from ebsim.engine.direct.start_direct_snapshot import DIRECT_BLOCK_SIZE
from ebsim.engine.direct.tokens import Scope, TokenKind, open_token
from ebsim.engine.region import Region
from ebsim.errors import ChunkMissing
from ebsim.ids import SnapshotId

Buffer = bytes | bytearray | memoryview


def get_block(
    region: Region, access: BlockAccess, snapshot_id: SnapshotId, block_index: int, token: str
) -> Buffer:
    """The block's bytes, proved by their digest.

    Cost: a look-up in the map, whose nodes are cached, and one read of a pack; more of both
    where the snapshot's blocks are smaller.

    Raises:
        SnapshotNotFound, SnapshotUnusable: the snapshot.
        BlockTokenInvalid: the token is not one that was given for this block.
    """
    found = access.readable(region, snapshot_id)
    scope = Scope(TokenKind.BLOCK, snapshot_id)
    now_seconds = region.clock.now_ns() // 10**9
    if open_token(access.token_key, scope, token, now_seconds) != block_index:
        raise BlockTokenInvalid(token)
    with reading_on(region, snapshot_id):
        if found.snapshot.block_size < DIRECT_BLOCK_SIZE:
            return _joined(region, access, found, block_index)
        digest = access.block_digest(found.block_map, found.scale.first_in_map(block_index))
        if digest is None:
            raise BlockTokenInvalid(token)
        return found.scale.part(region.chunks.read(digest), block_index)


def _joined(region: Region, access: BlockAccess, found: Readable, block_index: int) -> Buffer:
    """A block that is made of smaller ones, of which one at least is present."""
    first, size = found.scale.first_in_map(block_index), found.snapshot.block_size
    digests = {
        offset: digest
        for offset in range(found.scale.per_block)
        if (digest := access.block_digest(found.block_map, first + offset)) is not None
    }
    joined = bytearray(DIRECT_BLOCK_SIZE)
    located = region.chunks.find(list(digests.values()))
    for (offset, digest), place in zip(digests.items(), located, strict=True):
        if place is None:
            raise ChunkMissing(digest)
        data = region.chunks.read_found(place)
        joined[offset * size : offset * size + len(data)] = data
    return joined
