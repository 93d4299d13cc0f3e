"""Row format: every row but a chunk's ends in a checksum over its table, key and value.

LMDB keeps no page checksums: a flipped bit in a value, or in a key where the order
still holds, is invisible to it.  So what lies in the file behind a key is

    offset  size  field
    0       n     value      what the caller stored
    n       8     checksum   XXH3-64 of key + value, u64 BE, seeded (below)

The seed is XXH3-64 of the table's name, exclusive-or the key's length: so a row that
damage makes appear under another table fails too, and so does one whose border between
key and value moved.

``Table.CHUNKS`` (digest -> chunk number) goes without.  It has a row for every chunk of
the store, where eight bytes are a fifth of the row, and each row is proved by the record
it leads to, which repeats the digest.

This module is pure.
"""

from collections.abc import Sequence
from typing import Final

from xxhash import xxh3_64_digest, xxh3_64_intdigest

from ebsim.errors import MetadataCorrupt
from ebsim.metadata.transactions import Row, Table

CHECKSUM_SIZE = 8

UNSEALED: Final = frozenset({Table.CHUNKS})
"""The tables whose rows carry no checksum."""

_SEEDS: Final = {table: xxh3_64_intdigest(table.encode()) for table in Table}


def seal_rows(table: Table, rows: Sequence[Row]) -> Sequence[Row]:
    """*rows* as they lie in the file."""
    if table in UNSEALED:
        return rows
    seed, digest = _SEEDS[table], xxh3_64_digest
    return [(key, value + digest(key + value, seed ^ len(key))) for key, value in rows]


def open_rows(table: Table, rows: Sequence[Row]) -> list[Row]:
    """The opposite of :func:`seal_rows`.

    Raises:
        MetadataCorrupt: a row fails its checksum; the text names table and key.
    """
    if table in UNSEALED:
        return list(rows)
    seed, digest = _SEEDS[table], xxh3_64_digest
    opened = []
    for key, sealed in rows:
        value = sealed[:-CHECKSUM_SIZE]
        if digest(key + value, seed ^ len(key)) != sealed[-CHECKSUM_SIZE:]:
            raise row_corrupt(table, key, "its bytes do not match its checksum")
        opened.append((key, value))
    return opened


def row_corrupt(table: Table, key: bytes, found: str) -> MetadataCorrupt:
    """The error that names the row *key* of *table* and what is wrong with it."""
    return MetadataCorrupt(where=f"table {table}, row {key.hex() or '(empty key)'}", found=found)
