"""The index: digest -> chunk number -> location, as rows.

Every function works in a transaction or reader given by the caller, in batches.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence

from ebsim.chunkstore.rows import (
    COUNTS_PER_PAGE,
    LOCATION_SIZE,
    LOCATIONS_PER_PAGE,
    Location,
    NodeRow,
    PackRow,
    decode_chunk_number,
    decode_location,
    decode_node_row,
    decode_pack,
    encode_location,
    encode_pack,
    number_key,
    pack_key,
)
from ebsim.ids import Digest
from ebsim.metadata.transactions import Reader, Table, Transaction

_EMPTY_PAGE = bytes(LOCATION_SIZE * LOCATIONS_PER_PAGE)

NEXT_CHUNK_NUMBER = b"next_chunk_number"
NEXT_PACK_NUMBER = b"next_pack_number"
_NODE_NUMBERS = b"node_numbers"
_NODE_RUN = struct.Struct("<QQ")


def find_numbers(reader: Reader, digests: Iterable[Digest]) -> dict[Digest, int]:
    """The chunk numbers of those *digests* that the store has."""
    return {digest: number for digest, (number, _) in find_chunks(reader, digests).items()}


def find_chunks(reader: Reader, digests: Iterable[Digest]) -> dict[Digest, tuple[int, Location]]:
    """The chunk numbers of those *digests* that the store has, and where they lie.

    A digest whose number is free is one that the reclaimer could not read when it freed
    the chunk: the store does not have it, and gives it a new number when it comes again.
    """
    wanted = sorted(set(digests))
    rows = reader.get_many(Table.CHUNKS, wanted)
    numbers = {
        digest: decode_chunk_number(row)
        for digest, row in zip(wanted, rows, strict=True)
        if row is not None
    }
    taken = find_locations(reader, numbers.values())
    return {d: (number, taken[number]) for d, number in numbers.items() if number in taken}


def find_locations(reader: Reader, numbers: Iterable[int]) -> dict[int, Location]:
    """Where the chunks of *numbers* lie; free numbers are left out."""
    wanted = sorted(set(numbers))
    order = sorted({number // LOCATIONS_PER_PAGE for number in wanted})
    rows = reader.get_many(Table.LOCATIONS, [number_key(page) for page in order])
    pages = dict(zip(order, rows, strict=True))
    found = {}
    for number in wanted:
        page = pages[number // LOCATIONS_PER_PAGE]
        if page is not None:
            location = decode_location(page, number % LOCATIONS_PER_PAGE)
            if location is not None:
                found[number] = location
    return found


def set_locations(txn: Transaction, changes: Mapping[int, Location | None]) -> None:
    """Say where chunks lie now; ``None`` frees the number."""
    by_page: dict[int, list[tuple[int, bytes]]] = {}
    for number, location in changes.items():
        by_page.setdefault(number // LOCATIONS_PER_PAGE, []).append(
            (number % LOCATIONS_PER_PAGE * LOCATION_SIZE, encode_location(location))
        )
    order = sorted(by_page)
    keys = [number_key(page) for page in order]
    rows, empty = [], []
    for page, key, old in zip(order, keys, txn.get_many(Table.LOCATIONS, keys), strict=True):
        new = bytearray(old or _EMPTY_PAGE)
        for start, value in by_page[page]:
            new[start : start + LOCATION_SIZE] = value
        if any(new):
            rows.append((key, bytes(new)))
        else:
            empty.append(key)
    txn.put_many(Table.LOCATIONS, rows)
    txn.delete_many(Table.LOCATIONS, empty)


def find_node_rows(reader: Reader, numbers: Sequence[int]) -> list[NodeRow | None]:
    """The edges of the nodes of *numbers*, in the order asked."""
    rows = reader.get_many(Table.NODES, [number_key(number) for number in numbers])
    return [None if row is None else decode_node_row(row) for row in rows]


def find_packs(reader: Reader, pack_numbers: Iterable[int]) -> dict[int, PackRow]:
    """The rows of those packs that are there."""
    wanted = sorted(set(pack_numbers))
    rows = reader.get_many(Table.PACKS, [pack_key(number) for number in wanted])
    return {
        number: decode_pack(row)
        for number, row in zip(wanted, rows, strict=True)
        if row is not None
    }


def set_packs(txn: Transaction, rows: Mapping[int, PackRow]) -> None:
    """Write pack rows; one with nothing live stays until its object is deleted."""
    txn.put_many(
        Table.PACKS, [(pack_key(number), encode_pack(rows[number])) for number in sorted(rows)]
    )


def allocate_node_numbers(txn: Transaction, count: int) -> list[int]:
    """Take *count* chunk numbers for nodes, out of runs of numbers that only nodes get.

    The children of an inner node then lie side by side in the tables by number, as the
    blocks of a leaf do.  Among the numbers of their blocks they would lie one to a row of
    counts, and a new inner node would change 128 rows.
    """
    (row,) = txn.get_many(Table.STORE, [_NODE_NUMBERS])
    start, stop = _NODE_RUN.unpack(row) if row is not None else (0, 0)
    numbers: list[int] = []
    while len(numbers) < count:
        if start == stop:
            start = allocate_numbers(txn, NEXT_CHUNK_NUMBER, COUNTS_PER_PAGE)
            stop = start + COUNTS_PER_PAGE
        taken = min(stop - start, count - len(numbers))
        numbers.extend(range(start, start + taken))
        start += taken
    txn.put_many(Table.STORE, [(_NODE_NUMBERS, _NODE_RUN.pack(start, stop))])
    return numbers


def allocate_numbers(txn: Transaction, counter: bytes, count: int) -> int:
    """Take *count* numbers of *counter* for good; return the first."""
    (last,) = txn.incr_many(Table.STORE, [(counter, count)])
    return last - count + 1
