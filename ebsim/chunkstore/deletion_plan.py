"""What deleting would free, exactly, without doing it.

The walk follows only what would lose its last reference, so its cost is that of the
deletion itself; it works on copies of the pages of counts that it meets (4 bytes a
chunk), and changes nothing.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from ebsim.chunkstore.chunk_index import find_locations, find_node_rows
from ebsim.chunkstore.pack_format import HEADER_SIZE, Kind
from ebsim.chunkstore.rows import COUNTS_PER_PAGE, number_key
from ebsim.errors import MetadataCorrupt
from ebsim.metadata.transactions import Metadata, Reader, Table


@dataclass(slots=True)
class DeletionPlan:
    """What would be freed.

    Attributes:
        chunk_count: Blocks and nodes.
        freed_bytes: Their records' bytes.
        block_count: Blocks alone.
        block_reference_bytes: The blocks' records' bytes, each as often as what is
            deleted refers to it.
    """

    chunk_count: int = 0
    freed_bytes: int = 0
    block_count: int = 0
    block_reference_bytes: int = 0


class _TrialCounts:
    """Copies of pages of counts, to be taken down on trial."""

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}
        self._first: dict[int, array[int]] = {}

    def release(self, reader: Reader, numbers: Iterable[int]) -> list[tuple[int, int]]:
        """Take a reference from each; return those that reached zero, with what they had."""
        emptied = []
        for number in numbers:
            page = self._page(reader, number // COUNTS_PER_PAGE)
            slot = number % COUNTS_PER_PAGE
            if page[slot] == 0:
                raise MetadataCorrupt(
                    where="reference counts", found=f"chunk number {number} has too few"
                )
            page[slot] -= 1
            if page[slot] == 0:
                first = self._first[number // COUNTS_PER_PAGE][slot]
                emptied.append((number, first))
        return emptied

    def _page(self, reader: Reader, page_number: int) -> "array[int]":
        page = self._pages.get(page_number)
        if page is None:
            (row,) = reader.get_many(Table.COUNTS, [number_key(page_number)])
            page = array("I", row or bytes(4 * COUNTS_PER_PAGE))
            self._pages[page_number] = page
            self._first[page_number] = array("I", page)
        return page


def plan_deletion(metadata: Metadata, roots: Iterable[int]) -> DeletionPlan:
    """What dropping one reference on each of *roots*, chunk numbers of nodes, would free."""
    plan = DeletionPlan()
    counts = _TrialCounts()
    stack = metadata.read(lambda reader: counts.release(reader, roots))
    while stack:
        batch, stack = stack[-64:], stack[:-64]
        found = metadata.read(lambda reader: _freed_below(reader, batch, counts, plan))  # noqa: B023 (called at once)
        stack.extend(found)
    return plan


def _freed_below(
    reader: Reader,
    emptied: list[tuple[int, int]],
    counts: _TrialCounts,
    plan: DeletionPlan,
) -> list[tuple[int, int]]:
    """Count *emptied* chunks into *plan*; return the children that they would take along."""
    numbers = [number for number, _ in emptied]
    locations = find_locations(reader, numbers)
    below: list[tuple[int, int]] = []
    for number, references in emptied:
        location = locations.get(number)
        if location is None:
            continue
        size = HEADER_SIZE + location.payload_size
        plan.chunk_count += 1
        plan.freed_bytes += size
        if location.kind == Kind.BLOCK:
            plan.block_count += 1
            plan.block_reference_bytes += size * references
        else:
            (row,) = find_node_rows(reader, [number])
            if row is not None:
                below.extend(counts.release(reader, row.children))
    return below
