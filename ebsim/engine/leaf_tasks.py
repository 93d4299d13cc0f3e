"""Which leaves a snapshot has to look at, and which of their blocks to read."""

from collections.abc import Iterable, Iterator, Mapping

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.geometry import FAN_OUT, FAN_OUT_BITS
from ebsim.engine.leaf_scan import LeafTask
from ebsim.ids import Digest
from ebsim.sources.source import Extent

_ALL_SLOTS = (1 << FAN_OUT) - 1


def leaf_tasks(
    extents: Iterable[Extent],
    block_size: int,
    parent: BlockMap,
    interrupted: Mapping[int, Digest],
) -> Iterator[LeafTask]:
    """Yield a task for each leaf that has data now or had some in *parent*, in order.

    What *extents* leave out is zeros, and is not read.  *interrupted* has the leaves that
    an interrupted snapshot of the volume had finished, by index.
    """
    masks = _read_masks(extents, block_size)
    leaves = parent.leaves()
    mask, leaf = next(masks, None), next(leaves, None)
    while mask or leaf:
        index = min(at[0] for at in (mask, leaf) if at)
        read_mask, old = 0, None
        if mask and mask[0] == index:
            read_mask = mask[1]
            mask = next(masks, None)
        if leaf and leaf[0] == index:
            old = leaf[1]
            leaf = next(leaves, None)
        base = interrupted.get(index, old)
        yield LeafTask(index, old, base, read_mask, _ALL_SLOTS & ~read_mask)


def _read_masks(extents: Iterable[Extent], block_size: int) -> Iterator[tuple[int, int]]:
    """Yield leaf index and mask of the slots that any of *extents* touches."""
    leaf_index, mask = -1, 0
    for start, stop in extents:
        first, last = start // block_size, (stop - 1) // block_size
        for index in range(first >> FAN_OUT_BITS, (last >> FAN_OUT_BITS) + 1):
            if index != leaf_index:
                if mask:
                    yield leaf_index, mask
                leaf_index, mask = index, 0
            low = max(first - (index << FAN_OUT_BITS), 0)
            high = min(last - (index << FAN_OUT_BITS), FAN_OUT - 1)
            mask |= (1 << high + 1) - (1 << low)
    if mask:
        yield leaf_index, mask
