"""What a range of a device consists of, as NBD's ``base:allocation`` wants to know it."""

from collections.abc import Iterator

from ebsim.blockmap.geometry import FAN_OUT_BITS
from ebsim.volumes.block_bitmap import runs_of_bits
from ebsim.volumes.block_device import AllocationRange
from ebsim.volumes.origin import Origin
from ebsim.volumes.overlay import Overlay
from ebsim.volumes.sparse_file import SparseFile

LEAVES_DESCRIBED_MAX = 256
"""Leaves of a block map that one answer may look into."""


def described_stop(start: int, stop: int, block_size: int) -> int:
    """Where an answer about *start* up to *stop* may end, for the origin's sake."""
    leaf_size = block_size << FAN_OUT_BITS
    return min(stop, (start // leaf_size + LEAVES_DESCRIBED_MAX) * leaf_size)


def merged(parts: Iterator[AllocationRange]) -> Iterator[AllocationRange]:
    """*parts*, neighbours that are alike made one."""
    open_part: AllocationRange | None = None
    for part in parts:
        if open_part is not None and open_part[1:] == part[1:]:
            open_part = open_part._replace(length=open_part.length + part.length)
            continue
        if open_part is not None:
            yield open_part
        open_part = part
    if open_part is not None:
        yield open_part


def local_parts(data: SparseFile, start: int, stop: int) -> Iterator[AllocationRange]:
    """What a local file has from *start* up to *stop*."""
    if start < stop:
        for part in data.ranges(start, stop):
            yield AllocationRange(part.stop - part.start, part.is_hole, part.is_hole)


def origin_parts(
    origin: Origin, block_size: int, start: int, stop: int
) -> Iterator[AllocationRange]:
    """What a block map has from *start* up to *stop*.  Cost: a leaf for each 128 blocks."""
    first, last = start // block_size, (stop - 1) // block_size
    position = start
    for leaf in range(first >> FAN_OUT_BITS, (last >> FAN_OUT_BITS) + 1):
        for run_start, run_stop in runs_of_bits(origin.mask(leaf), leaf << FAN_OUT_BITS):
            begins = min(max(run_start * block_size, start), stop)
            ends = min(max(run_stop * block_size, start), stop)
            if begins > position:
                yield AllocationRange(begins - position, True, True)
            if ends > begins:
                yield AllocationRange(ends - begins, False, False)
            position = max(position, ends)
    if position < stop:
        yield AllocationRange(stop - position, True, True)


def volume_parts(
    overlay: Overlay, origin: Origin | None, start: int, stop: int
) -> Iterator[AllocationRange]:
    """What a volume has from *start* up to *stop*: of absent blocks, what *origin* has.

    May end before *stop* does.  No block of the range comes here meanwhile.
    """
    present, size, position = overlay.present, overlay.state.block_size, start
    if origin is not None and present is not None:
        stop = described_stop(start, stop, size)
        absent = present.runs(start // size, -(-stop // size), is_set=False)
        for absent_start, absent_stop in absent:
            begins, ends = max(absent_start * size, start), min(absent_stop * size, stop)
            yield from local_parts(overlay.data, position, begins)
            yield from origin_parts(origin, size, begins, ends)
            position = ends
    yield from local_parts(overlay.data, position, stop)
