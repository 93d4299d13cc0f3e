"""What changed between neighbours of a series: in blocks of each size, and in bytes.

The blocks follow from the parts.  For the bytes, the 4 KiB blocks that differ, and no others,
are read from both images and compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from ebsim.analysis.block_digests import BLOCK_SIZE_MIN, BLOCK_SIZES
from ebsim.analysis.images import Image, opened_image
from ebsim.analysis.parts import SCHEMA
from ebsim.blockmap.geometry import FAN_OUT
from ebsim.units import MIB

_BATCH_BYTES = 4 * MIB
_BATCH_BLOCKS = _BATCH_BYTES // BLOCK_SIZE_MIN


@dataclass(frozen=True, slots=True)
class NeighbourChange:
    """How one image of a series differs from the one before it.

    Attributes:
        block_counts: Blocks that differ, by block size; blocks that are zeros in one of
            the two count.
        leaf_counts: Leaves of the block map, of 128 blocks, that they lie in.
        differing_bytes: Bytes that differ.
    """

    first: str
    second: str
    block_counts: Mapping[int, int]
    leaf_counts: Mapping[int, int]
    differing_bytes: int


@dataclass(slots=True)
class ChangedBlocks:
    """The blocks that differ, counted; *smallest* has the indexes of those of 4 KiB."""

    block_counts: dict[int, int] = field(default_factory=lambda: dict.fromkeys(BLOCK_SIZES, 0))
    leaves: list[pl.DataFrame] = field(default_factory=list)
    smallest: list[pl.Series] = field(default_factory=list)

    def leaf_counts(self) -> dict[int, int]:
        """Leaves of the block map that the blocks lie in; one may lie in several pieces."""
        counts = dict.fromkeys(BLOCK_SIZES, 0)
        if self.leaves:
            found = pl.concat(self.leaves).unique().group_by("block_size").len()
            counts.update(found.iter_rows())
        return counts


@dataclass(frozen=True, slots=True)
class ComparisonTask:
    """Two images and the 4 KiB blocks of them to compare.  Can be sent to another process."""

    first: Image
    second: Image
    block_indexes: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """What is read of each image."""
        return len(self.block_indexes) * BLOCK_SIZE_MIN


def changed_blocks(first: Sequence[Path], second: Sequence[Path]) -> ChangedBlocks:
    """The blocks that differ between two images, from their parts, piece by piece.

    Memory: the rows of two parts, and eight bytes for each 4 KiB block that differs.
    """
    found = ChangedBlocks()
    for turn in range(max(len(first), len(second))):
        before, after = _part(first, turn), _part(second, turn)
        differing = before.join(
            after, on=["block_size", "block_index"], how="full", coalesce=True, suffix="_after"
        ).filter(
            pl.col("digest_high").ne_missing(pl.col("digest_high_after"))
            | pl.col("digest_low").ne_missing(pl.col("digest_low_after"))
        )
        for size, count in differing.group_by("block_size").len().iter_rows():
            found.block_counts[size] += count
        leaf = (pl.col("block_index") // FAN_OUT).alias("leaf")
        found.leaves.append(differing.select("block_size", leaf).unique())
        smallest = differing.filter(pl.col("block_size") == BLOCK_SIZE_MIN)["block_index"]
        found.smallest.append(smallest.sort())
    return found


def comparison_tasks(first: Image, second: Image, changed: ChangedBlocks) -> list[ComparisonTask]:
    """What to read and compare, some MiB at a time."""
    return [
        ComparisonTask(first, second, tuple(indexes[at : at + _BATCH_BLOCKS * 16].to_list()))
        for indexes in changed.smallest
        for at in range(0, len(indexes), _BATCH_BLOCKS * 16)
    ]


def differing_bytes(task: ComparisonTask) -> int:
    """How many bytes of *task*'s blocks differ; where one image has ended, zeros count.

    Raises:
        SourceUnusable: an image cannot be read, or changed.
    """
    count = 0
    before, after = bytearray(_BATCH_BYTES), bytearray(_BATCH_BYTES)
    with opened_image(task.first) as first, opened_image(task.second) as second:
        for start, stop in _runs(task.block_indexes):
            length = (stop - start) * BLOCK_SIZE_MIN
            first.read_into(memoryview(before)[:length], start * BLOCK_SIZE_MIN)
            second.read_into(memoryview(after)[:length], start * BLOCK_SIZE_MIN)
            count += int(
                np.count_nonzero(
                    np.frombuffer(before, np.uint8, length)
                    != np.frombuffer(after, np.uint8, length)
                )
            )
    return count


def _part(paths: Sequence[Path], turn: int) -> pl.DataFrame:
    if turn >= len(paths):
        return pl.DataFrame(schema=SCHEMA)
    return pl.read_parquet(paths[turn])


def _runs(indexes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the half-open runs of neighbours in sorted *indexes*, none longer than a batch."""
    start = stop = -1
    for index in indexes:
        if index == stop and stop - start < _BATCH_BLOCKS:
            stop += 1
            continue
        if stop > start:
            yield start, stop
        start, stop = index, index + 1
    if stop > start:
        yield start, stop
