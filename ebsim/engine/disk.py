"""A disk as a snapshot reads it: from a source with extents, or from a stream."""

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Protocol

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.geometry import FAN_OUT
from ebsim.engine.leaf_scan import LeafTask
from ebsim.engine.leaf_tasks import leaf_tasks
from ebsim.ids import Digest
from ebsim.sources.source import Extent, Source, StreamSource

_EXTENTS_COUNTED_MAX = 4096


class Disk(Protocol):
    """What a snapshot asks of a disk."""

    @property
    def size_bytes(self) -> int:
        """The disk's exact length; of a stream, once it has ended."""

    @property
    def data_bytes(self) -> int | None:
        """How much there is to read, ``None`` if that would take long to know."""

    def tasks(
        self, block_size: int, parent: BlockMap, interrupted: Mapping[int, Digest]
    ) -> Iterator[LeafTask]:
        """The leaves to look at, in order."""

    @property
    def can_be_read_again(self) -> bool:
        """Whether a scan that has to start over can."""

    def thread_count(self, asked: int | None) -> int:
        """How many threads may scan at once."""

    def read_into(self, buffer: memoryview, offset_bytes: int) -> None:
        """Fill *buffer*; bytes past the end are zeros."""

    def read_again(self, block_index: int, block_size: int) -> bytes | None:
        """A block's bytes once more, ``None`` where they are gone."""

    @property
    def caution(self) -> str | None:
        """What is to be known of the disk before its snapshot is relied on."""

    def changed_since_opened(self) -> str | None:
        """What shows that the disk was written meanwhile."""


class SeekableDisk:
    """A disk that can be read in any order."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def size_bytes(self) -> int:
        return self._source.size_bytes

    @property
    def data_bytes(self) -> int | None:
        extents = list(islice(self._source.extents(), _EXTENTS_COUNTED_MAX))
        if len(extents) == _EXTENTS_COUNTED_MAX:
            return None
        return sum(extent.stop - extent.start for extent in extents)

    def tasks(
        self, block_size: int, parent: BlockMap, interrupted: Mapping[int, Digest]
    ) -> Iterator[LeafTask]:
        return leaf_tasks(self._source.extents(), block_size, parent, interrupted)

    @property
    def can_be_read_again(self) -> bool:
        return True

    def thread_count(self, asked: int | None) -> int:
        return asked or len(os.sched_getaffinity(0))

    def read_into(self, buffer: memoryview, offset_bytes: int) -> None:
        self._source.read_into(buffer, offset_bytes)

    def read_again(self, block_index: int, block_size: int) -> bytes | None:
        block = bytearray(block_size)
        self._source.read_into(memoryview(block), block_index * block_size)
        return bytes(block)

    @property
    def caution(self) -> str | None:
        return self._source.caution

    def changed_since_opened(self) -> str | None:
        return self._source.changed_since_opened()


class StreamedDisk:
    """A disk that arrives once, front to back: one thread reads it, leaf after leaf."""

    def __init__(self, stream: StreamSource) -> None:
        self._stream = stream
        self._position = 0
        self._has_ended = False

    @property
    def size_bytes(self) -> int:
        return self._stream.size_bytes

    @property
    def data_bytes(self) -> int | None:
        return None

    def tasks(
        self, block_size: int, parent: BlockMap, interrupted: Mapping[int, Digest]
    ) -> Iterator[LeafTask]:
        return leaf_tasks(self._extents(block_size * FAN_OUT), block_size, parent, interrupted)

    def _extents(self, leaf_size: int) -> Iterator[Extent]:
        """A leaf's worth at a time until the stream has ended.

        Tasks are made ahead of the reading, so a few may lie past the end: they read zeros.
        """
        start = 0
        while not self._has_ended:
            yield Extent(start, start + leaf_size)
            start += leaf_size

    @property
    def can_be_read_again(self) -> bool:
        return False

    def thread_count(self, asked: int | None) -> int:
        del asked
        return 1

    def read_into(self, buffer: memoryview, offset_bytes: int) -> None:
        assert offset_bytes == self._position, "a stream is read in order"
        count = 0 if self._has_ended else self._stream.read_next(buffer)
        self._position += len(buffer)
        if count < len(buffer):
            self._has_ended = True
            buffer[count:] = bytes(len(buffer) - count)

    def read_again(self, block_index: int, block_size: int) -> bytes | None:
        del block_index, block_size
        return None

    @property
    def caution(self) -> str | None:
        return None

    def changed_since_opened(self) -> str | None:
        return None
