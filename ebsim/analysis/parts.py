"""Parts: what the scan of a piece found, as a Parquet file.

Rows, one for each block that is not all zeros, by block size and then by digest:

    column        type
    block_size    u32   bytes
    block_index   u64   the block's byte offset is block_index * block_size
    digest_high   u64   the digest's first eight bytes, big endian (``block_digests.py``)
    digest_low    u64   its last eight

Two integers and not sixteen bytes: polars and other engines group, compare and filter them
without touching a heap, and the statistics of row groups tell which hold a range of digests.

The file's own metadata has one entry, ``ebsim.part``, a JSON object: ``version`` 1,
``hole_bytes`` (of the piece, what the image's file system or format knows to be zeros),
``blocks`` (for each block size, smallest first, how many rows and the highest block index,
-1 without rows).
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ebsim.analysis.block_digests import BLOCK_SIZES

VERSION = 1
METADATA_KEY = "ebsim.part"
SCHEMA = {
    "block_size": pl.UInt32,
    "block_index": pl.UInt64,
    "digest_high": pl.UInt64,
    "digest_low": pl.UInt64,
}
_ROWS_PER_GROUP = 8192

Column = npt.NDArray[np.uint64]


class Part(NamedTuple):
    """A scanned piece; *rows* has index and digest's halves for each of ``BLOCK_SIZES``."""

    hole_bytes: int
    rows: Sequence[tuple[Column, Column, Column]]


class PartNotes(NamedTuple):
    """What a part says beside its rows.

    *blocks* has the count and the highest index, -1 for none, for each of ``BLOCK_SIZES``.
    """

    hole_bytes: int
    blocks: Sequence[tuple[int, int]]


def encode_part(part: Part) -> bytes:
    """*part* as a Parquet file."""
    sizes = [
        np.full(len(rows[0]), size, dtype=np.uint32)
        for size, rows in zip(BLOCK_SIZES, part.rows, strict=True)
    ]
    indexes, high, low = (np.concatenate(column) for column in zip(*part.rows, strict=True))
    frame = pl.DataFrame(
        {
            "block_size": np.concatenate(sizes),
            "block_index": indexes,
            "digest_high": high,
            "digest_low": low,
        },
        schema=SCHEMA,
    )
    notes = {
        "version": VERSION,
        "hole_bytes": part.hole_bytes,
        "blocks": [
            [len(rows[0]), int(rows[0].max()) if len(rows[0]) else -1] for rows in part.rows
        ],
    }
    file = io.BytesIO()
    # Digests do not compress, and indexes in the digests' order hardly do.
    frame.write_parquet(
        file,
        compression="uncompressed",
        row_group_size=_ROWS_PER_GROUP,
        metadata={METADATA_KEY: json.dumps(notes)},
    )
    return file.getvalue()


def read_notes(file: Path) -> PartNotes | None:
    """The notes of the part in *file*; ``None`` where there is no whole part."""
    try:
        found = pl.read_parquet_metadata(file)
        notes = json.loads(found[METADATA_KEY])
    except (pl.exceptions.PolarsError, OSError, KeyError, ValueError):
        return None
    if notes.get("version") != VERSION:
        return None
    return PartNotes(notes["hole_bytes"], list(map(tuple, notes["blocks"])))
