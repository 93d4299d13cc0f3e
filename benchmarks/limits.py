"""What the machine can do at best: the same work with nothing of ebsim around it.

Each limit runs in as many threads as ebsim is given and does only what the row names;
everything else is prepared before the clock starts.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import zstandard

from ebsim.content.compression import LEVEL_DEFAULT, Codec, encode
from ebsim.content.digest import block_digest
from ebsim.content.fingerprint import is_zeros
from ebsim.sources.raw_file import RawFile
from ebsim.sources.source import Extent
from ebsim.units import KIB, MIB

BLOCK_SIZE = 512 * KIB
_READ_SIZE = MIB


@dataclass(slots=True)
class ImageBlocks:
    """An image's blocks in memory.

    Attributes:
        unique: The blocks that ebsim compresses: no zeros, each content once.
        places: Byte offset and position in *unique* of every block that is not zeros.
        extents: What may hold data.
    """

    size_bytes: int
    unique: list[bytes] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    extents: list[Extent] = field(default_factory=list)

    @property
    def data_bytes(self) -> int:
        return sum(stop - start for start, stop in self.extents)


def load_image(path: Path) -> ImageBlocks:
    """Read *path* into memory, and so into the page cache."""
    source = RawFile(path, point_in_time=False)
    image = ImageBlocks(source.size_bytes, extents=list(source.extents()))
    positions: dict[bytes, int] = {}
    indexes = dict.fromkeys(
        index
        for start, stop in image.extents
        for index in range(start // BLOCK_SIZE, (stop - 1) // BLOCK_SIZE + 1)
    )
    for index in indexes:
        block = bytearray(BLOCK_SIZE)
        source.read_into(memoryview(block), index * BLOCK_SIZE)
        if is_zeros(block):
            continue
        digest = block_digest(block)
        if digest not in positions:
            positions[digest] = len(image.unique)
            image.unique.append(bytes(block))
        image.places.append((index * BLOCK_SIZE, positions[digest]))
    source.close()
    return image


def _seconds(item_count: int, thread_count: int, work: Callable[[int], object]) -> float:
    """How long *thread_count* threads take to do *work* on each of *item_count* items."""
    # next() on a count is one step of the interpreter: no item is given out twice.
    counter = count()

    def worker() -> None:
        while (index := next(counter)) < item_count:
            work(index)

    with ThreadPoolExecutor(thread_count) as pool:
        begun_ns = time.perf_counter_ns()
        for future in [pool.submit(worker) for _ in range(thread_count)]:
            future.result()
        return (time.perf_counter_ns() - begun_ns) / 1e9


def compress_seconds(blocks: Sequence[bytes], thread_count: int) -> float:
    """Compressing *blocks* at the level that ebsim uses, and throwing the result away."""
    return _seconds(len(blocks), thread_count, lambda index: encode(blocks[index], LEVEL_DEFAULT))


def payloads_of(blocks: Sequence[bytes]) -> list[bytes]:
    """The zstd frames that ebsim keeps for *blocks*; those it keeps as they are left out."""
    encoded = (encode(block, LEVEL_DEFAULT) for block in blocks)
    return [bytes(payload) for codec, payload in encoded if codec is Codec.ZSTD]


def decompress_seconds(payloads: Sequence[bytes], thread_count: int) -> float:
    """Decompressing *payloads*, and throwing the result away."""
    # One a thread would do; one a call costs some microseconds of about 200.
    return _seconds(
        len(payloads),
        thread_count,
        lambda index: zstandard.ZstdDecompressor().decompress(payloads[index]),
    )


def write_seconds(image: ImageBlocks, target: Path, thread_count: int) -> float:
    """Writing the image's blocks from memory to a new sparse file, and syncing it."""
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)

    def write(index: int) -> None:
        offset, position = image.places[index]
        block = memoryview(image.unique[position])[: image.size_bytes - offset]
        assert os.pwrite(descriptor, block, offset) == len(block), "a whole block"

    try:
        os.ftruncate(descriptor, image.size_bytes)
        seconds = _seconds(len(image.places), thread_count, write)
        begun_ns = time.perf_counter_ns()
        os.fsync(descriptor)
        return seconds + (time.perf_counter_ns() - begun_ns) / 1e9
    finally:
        os.close(descriptor)


def read_seconds(path: Path, extents: Sequence[Extent], thread_count: int) -> float:
    """Reading *extents* with ``preadv``, a mebibyte at a time as ebsim does, hashing nothing."""
    descriptor = os.open(path, os.O_RDONLY)
    pieces = [
        (offset, min(_READ_SIZE, stop - offset))
        for start, stop in extents
        for offset in range(start, stop, _READ_SIZE)
    ]
    counter = count()

    def worker() -> None:
        buffer = memoryview(bytearray(_READ_SIZE))
        while (index := next(counter)) < len(pieces):
            offset, size_bytes = pieces[index]
            assert os.preadv(descriptor, [buffer[:size_bytes]], offset) == size_bytes, "all of it"

    try:
        with ThreadPoolExecutor(thread_count) as pool:
            begun_ns = time.perf_counter_ns()
            for future in [pool.submit(worker) for _ in range(thread_count)]:
                future.result()
            return (time.perf_counter_ns() - begun_ns) / 1e9
    finally:
        os.close(descriptor)
