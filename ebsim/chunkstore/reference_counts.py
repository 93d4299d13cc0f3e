"""Reference counts: how many node entries and holds point at each chunk.

Counts live in pages of 256, so that a leaf whose chunks were stored together costs one
or two rows, not one a chunk.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ebsim.chunkstore.rows import COUNTS_PER_PAGE, number_key
from ebsim.errors import Conflict, MetadataCorrupt
from ebsim.metadata.transactions import Reader, Table, Transaction

_PAGE_SIZE = COUNTS_PER_PAGE * 4
_EMPTY = bytes(_PAGE_SIZE)
_COUNT_MAX = (1 << 31) - 1


class Turned(NamedTuple):
    """Chunk numbers whose count reached zero, and those whose count left it."""

    emptied: list[int]
    revived: list[int]


def add_references(txn: Transaction, changes: Mapping[int, int]) -> Turned:
    """Add to the counts of chunk numbers; return those that turned from or to zero.

    Cost: a row read and written for each 256 neighbouring numbers.

    Raises:
        MetadataCorrupt: a count would fall below zero: it has drifted.
        Conflict: a count would pass 2**31.
    """
    pages: dict[int, list[tuple[int, int]]] = {}
    for number, change in changes.items():
        if change:
            pages.setdefault(number // COUNTS_PER_PAGE, []).append(
                (number % COUNTS_PER_PAGE, change)
            )
    order = sorted(pages)
    keys = [number_key(page) for page in order]
    rows = []
    turned = Turned([], [])
    for page, key, old in zip(order, keys, txn.get_many(Table.COUNTS, keys), strict=True):
        rows.append((key, _changed_page(old or _EMPTY, page, pages[page], turned)))
    txn.put_many(Table.COUNTS, rows)
    return turned


def _changed_page(
    old: bytes, page_number: int, changes: Sequence[tuple[int, int]], turned: Turned
) -> bytes:
    """*old* with *changes* (slot, change) added; adds to *turned* what they turn."""
    page = array("I", old)
    for slot, change in changes:
        before = page[slot]
        count = before + change
        if count <= 0:
            if count < 0:
                raise MetadataCorrupt(where="reference counts", found=f"a count of {count}")
            turned.emptied.append(page_number * COUNTS_PER_PAGE + slot)
        elif count > _COUNT_MAX:
            raise Conflict("a chunk is referenced more than 2**31 times. Nothing was changed.")
        elif before == 0:
            turned.revived.append(page_number * COUNTS_PER_PAGE + slot)
        page[slot] = count
    return page.tobytes()


def get_counts(reader: Reader, numbers: Iterable[int]) -> dict[int, int]:
    """The reference count of each chunk number."""
    wanted = sorted(set(numbers))
    order = sorted({number // COUNTS_PER_PAGE for number in wanted})
    keys = [number_key(page) for page in order]
    rows = reader.get_many(Table.COUNTS, keys)
    pages = {page: array("I", row or _EMPTY) for page, row in zip(order, rows, strict=True)}
    return {n: pages[n // COUNTS_PER_PAGE][n % COUNTS_PER_PAGE] for n in wanted}
