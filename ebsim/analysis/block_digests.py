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
from collections.abc import Callable, Sequence

from xxhash import xxh3_128_digest

from ebsim.units import KIB, MIB

BLOCK_SIZE_MIN, BLOCK_SIZE_MAX = 4 * KIB, 4 * MIB
BLOCK_SIZES = tuple(BLOCK_SIZE_MIN << level for level in range(11))
"""What a volume's blocks may be, smallest first: bytes."""

DIGEST_SIZE = 16

ReadInto = Callable[[memoryview, int], None]
"""Fills a buffer with what a disk, or a part of one, has from an offset on."""


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
    """Reads and hashes stretches of 4 MiB, a window of them at a time.  For one thread.

    Args:
        window_size: Whole 4 KiB blocks.  What fits the processor's cache is hashed there,
            which is a sixth faster than to fetch it from memory again.
    """

    def __init__(self, window_size: int = 512 * KIB) -> None:
        # Page-aligned: the kernel copies into it four times as fast.
        self._window = memoryview(mmap.mmap(-1, window_size))
        self._blocks = _cut(self._window, BLOCK_SIZE_MIN)
        # Each level in its turn, for the next to be made from.
        self._level = bytearray(_COUNTS[0] * DIGEST_SIZE)
        self._pairs = _cut(memoryview(self._level), 2 * DIGEST_SIZE)

    def digests(self, read: ReadInto, filled: Sequence[tuple[int, int]]) -> bytes:
        """The digests of a stretch's blocks: all of 4 KiB, then all of 8 KiB, and so on.

        *read* fills a buffer from an offset in the stretch on.  It is asked for the half-open
        ranges of 4 KiB blocks in *filled*, which rise; the others are zeros.
        """
        smallest = []
        position = 0
        for first, stop in filled:
            smallest.append(ZERO_DIGESTS[0] * (first - position))
            for at in range(first, stop, len(self._blocks)):
                count = min(len(self._blocks), stop - at)
                read(self._window[: count * BLOCK_SIZE_MIN], at * BLOCK_SIZE_MIN)
                smallest.extend(map(xxh3_128_digest, self._blocks[:count]))
            position = stop
        smallest.append(ZERO_DIGESTS[0] * (_COUNTS[0] - position))
        levels = [b"".join(smallest)]
        for count in _COUNTS[1:]:
            self._level[: 2 * count * DIGEST_SIZE] = levels[-1]
            # One call for all: a loop in Python would cost as much as the hashing.
            levels.append(b"".join(map(xxh3_128_digest, self._pairs[:count])))
        return b"".join(levels)


def _cut(buffer: memoryview, size: int) -> list[memoryview]:
    return [buffer[at : at + size] for at in range(0, len(buffer), size)]
