"""What a store's payload would come to, from the blocks that were compressed.

The sample has every different block with the same chance (``piece_scan.py``), so the mean of
what the sampled ones are stored in is that of all, within the error of a sample without
replacement.  Where every block was compressed, as for small images, there is no error.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from ebsim.analysis.block_digests import BLOCK_SIZES
from ebsim.analysis.parts import Sample
from ebsim.units import MIB

_SHARE = 1 / 1024
_SAMPLE_BYTES_MIN = 4 * MIB
_BLOCKS_MIN = 16
_HIGHEST = (1 << 64) - 1
ALL_SAMPLED: tuple[int | None, ...] = (_HIGHEST,) * len(BLOCK_SIZES)
"""The limits of a sample that is everything."""

# Of a normal distribution: so many standard errors either way hold 95 of 100 samples.
_ERRORS_95 = 1.96


@dataclass(frozen=True, slots=True)
class Estimate:
    """A size in bytes, and how far off it may be: in 95 of 100 cases not farther.

    *error_bytes* is 0 where all was compressed, and ``None`` for a sample of a single block.
    """

    size_bytes: int
    error_bytes: int | None
    sample_count: int


def sample_limits(total_bytes: int) -> tuple[int | None, ...]:
    """For each block size, up to which half digest a block is sampled in *total_bytes*.

    A thousandth of the bytes for each size, at least 4 MiB and 16 blocks.
    """
    limits = []
    # In powers of two, so that one image more leaves most samples, and parts, as they are.
    rounded = 1 << max(0, total_bytes - 1).bit_length()
    for size in BLOCK_SIZES:
        wanted = max(rounded * _SHARE, _SAMPLE_BYTES_MIN, _BLOCKS_MIN * size)
        limits.append(min(_HIGHEST, int(wanted / max(rounded, 1) * 2**64)))
    return tuple(limits)


def estimate_payload(
    samples: Iterable[Sample], distinct_count: int, levels: Sequence[int]
) -> Mapping[int, Estimate | None]:
    """What *distinct_count* blocks would be stored in, by level; ``None`` without a sample.

    *samples* are all that were taken of one block size; each digest counts once.
    """
    by_digest = {sample.digest: sample.stored_bytes for sample in samples}
    stored = list(by_digest.values())
    assert len(stored) <= distinct_count, "only blocks of the images are sampled"
    if distinct_count == 0:
        return dict.fromkeys(levels, Estimate(0, 0, 0))
    if not stored:
        return dict.fromkeys(levels)
    return {
        level: _estimate([sizes[at] for sizes in stored], distinct_count)
        for at, level in enumerate(levels)
    }


def _estimate(stored: Sequence[int], distinct_count: int) -> Estimate:
    count = len(stored)
    total = round(fmean(stored) * distinct_count)
    if count == distinct_count:
        return Estimate(sum(stored), 0, count)
    if count < 2:
        return Estimate(total, None, count)
    left_out = 1 - count / distinct_count
    error = _ERRORS_95 * stdev(stored) / sqrt(count) * sqrt(left_out) * distinct_count
    return Estimate(total, round(error), count)
