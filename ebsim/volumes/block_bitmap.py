"""A bit for each block of a volume, in memory of whatever kind: a bytearray, a mapped file.

Bit *i* is bit ``i % 8`` of byte ``i // 8``, lowest first.  Nothing here locks: a byte is
read, changed and stored, so one thread at a time may change a bitmap.
"""

import mmap
from collections.abc import Callable, Iterator

_PIECE = 4096  # bytes looked at as one while nothing, or everything, in them is set
_WINDOW = 64  # bytes looked at bit by bit

_ZEROS = bytes(_PIECE)
_ONES = b"\xff" * _PIECE


def bitmap_bytes(block_count: int) -> int:
    """How many bytes the bits of *block_count* blocks take."""
    return (block_count + 7) // 8


class BlockBitmap:
    """The bits of blocks 0 to ``block_count - 1`` over *memory*, which is long enough."""

    __slots__ = ("block_count", "memory")

    def __init__(self, memory: bytearray | mmap.mmap, block_count: int) -> None:
        assert len(memory) >= bitmap_bytes(block_count), "room for every bit"
        self.memory = memory
        self.block_count = block_count

    def __getitem__(self, block_index: int) -> bool:
        return bool(self.memory[block_index >> 3] >> (block_index & 7) & 1)

    def set_range(self, start: int, stop: int) -> None:
        """Set the bits from *start* up to *stop*."""
        self._change(start, stop, is_set=True)

    def clear_range(self, start: int, stop: int) -> None:
        """Clear the bits from *start* up to *stop*."""
        self._change(start, stop, is_set=False)

    def _change(self, start: int, stop: int, *, is_set: bool) -> None:
        assert start >= 0, "within the volume"
        assert stop <= self.block_count, "within the volume"
        if start >= stop:
            return
        memory = self.memory
        first, last = start >> 3, (stop - 1) >> 3
        head = 0xFF << (start & 7) & 0xFF
        tail = 0xFF >> (7 - ((stop - 1) & 7))
        if first == last:
            head = tail = head & tail
        for at, mask in ((first, head), (last, tail)):
            memory[at] = memory[at] | mask if is_set else memory[at] & ~mask
        filler = _ONES if is_set else _ZEROS
        for at in range(first + 1, last, _PIECE):
            size = min(_PIECE, last - at)
            memory[at : at + size] = filler[:size]

    def add(self, other: "BlockBitmap") -> None:
        """Set the bits that are set in *other*, which has as many blocks."""
        self._combine(other, lambda mine, others: mine | others)

    def keep(self, other: "BlockBitmap") -> None:
        """Clear the bits that are clear in *other*, which has as many blocks."""
        self._combine(other, lambda mine, others: mine & others)

    def _combine(self, other: "BlockBitmap", combined: Callable[[int, int], int]) -> None:
        """Combine a piece at a time: the time does not depend on which bits are set."""
        size = bitmap_bytes(self.block_count)
        for at in range(0, size, _PIECE):
            stop = min(at + _PIECE, size)
            mine = int.from_bytes(self.memory[at:stop], "little")
            others = int.from_bytes(other.memory[at:stop], "little")
            changed = combined(mine, others)
            if changed != mine:
                self.memory[at:stop] = changed.to_bytes(stop - at, "little")

    def runs(
        self, start: int = 0, stop: int | None = None, *, is_set: bool = True
    ) -> Iterator[tuple[int, int]]:
        """Yield the longest runs (first, stop) of set bits, or of clear ones, rising.

        What is changed meanwhile may be seen or not.  Cost: a comparison for every 4 KiB
        of bits that are all alike.
        """
        stop = self.block_count if stop is None else stop
        begin = end = start
        for first, last in self._parts(start, stop, is_set=is_set):
            if first != end:
                if end > begin:
                    yield begin, end
                begin = first
            end = last
        if end > begin:
            yield begin, end

    def count(self) -> int:
        """How many bits are set."""
        size = bitmap_bytes(self.block_count)
        return sum(
            int.from_bytes(self.memory[at : min(at + _PIECE, size)], "little").bit_count()
            for at in range(0, size, _PIECE)
        )

    def is_full(self, start: int, stop: int) -> bool:
        """Whether every bit from *start* up to *stop* is set."""
        if stop - start == 1:
            return self[start]
        return next(self.runs(start, stop, is_set=False), None) is None

    def is_empty(self, start: int, stop: int) -> bool:
        """Whether no bit from *start* up to *stop* is set."""
        return next(self.runs(start, stop), None) is None

    def _parts(self, start: int, stop: int, *, is_set: bool) -> Iterator[tuple[int, int]]:
        """Runs, cut at the borders of windows and pieces."""
        nothing, everything = (_ZEROS, _ONES) if is_set else (_ONES, _ZEROS)
        position = start
        while position < stop:
            at = position >> 3
            size = _PIECE - at % _PIECE
            piece = self.memory[at : at + size]
            if piece == nothing[: len(piece)]:
                position = (at + size) << 3
            elif piece == everything[: len(piece)]:
                end = min(stop, (at + size) << 3)
                yield position, end
                position = end
            else:
                end = min(stop, (at + size) << 3)
                yield from self._mixed(position, end, is_set=is_set)
                position = end

    def _mixed(self, start: int, stop: int, *, is_set: bool) -> Iterator[tuple[int, int]]:
        """Runs within a piece, window by window."""
        while start < stop:
            at = start >> 3
            end = min(stop, (at // _WINDOW + 1) * _WINDOW << 3)
            bits = int.from_bytes(self.memory[at : (end + 7) >> 3], "little")
            if not is_set:
                bits = ~bits
            bits = bits >> (start & 7) & ((1 << end - start) - 1)
            yield from runs_of_bits(bits, start)
            start = end


def runs_of_bits(bits: int, first: int) -> Iterator[tuple[int, int]]:
    """Yield the runs of bits set in *bits* as (start, stop), its lowest bit being *first*."""
    while bits:
        skip = (bits & -bits).bit_length() - 1
        bits >>= skip
        first += skip
        length = (~bits & (bits + 1)).bit_length() - 1
        yield first, first + length
        bits >>= length
        first += length
