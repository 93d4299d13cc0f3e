"""Reference counts: how many node entries and holds point at each chunk.

Counts live in pages of 256, so that a leaf whose chunks were stored together costs one
or two rows, not one a chunk.  A page is one large integer with a lane of 32 bits for
each count, and a run of neighbouring chunks is added to it at once: the chunks of a leaf
are one run, or a few.  Counts stay below 2**31, so a lane's highest bit is free to show
a sum that is too large, and to keep a lane that would fall below zero from borrowing of
its neighbour.
"""

import sys
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from ebsim.chunkstore.rows import COUNTS_PER_PAGE, number_key
from ebsim.errors import Conflict, MetadataCorrupt
from ebsim.metadata.transactions import Reader, Table, Transaction

_LANE_BITS = 32
_PAGE_SIZE = COUNTS_PER_PAGE * _LANE_BITS // 8
_EMPTY = bytes(_PAGE_SIZE)
_COUNT_MAX = (1 << 31) - 1

_ONES = [0, *accumulate(1 << _LANE_BITS * lane for lane in range(COUNTS_PER_PAGE))]
"""By length: a one in each of the first lanes."""
_ALL_ONES = _ONES[COUNTS_PER_PAGE]
_ALL_HIGH = _ALL_ONES << (_LANE_BITS - 1)

# Runs are looked for in pieces of a leaf's length, as one integer of 64-bit lanes.
_PIECE_LENGTH = 128
_WIDE_ONES = [0, *accumulate(1 << 64 * lane for lane in range(_PIECE_LENGTH))]
_WIDE_MASKS = [(1 << 64 * lane) - 1 for lane in range(_PIECE_LENGTH)]
"""By length: all bits of the first lanes."""

# Shorter runs are counted one by one, and many of them end the search.
_RUN_LENGTH_MIN = 4
_SHORT_RUNS_MAX = 16


class Turned(NamedTuple):
    """Chunk numbers whose count reached zero, and those whose count left it."""

    emptied: list[int]
    revived: list[int]


class ReferenceChanges:
    """References to add and to take away, gathered for one transaction."""

    def __init__(self, changes: Mapping[int, int] | None = None) -> None:
        """Begin with *changes* by chunk number."""
        self.singles: Counter[int] = Counter(changes or {})
        self.added_runs: list[tuple[int, int]] = []
        self.taken_runs: list[tuple[int, int]] = []

    def add_all(self, numbers: Sequence[int]) -> None:
        """Add a reference to each of *numbers*, as often as it is named."""
        self.singles.update(_split_runs(numbers, self.added_runs))

    def take_all(self, numbers: Sequence[int]) -> None:
        """Take a reference from each of *numbers*, as often as it is named."""
        self.singles.subtract(_split_runs(numbers, self.taken_runs))


def _split_runs(numbers: Sequence[int], runs: list[tuple[int, int]]) -> list[int]:
    """Put the runs of neighbours in *numbers* into *runs* (start, stop); return the others."""
    others: list[int] = []
    for start in range(0, len(numbers), _PIECE_LENGTH):
        _split_piece(array("Q", numbers[start : start + _PIECE_LENGTH]), runs, others)
    return others


def _split_piece(numbers: "array[int]", runs: list[tuple[int, int]], others: list[int]) -> None:
    """Split *numbers*, a piece, where one does not follow the one before it.

    A leaf of a few runs costs a few operations on 128 lanes at once, and none a number.
    """
    steps = len(numbers) - 1
    lanes = int.from_bytes(numbers.tobytes(), sys.byteorder)
    # A lane is zero where the number after it follows it.
    breaks = (lanes >> 64) ^ ((lanes & _WIDE_MASKS[steps]) + _WIDE_ONES[steps])
    at, short_count = 0, 0
    while at <= steps and short_count < _SHORT_RUNS_MAX:
        length = _lowest_bit(breaks) // 64 + 1 if breaks else steps + 1 - at
        if length < _RUN_LENGTH_MIN:
            others.extend(numbers[at : at + length])
            short_count += 1
        else:
            runs.append((numbers[at], numbers[at] + length))
        at += length
        breaks >>= 64 * length
    others.extend(numbers[at:])


def _lowest_bit(value: int) -> int:
    return (value & -value).bit_length() - 1


class _PageChanges:
    """What happens to one page: lanes (first, length) and single slots."""

    __slots__ = ("added", "singles", "taken")

    def __init__(self) -> None:
        self.added: list[tuple[int, int]] = []
        self.taken: list[tuple[int, int]] = []
        self.singles: list[tuple[int, int]] = []

    def applied(self, old: int) -> int:
        """The page *old* with all changes made; additions come first."""
        new = old
        for first, length in self.added:
            new += _ONES[length] << _LANE_BITS * first
            _check_limit(new)
        if self.singles:
            new = _with_singles(new, self.singles)
        if self.taken:
            guarded = new | _ALL_HIGH
            for first, length in self.taken:
                guarded -= _ONES[length] << _LANE_BITS * first
                if guarded & _ALL_HIGH != _ALL_HIGH:
                    raise MetadataCorrupt(where="reference counts", found="a count of -1")
            new = guarded ^ _ALL_HIGH
        return new


def add_references(txn: Transaction, changes: ReferenceChanges) -> Turned:
    """Add to the counts of chunk numbers; return those that turned from or to zero.

    Cost: a row read and written for each 256 neighbouring numbers.

    Raises:
        MetadataCorrupt: a count would fall below zero: it has drifted.
        Conflict: a count would pass 2**31.
    """
    pages = _by_page(changes)
    order = sorted(pages)
    keys = [number_key(page) for page in order]
    rows = []
    turned = Turned([], [])
    for page, key, row in zip(order, keys, txn.get_many(Table.COUNTS, keys), strict=True):
        old = int.from_bytes(row or _EMPTY, "little")
        new = pages[page].applied(old)
        rows.append((key, new.to_bytes(_PAGE_SIZE, "little")))
        was_zero, is_zero = _zero_lanes(old), _zero_lanes(new)
        if was_zero != is_zero:
            first = page * COUNTS_PER_PAGE
            turned.emptied.extend(first + lane for lane in _lanes_of(is_zero & ~was_zero))
            turned.revived.extend(first + lane for lane in _lanes_of(was_zero & ~is_zero))
    txn.put_many(Table.COUNTS, rows)
    return turned


def _by_page(changes: ReferenceChanges) -> Mapping[int, _PageChanges]:
    pages: defaultdict[int, _PageChanges] = defaultdict(_PageChanges)
    for page, lanes in _cut_at_pages(changes.added_runs):
        pages[page].added.append(lanes)
    for page, lanes in _cut_at_pages(changes.taken_runs):
        pages[page].taken.append(lanes)
    for number, change in changes.singles.items():
        if change:
            pages[number // COUNTS_PER_PAGE].singles.append((number % COUNTS_PER_PAGE, change))
    return pages


def _cut_at_pages(runs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield the parts of *runs* (start, stop) as page and (first lane, length)."""
    for start, stop in runs:
        page, first = divmod(start, COUNTS_PER_PAGE)
        left = stop - start
        while first + left > COUNTS_PER_PAGE:
            yield page, (first, COUNTS_PER_PAGE - first)
            left -= COUNTS_PER_PAGE - first
            page, first = page + 1, 0
        yield page, (first, left)


def _with_singles(page: int, changes: Sequence[tuple[int, int]]) -> int:
    """*page* with *changes* (lane, change) added one by one."""
    counts = array("I", page.to_bytes(_PAGE_SIZE, "little"))
    for lane, change in changes:
        count = counts[lane] + change
        if count < 0:
            raise MetadataCorrupt(where="reference counts", found=f"a count of {count}")
        if count > _COUNT_MAX:
            raise _too_many()
        counts[lane] = count
    return int.from_bytes(counts.tobytes(), "little")


def _check_limit(page: int) -> None:
    if page & _ALL_HIGH:
        raise _too_many()


def _too_many() -> Conflict:
    return Conflict("a chunk is referenced more than 2**31 times. Nothing was changed.")


def _zero_lanes(page: int) -> int:
    """The highest bit of each lane of *page* that is zero."""
    return ~((page | _ALL_HIGH) - _ALL_ONES) & _ALL_HIGH


def _lanes_of(high_bits: int) -> Iterator[int]:
    """Yield the lanes whose highest bit is set in *high_bits*, lowest first."""
    while high_bits:
        bit = _lowest_bit(high_bits)
        yield bit // _LANE_BITS
        high_bits ^= 1 << bit


def get_counts(reader: Reader, numbers: Iterable[int]) -> dict[int, int]:
    """The reference count of each chunk number."""
    wanted = sorted(set(numbers))
    order = sorted({number // COUNTS_PER_PAGE for number in wanted})
    keys = [number_key(page) for page in order]
    rows = reader.get_many(Table.COUNTS, keys)
    pages = {page: array("I", row or _EMPTY) for page, row in zip(order, rows, strict=True)}
    return {n: pages[n // COUNTS_PER_PAGE][n % COUNTS_PER_PAGE] for n in wanted}
