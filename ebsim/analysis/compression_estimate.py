"""What a store's payload would come to, from the blocks that were compressed.

Blocks were sampled twice (``compression_sample.py``): of many a piece was compressed, and some
of them as a whole and in pieces.  The mean of the pieces is that of all blocks' pieces; times
what the whole ones took beside their own pieces it is the mean of all blocks, which is known
as estimation by ratio with double sampling.  Its error has two parts: of the pieces' mean, and
of the ratio.  Where every block was compressed there is no error.

Pieces that do not compress are counted as they are and not by that ratio: a block of them does
not compress either, while one of text takes half of what its pages do.  A few whole blocks
without any such piece would say of a disk that it is as small as they are, and be sure of it.

Source: W. G. Cochran, Sampling Techniques, third edition, section 12.9.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, variance

from ebsim.analysis.compression_sample import StoredBlock

# Of a normal distribution: so many standard errors either way hold 95 of 100 samples; and
# what Student's adds for small ones, near enough.
_ERRORS_95, _FOR_SMALL = 1.96, 2.5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A size in bytes, and how far off it may be: in 95 of 100 cases not farther.

    *error_bytes* is 0 where all was compressed, and ``None`` where the sample is too small to
    tell.
    """

    size_bytes: int
    error_bytes: int | None
    sample_count: int


def estimate_payload(
    sampled: Sequence[StoredBlock], distinct_count: int, levels: Sequence[int]
) -> Mapping[int, Estimate | None]:
    """What *distinct_count* blocks of one size would be stored in, by level.

    ``None`` where no block was compressed as a whole.
    """
    whole = [block for block in sampled if block.whole]
    in_part = [block for block in sampled if not block.whole]
    assert len(whole) <= distinct_count, "each different block is sampled once at the most"
    if distinct_count == 0:
        return dict.fromkeys(levels, Estimate(0, 0, 0))
    if not whole:
        return dict.fromkeys(levels)
    found = {}
    for at, level in enumerate(levels):
        stored = [block.whole[at] for block in whole]
        if len(whole) == distinct_count:
            found[level] = Estimate(sum(stored), 0, len(whole))
        elif in_part:
            of_whole = [(block.pieces[at], block.kept_pieces[at]) for block in whole]
            pieces = [(block.pieces[at], block.kept_pieces[at]) for block in in_part]
            found[level] = _by_ratio(stored, of_whole, pieces, distinct_count)
        else:
            found[level] = _by_mean(stored, distinct_count)
    return found


def _by_mean(stored: Sequence[int], distinct_count: int) -> Estimate:
    count = len(stored)
    total = round(fmean(stored) * distinct_count)
    if count < 2:
        return Estimate(total, None, count)
    left_out = 1 - count / distinct_count
    error = sqrt(variance(stored) / count * left_out) * distinct_count
    return Estimate(total, round(_errors(count) * error), count)


def _by_ratio(
    stored: Sequence[int],
    of_whole: Sequence[tuple[int, int]],
    pieces: Sequence[tuple[int, int]],
    distinct_count: int,
) -> Estimate:
    """From what blocks are *stored* in, and what pieces come to that compress and that do not.

    *of_whole* has the pieces of the blocks that are *stored*, *pieces* those of many others.
    """
    smaller = sum(one for one, _ in of_whole)
    ratio = (sum(stored) - sum(kept for _, kept in of_whole)) / smaller if smaller else 1.0
    likely = [kept + ratio * one for one, kept in pieces]
    total = round(fmean(likely) * distinct_count)
    if len(stored) < 2 or len(pieces) < 2:
        return Estimate(total, None, len(stored))
    rest = [size - kept - ratio * one for size, (one, kept) in zip(stored, of_whole, strict=True)]
    of_ratio = variance(rest) / len(stored)
    # The other pieces of a sampled block are left out, too, so no less for few blocks.
    of_pieces = variance(likely) / len(pieces)
    error = sqrt(of_ratio + of_pieces) * distinct_count
    return Estimate(total, round(_errors(len(stored)) * error), len(stored))


def _errors(count: int) -> float:
    return _ERRORS_95 + _FOR_SMALL / (count - 1)


def filled_estimates(
    estimates: Mapping[int, Mapping[int, Estimate | None]], unique_bytes: Mapping[int, int]
) -> dict[int, Mapping[int, Estimate]]:
    """*estimates* by block size, rising, and level, none of them missing.

    Where no block of a size was in the sample, by the ratio of the next smaller size that has
    one, with no error stated.
    """
    found: dict[int, Mapping[int, Estimate]] = {}
    ratios: dict[int, float] = {}
    for size, by_level in estimates.items():
        filled = {}
        for level, estimate in by_level.items():
            if estimate is None:
                guess = round(ratios.get(level, 1.0) * unique_bytes[size])
                filled[level] = Estimate(guess, None, 0)
            else:
                filled[level] = estimate
                ratios[level] = estimate.size_bytes / max(1, unique_bytes[size])
        found[size] = filled
    return found
