"""Digests of all block sizes at once: each byte is hashed once, at 4 KiB.

    4 KiB     XXH3-128 of the block
    8 KiB     XXH3-128 of the digests of its two halves, one after the other
    ...
    4 MiB     the same, ten levels up

Two blocks of any size are then equal exactly if their digests are, as surely as for XXH3-128
itself: a block's digest is a function of its 4 KiB digests, and different ones give different
ones.  Hashing 4 MiB a second time for each size would cost eleven times as much; the tree
costs 32 bytes for every 4 KiB.  The seed is fixed, so digests made on different machines can
be put together.  XXH3 does not resist somebody who makes collisions on purpose: such an image
spoils its analysis and nothing else, for the store never uses these digests.

A block past the disk's end counts as zeros, and the disk's last block is filled up with
zeros, which is how the store keeps it.  This module is pure.
"""

import mmap
from collections.abc import Sequence
from itertools import pairwise

from xxhash import xxh3_128_digest

from ebsim.units import KIB, MIB

BLOCK_SIZE_MIN, BLOCK_SIZE_MAX = 4 * KIB, 4 * MIB
BLOCK_SIZES = tuple(BLOCK_SIZE_MIN << level for level in range(11))
"""What a volume's blocks may be, smallest first: bytes."""

DIGEST_SIZE = 16


def size_name(block_size: int) -> str:
    """A block size for people: ``4 KiB``, ``2 MiB``."""
    if block_size >= MIB:
        return f"{block_size // MIB} MiB"
    return f"{block_size // KIB} KiB"


_COUNTS = tuple(BLOCK_SIZE_MAX // size for size in BLOCK_SIZES)
LEVEL_STARTS = tuple(sum(_COUNTS[:level]) for level in range(len(_COUNTS) + 1))
"""Where each block size begins, and the last ends, in the digests of one stretch."""


def _zero_digests() -> tuple[bytes, ...]:
    found = [xxh3_128_digest(bytes(BLOCK_SIZE_MIN))]
    for _ in BLOCK_SIZES[1:]:
        found.append(xxh3_128_digest(found[-1] * 2))
    return tuple(found)


ZERO_DIGESTS = _zero_digests()
"""The digest of a block of zeros, by block size."""


class StretchHasher:
    """Hashes stretches of 4 MiB in a buffer of its own.  For one thread."""

    def __init__(self) -> None:
        # Page-aligned: the kernel copies into it four times as fast.
        self.buffer = memoryview(mmap.mmap(-1, BLOCK_SIZE_MAX))
        size = BLOCK_SIZE_MIN
        self._blocks = [self.buffer[at : at + size] for at in range(0, BLOCK_SIZE_MAX, size)]
        self._levels = [bytearray(count * DIGEST_SIZE) for count in _COUNTS]
        pair = 2 * DIGEST_SIZE
        self._pairs = [
            [memoryview(level)[at : at + pair] for at in range(0, len(level), pair)]
            for level in self._levels[:-1]
        ]

    def digests(self, filled: Sequence[tuple[int, int]]) -> bytes:
        """The digests of the buffer's blocks: all of 4 KiB, then all of 8 KiB, and so on.

        *filled* are the half-open ranges of 4 KiB blocks that the buffer has been filled
        in; the others are zeros, whatever the buffer has there.
        """
        level = self._levels[0]
        position = 0
        for first, stop in filled:
            level[position * DIGEST_SIZE : first * DIGEST_SIZE] = ZERO_DIGESTS[0] * (
                first - position
            )
            # One call for the whole run: a loop in Python would cost as much as the hashing.
            level[first * DIGEST_SIZE : stop * DIGEST_SIZE] = b"".join(
                map(xxh3_128_digest, self._blocks[first:stop])
            )
            position = stop
        level[position * DIGEST_SIZE :] = ZERO_DIGESTS[0] * (_COUNTS[0] - position)
        for pairs, (_, upper) in zip(self._pairs, pairwise(self._levels), strict=True):
            upper[:] = b"".join(map(xxh3_128_digest, pairs))
        return b"".join(self._levels)
