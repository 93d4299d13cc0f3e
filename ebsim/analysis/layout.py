"""Where duplicates live: what the blocks of each stretch of a disk are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from ebsim.analysis.images import Image
from ebsim.analysis.sharing import (
    DIGEST_COLUMNS,
    digest_ranges,
    digests_in,
    rows_of,
    rows_per_range,
)

BINS_MAX = 192

SHARED, REPEATED, SINGLE = range(3)
"""Found in another image too; found more than once, in this one only; found nowhere else."""


@dataclass(frozen=True)
class Layout:
    """An image's disk in bins of equal size, and how many of each bin's blocks are what.

    Attributes:
        bin_blocks: The blocks of a bin; the last may have fewer.
        counts: A row for each bin: blocks that are ``SHARED``, ``REPEATED``, ``SINGLE``; the
            others are zeros.
    """

    image: str
    block_size: int
    bin_blocks: int
    counts: npt.NDArray[np.int64]


def lay_out(
    images: Sequence[Image],
    parts: Sequence[Sequence[Path]],
    block_size: int,
    row_count: int,
) -> list[Layout]:
    """Sort every block of *block_size* by where else it is found.

    Memory and cost: as ``count_sharing``; *row_count* is how many blocks there are.
    """
    layouts = [_empty(image, block_size) for image in images]
    for digests in digest_ranges(row_count, rows_per_range(row_count)):
        known = digests_in(parts, [block_size], digests)
        words = [name for name in known.columns if name.startswith("images_")]
        owners = pl.sum_horizontal(pl.col(word).bitwise_count_ones() for word in words)
        known = known.select(
            *DIGEST_COLUMNS,
            pl.when(owners > 1)
            .then(SHARED)
            .when(pl.col("count") > 1)
            .then(REPEATED)
            .otherwise(SINGLE)
            .alias("kind"),
        )
        for layout, paths in zip(layouts, parts, strict=True):
            rows = rows_of(paths, [block_size], digests).join(known.lazy(), on=DIGEST_COLUMNS)
            place = (pl.col("block_index") // layout.bin_blocks).alias("bin")
            counts = rows.group_by(place, "kind").len().collect()
            for turn, kind, count in counts.iter_rows():
                layout.counts[turn, kind] += count
    return layouts


def _empty(image: Image, block_size: int) -> Layout:
    block_count = image.block_count(block_size)
    bin_blocks = max(1, -(-block_count // BINS_MAX))
    bin_count = -(-block_count // bin_blocks)
    return Layout(image.name, block_size, bin_blocks, np.zeros((bin_count, 3), dtype=np.int64))
