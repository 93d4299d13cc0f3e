"""Counting: how many different blocks there are, and which images have them.

For one block size, every digest is in some set of images.  All that is asked of sharing
follows from how many digests each *set* has: what an image has alone, what two have in
common, what each adds to those before it.  A set is a row of bits, so the table of sets is
small where the list of blocks is not, and tables of parts of the digests simply add up.

The blocks are counted a range of digests at a time, each range small enough for memory.
Parts are sorted by digest, so a range is read without most of the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

_ROWS_PER_RANGE_MIN, _ROWS_PER_RANGE_MAX = 1 << 18, 1 << 21
_RANGES_WANTED = 256

_WORD_BITS = 64
_SETS_PER_STEP = 4096
DIGEST_COLUMNS = ("digest_high", "digest_low")

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sharing:
    """Which sets of images have how many of the digests of one block size.

    Attributes:
        image_count: The images are 0, 1, ... in the order given.
        block_counts: The blocks that are not zeros, by image.
        sets: A row of 64-bit words for each set of images; bit i is image i.
        digest_counts: How many digests exactly the images of each set have.
    """

    image_count: int
    block_counts: Counts
    sets: npt.NDArray[np.uint64]
    digest_counts: Counts

    @property
    def block_count(self) -> int:
        """Blocks that are not zeros, in all images."""
        return int(self.block_counts.sum())

    @property
    def distinct_count(self) -> int:
        """Different ones among them: what a store keeps."""
        return int(self.digest_counts.sum())

    @property
    def repeated_within_count(self) -> int:
        """Blocks that their own image has already."""
        return self.block_count - int(self.distinct_counts.sum())

    @property
    def repeated_across_count(self) -> int:
        """Blocks that are new to their own image, and that another image has."""
        return int(self.distinct_counts.sum()) - self.distinct_count

    @cached_property
    def shared_counts(self) -> Counts:
        """How many digests each pair of images has in common: a square, symmetric."""
        total = np.zeros((self.image_count, self.image_count))
        for bits, counts in self._steps():
            members = bits.astype(np.float64)
            # In floating point, which is fast here, and exact below 2**53.
            total += (members * counts[:, None]).T @ members
        return total.astype(np.int64)

    @property
    def distinct_counts(self) -> Counts:
        """Different blocks, by image."""
        return np.diagonal(self.shared_counts)

    @cached_property
    def added_counts(self) -> Counts:
        """Different blocks that no earlier image has, by image."""
        total = np.zeros(self.image_count, dtype=np.int64)
        for bits, counts in self._steps():
            np.add.at(total, bits.argmax(axis=1), counts)
        return total

    @cached_property
    def alone_counts(self) -> Counts:
        """Different blocks that no other image has, by image."""
        total = np.zeros(self.image_count, dtype=np.int64)
        for bits, counts in self._steps():
            is_alone = bits.sum(axis=1) == 1
            np.add.at(total, bits[is_alone].argmax(axis=1), counts[is_alone])
        return total

    def _steps(self) -> Iterator[tuple[npt.NDArray[np.bool_], Counts]]:
        """Yield the sets as rows of booleans, some at a time, and their counts."""
        for at in range(0, len(self.sets), _SETS_PER_STEP):
            words = self.sets[at : at + _SETS_PER_STEP]
            octets = np.ascontiguousarray(words, dtype="<u8").view(np.uint8)
            bits = np.unpackbits(octets, axis=1, bitorder="little").astype(bool)
            yield bits[:, : self.image_count], self.digest_counts[at : at + _SETS_PER_STEP]


def rows_per_range(row_count: int) -> int:
    """How many of *row_count* blocks to count at once, at 400 bytes each.

    Every range looks into every part, so a terabyte has fewer, larger ones: 800 MiB.
    """
    return max(_ROWS_PER_RANGE_MIN, min(_ROWS_PER_RANGE_MAX, row_count // _RANGES_WANTED))


def digest_ranges(row_count: int, rows_max: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of the digests' first halves, both ends in them, that cover all.

    Each has about *rows_max* of *row_count* blocks: digests are spread evenly.
    """
    count = max(1, -(-row_count // rows_max))
    borders = [(1 << 64) * turn // count for turn in range(count + 1)]
    for first, stop in pairwise(borders):
        yield first, stop - 1


def rows_of(
    paths: Sequence[Path], block_sizes: Sequence[int], digests: tuple[int, int]
) -> pl.LazyFrame:
    """The rows of some block sizes in *paths*, with digests in a range, its ends included."""
    first, last = (pl.lit(border, dtype=pl.UInt64) for border in digests)
    return pl.scan_parquet(list(paths)).filter(
        pl.col("block_size").is_in(list(block_sizes)),
        pl.col("digest_high").is_between(first, last),
    )


def count_sharing(
    parts: Sequence[Sequence[Path]],
    block_counts: Mapping[int, Sequence[int]],
    *,
    rows_max: int | None = None,
) -> dict[int, Sharing]:
    """Count the blocks of each size in *parts*, which are those of each image.

    *block_counts* is how many each image has, by block size.  Memory: *rows_max* blocks,
    ``rows_per_range`` by default, and the tables of sets.  Cost: one look at every part for
    each range of digests.
    """
    words = _words(len(parts))
    if rows_max is None:
        rows_max = rows_per_range(max(map(sum, block_counts.values()), default=0))
    tables = {size: _empty_sets(len(parts)) for size in block_counts}
    for sizes, row_count in _batches(block_counts, rows_max):
        for digests in digest_ranges(row_count, rows_max):
            found = digests_in(parts, sizes, digests)
            sets = found.group_by("block_size", *words).agg(pl.len().cast(pl.Int64).alias("count"))
            for size in sizes:
                own = sets.filter(pl.col("block_size") == size).drop("block_size")
                tables[size] = (
                    pl.concat([tables[size], own]).group_by(words).agg(pl.col("count").sum())
                )
    return {
        size: Sharing(
            len(parts),
            np.array(block_counts[size], dtype=np.int64),
            sets.select(words).to_numpy().reshape(sets.height, len(words)),
            sets["count"].to_numpy().astype(np.int64),
        )
        for size, sets in tables.items()
    }


def _batches(
    block_counts: Mapping[int, Sequence[int]], rows_max: int
) -> Iterator[tuple[list[int], int]]:
    """Yield block sizes to count together, and how many blocks they have: small ones in one."""
    sizes: list[int] = []
    total = 0
    for size, counts in block_counts.items():
        if sizes and total + sum(counts) > rows_max:
            yield sizes, total
            sizes, total = [], 0
        sizes.append(size)
        total += sum(counts)
    if sizes:
        yield sizes, total


def digests_in(
    parts: Sequence[Sequence[Path]], block_sizes: Sequence[int], digests: tuple[int, int]
) -> pl.DataFrame:
    """The digests of a range: each once, with its set of images and how often it occurs."""
    words = _words(len(parts))
    none = pl.lit(0, dtype=pl.UInt64)
    key = ("block_size", *DIGEST_COLUMNS)
    rows = []
    for image, paths in enumerate(parts):
        bit = pl.lit(1 << image % _WORD_BITS, dtype=pl.UInt64)
        own = words[image // _WORD_BITS]
        members = ((bit if word == own else none).alias(word) for word in words)
        rows.append(rows_of(paths, block_sizes, digests).select(*key, *members))
    return (
        pl.concat(rows)
        .group_by(key)
        .agg(pl.len().alias("count"), *(pl.col(word).bitwise_or() for word in words))
        .collect(engine="streaming")
    )


def _words(image_count: int) -> list[str]:
    """The columns that a set of so many images takes."""
    return [f"images_{at}" for at in range(-(-image_count // _WORD_BITS))]


def _empty_sets(image_count: int) -> pl.DataFrame:
    columns = dict.fromkeys(_words(image_count), pl.UInt64)
    return pl.DataFrame(schema={**columns, "count": pl.Int64})
