"""What a store needs beside its payload, and which block size to recommend.

ebsim keeps for each different block a record header and a footer entry in its pack
(``pack_format.py``) and at most 130 bytes of metadata; and for each image the leaves of its
block map, of which a later image of a series shares those without a change.

A tool with blocks of a fixed size and no shared tree keeps a list of all of an image's blocks
for each image instead: 40 bytes a block, as borg's chunk lists take before compression.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2

import numpy as np

from ebsim.analysis.block_digests import size_name
from ebsim.analysis.compression_estimate import Estimate
from ebsim.blockmap.geometry import FAN_OUT
from ebsim.chunkstore.pack_format import ENTRY_SIZE, HEADER_SIZE
from ebsim.units import format_size

INDEX_BYTES_PER_BLOCK = 130
"""Live metadata for each different block, its share of leaf rows included, at the most."""

_LIST_BYTES_PER_BLOCK = 40
_LEAF_ENTRY_SIZE = 40
_LEAF_FIXED_SIZE = 20 + HEADER_SIZE + ENTRY_SIZE

# So much more room a larger block size may take and still be preferred: it has fewer blocks to
# look up, count and reclaim, and reads and restores faster.
_WORTH = 1.05


@dataclass(frozen=True, slots=True)
class StoreCost:
    """What is stored beside the blocks' own bytes.

    Attributes:
        record_bytes: Headers and footer entries of the different blocks.
        map_bytes: Leaves of the block maps.
        index_bytes: Metadata, at the most.
        list_bytes: What lists of all blocks would take instead of shared maps.
    """

    record_bytes: int
    map_bytes: int
    index_bytes: int
    list_bytes: int

    @property
    def total_bytes(self) -> int:
        """What ebsim keeps beside the payload."""
        return self.record_bytes + self.map_bytes + self.index_bytes

    @property
    def list_total_bytes(self) -> int:
        """What a tool with lists keeps beside the payload, if its index takes as much."""
        return self.record_bytes + self.list_bytes + self.index_bytes


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The block size to use, and why, in a sentence."""

    block_size: int
    reason: str


def store_cost(
    distinct_count: int, block_counts: Sequence[int], changed_leaf_counts: Sequence[int | None]
) -> StoreCost:
    """The cost of images with so many blocks that are not zeros.

    *changed_leaf_counts* is how many leaves of its predecessor's an image has changed;
    ``None`` for an image that has no predecessor.
    """
    map_bytes = 0
    for count, changed in zip(block_counts, changed_leaf_counts, strict=True):
        leaves = -(-count // FAN_OUT)
        if changed is None or changed >= leaves:
            map_bytes += count * _LEAF_ENTRY_SIZE + leaves * _LEAF_FIXED_SIZE
        else:
            map_bytes += changed * (FAN_OUT * _LEAF_ENTRY_SIZE + _LEAF_FIXED_SIZE)
    return StoreCost(
        distinct_count * (HEADER_SIZE + ENTRY_SIZE),
        map_bytes,
        distinct_count * INDEX_BYTES_PER_BLOCK,
        sum(block_counts) * _LIST_BYTES_PER_BLOCK,
    )


def recommend(
    store_bytes: Mapping[int, int], distinct_counts: Mapping[int, int]
) -> Recommendation:
    """The largest block size that needs hardly more room than the best.

    *store_bytes* is what the whole store would need, by block size, smoothed (see
    ``smooth_payload``).
    """
    if not any(store_bytes.values()):
        return Recommendation(max(store_bytes), "There is nothing but zeros to store.")
    least = min(store_bytes.values())
    best = max(size for size, need in store_bytes.items() if need == least)
    chosen = max(size for size, need in store_bytes.items() if need <= least * _WORTH)
    need = f"{size_name(chosen)} blocks need about {format_size(store_bytes[chosen])}"
    blocks = f"{distinct_counts[chosen]:,} different blocks"
    if chosen == best:
        return Recommendation(chosen, f"{need} in {blocks}, the least of all block sizes.")
    more = store_bytes[chosen] / least - 1
    fewer = distinct_counts[best] / max(1, distinct_counts[chosen])
    return Recommendation(
        chosen,
        f"{need} in {blocks}: {more:.1%} more than {size_name(best)} blocks, which need the "
        f"least, with {fewer:.1f} times fewer blocks to keep, look up and reclaim.",
    )


def smooth_payload(
    unique_bytes: Mapping[int, int], payload: Mapping[int, Estimate]
) -> dict[int, int]:
    """The payload by block size, with the noise of the samples smoothed out.

    A block size must not be recommended because its few sampled blocks compressed well by
    chance.  How well content compresses changes little, and steadily, with the size of the
    blocks, so the ratios are fitted by a straight line over the logarithm of the size, each
    with the weight that its error gives it, which may fall and not rise.  Where nothing was
    sampled the payload is what it is.
    """
    sizes = [size for size in payload if unique_bytes[size]]
    if all(payload[size].error_bytes == 0 for size in sizes):
        return {size: estimate.size_bytes for size, estimate in payload.items()}
    ratios = [payload[size].size_bytes / unique_bytes[size] for size in sizes]
    weights = []
    for size in sizes:
        error = payload[size].error_bytes
        # Without a stated error about as good as nothing; never so good as to be all that counts.
        relative = 1.0 if error is None else max(0.005, error / unique_bytes[size])
        weights.append(1 / relative)
    steps = [log2(size) for size in sizes]
    slope, start = np.polyfit(steps, ratios, 1, w=weights) if len(sizes) > 1 else (0.0, ratios[0])
    if slope > 0:
        slope, start = 0.0, float(np.average(ratios, weights=np.square(weights)))
    fitted = {size: start + slope * log2(size) for size in sizes}
    return {
        size: round(unique_bytes[size] * min(1.0, max(0.0, fitted.get(size, 0.0))))
        for size in payload
    }
