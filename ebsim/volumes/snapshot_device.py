"""A snapshot as a block device that is not to be written."""

from collections.abc import Iterator
from functools import lru_cache

from ebsim.errors import ReadOnly
from ebsim.volumes.allocation import described_stop, merged, origin_parts
from ebsim.volumes.block_device import AllocationRange
from ebsim.volumes.origin import Origin

Buffer = bytes | bytearray | memoryview

_CACHE_BYTES = 32 << 20


class SnapshotDevice:
    """The disk of *size_bytes* in blocks of *block_size* that *origin* maps.

    The last blocks read are kept in memory, 32 MiB of them.
    """

    def __init__(self, origin: Origin, size_bytes: int, block_size: int) -> None:
        self._origin = origin
        self._size_bytes = size_bytes
        self._block_size = block_size
        self._read = lru_cache(max(1, _CACHE_BYTES // block_size))(origin.read)

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read_at(self, offset_bytes: int, buffer: memoryview) -> None:
        size, position = self._block_size, offset_bytes
        stop = offset_bytes + len(buffer)
        while position < stop:
            block, within = divmod(position, size)
            end = min(stop, (block + 1) * size)
            target = buffer[position - offset_bytes : end - offset_bytes]
            data = self._read(block)
            if data is None:
                target[:] = bytes(end - position)
            else:
                target[:] = memoryview(data)[within : within + end - position]
            position = end

    def write_at(self, offset_bytes: int, data: Buffer) -> None:
        del data
        raise _read_only(offset_bytes)

    def zero_at(self, offset_bytes: int, length: int, *, allocate: bool = False) -> None:
        del length, allocate
        raise _read_only(offset_bytes)

    def trim(self, offset_bytes: int, length: int) -> None:
        del length
        raise _read_only(offset_bytes)

    def flush(self) -> None:
        """Nothing is ever written."""

    def allocation(self, offset_bytes: int, length: int) -> Iterator[AllocationRange]:
        stop = described_stop(offset_bytes, offset_bytes + length, self._block_size)
        return merged(origin_parts(self._origin, self._block_size, offset_bytes, stop))


def _read_only(offset_bytes: int) -> ReadOnly:
    return ReadOnly(
        f"a snapshot is not to be written, at byte {offset_bytes}. Nothing was changed. "
        "Make a volume of it with 'ebsim volume create --snapshot'."
    )
