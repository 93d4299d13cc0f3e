"""A disk as large as wanted that costs nothing to read: eight bytes a block are not zero."""

from collections.abc import Mapping

from ebsim.units import KIB

BLOCK_SIZE = 512 * KIB

# Odd, so that the product runs through all 64-bit numbers: no two blocks are alike.
_STEP = 0x9E37_79B9_7F4A_7C15
_MASK = (1 << 64) - 1


class SyntheticDisk:
    """A :class:`~ebsim.sources.source.StreamSource` of blocks that all differ.

    *versions* says which blocks have been written, and how often.
    """

    def __init__(
        self, block_count: int, versions: Mapping[int, int], block_size: int = BLOCK_SIZE
    ) -> None:
        self._block_count = block_count
        self._block_size = block_size
        self._versions = versions
        self._next_index = 0
        self._cleared: object = None

    @property
    def location(self) -> str:
        return "-"

    @property
    def size_bytes(self) -> int:
        return self._next_index * self._block_size

    def read_next(self, buffer: memoryview) -> int:
        # Whoever reads brings the same buffer again and again, and writes nothing to it:
        # it is cleared once, and then eight bytes a block are all that changes.
        if buffer.obj is not self._cleared:
            buffer[:] = bytes(len(buffer))
            self._cleared = buffer.obj
        count = min(len(buffer) // self._block_size, self._block_count - self._next_index)
        for slot in range(count):
            start = slot * self._block_size
            buffer[start : start + 8] = self._content(self._next_index + slot)
        self._next_index += count
        return count * self._block_size

    def _content(self, block_index: int) -> bytes:
        number = block_index + 1 + (self._versions.get(block_index, 0) << 40)
        return (number * _STEP & _MASK).to_bytes(8, "little")

    def close(self) -> None:
        """Nothing is held."""
