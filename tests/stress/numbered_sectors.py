"""A disk of which every sector repeats one number: what it may hold is a number for each."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SECTOR = 512
Numbers = npt.NDArray[np.uint64]


class Write(NamedTuple):
    """One request to write: *count* sectors from *first* on get *number*; 0 is zeros."""

    first: int
    count: int
    number: int

    @property
    def data(self) -> bytes:
        return self.number.to_bytes(8, "little") * (self.count * SECTOR // 8)

    def overlaps(self, other: "Write") -> bool:
        return self.first < other.first + other.count and other.first < self.first + self.count


def numbers_in(disk: bytes | bytearray) -> Numbers:
    """The number of each sector; none is torn."""
    words = np.frombuffer(disk, "<u8").reshape(-1, SECTOR // 8)
    assert (words == words[:, :1]).all(), "a sector is torn"
    return words[:, 0].astype(np.uint64)


def disk_of(numbers: Numbers) -> bytes:
    return np.repeat(numbers.astype("<u8"), SECTOR // 8).tobytes()


def sectors_that_may_not_be(found: Numbers, known: Numbers, writes: Sequence[Write]) -> list[int]:
    """Where *found* is neither what was *known* nor what one of *writes* may have written."""
    is_right = found == known
    for write in writes:
        place = slice(write.first, write.first + write.count)
        is_right[place] |= found[place] == np.uint64(write.number)
    return [int(sector) for sector in np.flatnonzero(~is_right)]
