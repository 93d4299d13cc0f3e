"""A set of chunk numbers as bits: a store of 20 million chunks takes 2.5 MB."""

from collections.abc import Iterable

_BITS_PER_PAGE = 1 << 15


class NumberSet:
    """Chunk numbers seen.  Numbers are never used again, so they may lie far apart: the
    bits are kept in pages, and only pages with a number in them exist."""

    __slots__ = ("_pages",)

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._pages: dict[int, bytearray] = {}
        for number in numbers:
            self.add(number)

    def add(self, number: int) -> bool:
        """Add *number*; return whether it was not there."""
        page_number, bit = divmod(number, _BITS_PER_PAGE)
        page = self._pages.get(page_number)
        if page is None:
            page = self._pages[page_number] = bytearray(_BITS_PER_PAGE // 8)
        mask = 1 << (bit & 7)
        if page[bit >> 3] & mask:
            return False
        page[bit >> 3] |= mask
        return True

    def __contains__(self, number: int) -> bool:
        page_number, bit = divmod(number, _BITS_PER_PAGE)
        page = self._pages.get(page_number)
        return page is not None and bool(page[bit >> 3] >> (bit & 7) & 1)
