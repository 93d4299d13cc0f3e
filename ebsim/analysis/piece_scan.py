"""Reading a piece of an image once, and what is kept of it: a Parquet part.

A piece is a range of the disk, whole stretches of 4 MiB.  Its part has a row for each block
of every size that is not all zeros (``parts.py``), and beside them the compressed sizes of a
sample of the blocks.

The sample is chosen by digest: a block is in it if its digest is low enough, wherever it
lies.  So each *content* has the same chance however often it occurs, whoever scans which
piece, and what is compressed is a sample of what a store would keep.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ebsim.analysis.block_digests import (
    BLOCK_SIZE_MAX,
    BLOCK_SIZE_MIN,
    BLOCK_SIZES,
    DIGEST_SIZE,
    LEVEL_STARTS,
    ZERO_DIGESTS,
    StretchHasher,
)
from ebsim.analysis.images import Image, Readable, opened_image
from ebsim.analysis.parts import Part, Sample, encode_part
from ebsim.analysis.snapshot_source import SnapshotSource
from ebsim.content.compression import Codec, encode
from ebsim.errors import EbsimError, SourceUnusable
from ebsim.sources.source import Extent
from ebsim.units import KIB

_SPREAD = BLOCK_SIZE_MAX // BLOCK_SIZE_MIN
# A hole that is not longer is read with what is around it: a call costs more than the bytes.
_GAP_BLOCKS_READ = 64 * KIB // BLOCK_SIZE_MIN
# 34 KiB each; a thread has at most so many.
_STRETCHES_REMEMBERED = 1024

Digests = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class PieceTask:
    """What to scan.  A value that can be sent to another process.

    Attributes:
        images: Scanned one after the other; snapshots share what they have in common.
        start: The piece's bytes, half-open, whole stretches.
        levels: The zstd levels to compress the sample at.
        sample_limits: For each block size, the highest first half of a digest that is in
            the sample; ``None`` for no sample.
    """

    images: tuple[Image, ...]
    start: int
    stop: int
    levels: tuple[int, ...]
    sample_limits: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class PieceResult:
    """A scanned piece of one image: its part as a Parquet file's bytes, or why there is none.

    A failure is told by its class and text, which any process can read, and not by itself.
    """

    image: Image
    parquet: bytes = b""
    failure: tuple[type[EbsimError], str] | None = None


@dataclass(slots=True)
class _Stretch:
    """The digests of 4 MiB, of all sizes, and the sampled blocks among them."""

    digests: bytes
    samples: list[Sample] = field(default_factory=list)


def scan_piece(task: PieceTask) -> list[PieceResult]:
    """Scan *task*'s piece of each of its images.

    Cost: one read of the piece's data, 0.25 ms a MiB, and 1 MiB of rows for 64 MiB of it.
    """
    scanner = _Scanner(task)
    results = []
    for image in task.images:
        try:
            results.append(PieceResult(image, scanner.scan(image)))
        except EbsimError as error:
            results.append(PieceResult(image, failure=(plain_class(error), str(error))))
    return results


def plain_class(error: EbsimError) -> type[EbsimError]:
    """The nearest class of *error* that is made of a sentence alone.

    Without one of its own, one that belongs to whatever cannot be read.
    """
    for kind in type(error).__mro__:
        if kind is EbsimError:
            break
        if issubclass(kind, EbsimError) and kind.__init__ is EbsimError.__init__:
            return kind
    return SourceUnusable


class _Scanner:
    def __init__(self, task: PieceTask) -> None:
        self._task = task
        self._hasher = StretchHasher()
        self._limits = np.zeros(LEVEL_STARTS[-1], dtype=np.uint64)
        self._is_sampled = np.zeros(LEVEL_STARTS[-1], dtype=bool)
        for level, limit in enumerate(task.sample_limits):
            places = slice(LEVEL_STARTS[level], LEVEL_STARTS[level + 1])
            self._is_sampled[places] = limit is not None
            self._limits[places] = limit or 0
        self._zeros = np.concatenate(
            [np.full(_SPREAD >> at, _halves(zero)[0]) for at, zero in enumerate(ZERO_DIGESTS)]
        )
        self._remembered: dict[bytes, _Stretch] = {}

    def scan(self, image: Image) -> bytes:
        """The part of *image*, as a Parquet file."""
        stretches: dict[int, _Stretch] = {}
        with opened_image(image) as disk:
            stop = min(self._task.stop, image.size_bytes)
            extents = list(_clipped(disk.extents(self._task.start), self._task.start, stop))
            data_bytes = sum(extent.stop - extent.start for extent in extents)
            for at, filled in _stretches(extents).items():
                stretches[at // BLOCK_SIZE_MAX] = self._stretch(disk, at, filled)
        samples = {s.key: s for stretch in stretches.values() for s in stretch.samples}
        hole_bytes = max(0, stop - self._task.start) - data_bytes
        return encode_part(Part(hole_bytes, list(samples.values()), _rows(stretches)))

    def _stretch(
        self, disk: Readable, offset_bytes: int, filled: Sequence[tuple[int, int]]
    ) -> _Stretch:
        if not isinstance(disk, SnapshotSource):
            return self._read_stretch(disk, offset_bytes, filled)
        signature = disk.signature(offset_bytes, offset_bytes + BLOCK_SIZE_MAX)
        known = self._remembered.get(signature)
        if known is None:
            known = self._read_stretch(disk, offset_bytes, filled)
            if len(self._remembered) >= _STRETCHES_REMEMBERED:
                self._remembered.pop(next(iter(self._remembered)))
            self._remembered[signature] = known
        return known

    def _read_stretch(
        self, disk: Readable, offset_bytes: int, filled: Sequence[tuple[int, int]]
    ) -> _Stretch:
        buffer = self._hasher.buffer
        for first, stop in filled:
            begin, end = first * BLOCK_SIZE_MIN, stop * BLOCK_SIZE_MIN
            disk.read_into(buffer[begin:end], offset_bytes + begin)
        stretch = _Stretch(self._hasher.digests(filled))
        if any(limit is not None for limit in self._task.sample_limits):
            self._sample(stretch, filled)
        return stretch

    def _sample(self, stretch: _Stretch, filled: Sequence[tuple[int, int]]) -> None:
        """Compress those of the buffer's blocks that are in the sample."""
        high = np.frombuffer(stretch.digests, dtype=">u8")[::2]
        chosen = self._is_sampled & (high <= self._limits) & (high != self._zeros)
        places = np.flatnonzero(chosen).tolist()
        if not places:
            return
        buffer, position = self._hasher.buffer, 0
        for first, stop in [*filled, (_SPREAD, _SPREAD)]:
            gap = (first - position) * BLOCK_SIZE_MIN
            start = position * BLOCK_SIZE_MIN
            buffer[start : start + gap] = bytes(gap)
            position = stop
        level = 0
        for place in places:
            while place >= LEVEL_STARTS[level + 1]:
                level += 1
            size = BLOCK_SIZES[level]
            at = (place - LEVEL_STARTS[level]) * size
            digest = stretch.digests[place * DIGEST_SIZE : (place + 1) * DIGEST_SIZE]
            stored = _stored_bytes(buffer[at : at + size], self._task.levels)
            stretch.samples.append(Sample(size, digest, stored))


def _stored_bytes(block: memoryview, levels: Sequence[int]) -> tuple[int, ...]:
    """What a store would keep of *block* at each of *levels*: the frame, or the block."""
    found = []
    for level in levels:
        codec, payload = encode(block, level)
        found.append(len(payload) if codec is Codec.ZSTD else len(block))
    return tuple(found)


def _halves(digest: bytes) -> tuple[np.uint64, np.uint64]:
    high, low = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
    return np.uint64(high), np.uint64(low)


def _clipped(extents: Iterator[Extent], start: int, stop: int) -> Iterator[Extent]:
    """Yield what of *extents* lies between *start* and *stop*."""
    for extent in extents:
        if extent.start >= stop:
            return
        yield Extent(max(extent.start, start), min(extent.stop, stop))


def _stretches(extents: Sequence[Extent]) -> Mapping[int, list[tuple[int, int]]]:
    """The stretches that have data, by offset, and the 4 KiB blocks of each to read."""
    found: dict[int, list[tuple[int, int]]] = {}
    for start, stop in extents:
        first, last = start // BLOCK_SIZE_MIN, -(-stop // BLOCK_SIZE_MIN)
        while first < last:
            number = first // _SPREAD
            end = min(last, (number + 1) * _SPREAD)
            ranges = found.setdefault(number * BLOCK_SIZE_MAX, [])
            within = (first - number * _SPREAD, end - number * _SPREAD)
            if ranges and within[0] - ranges[-1][1] <= _GAP_BLOCKS_READ:
                within = (ranges.pop()[0], within[1])
            ranges.append(within)
            first = end
    return found


def _rows(stretches: Mapping[int, _Stretch]) -> list[tuple[Digests, Digests, Digests]]:
    """For each block size the blocks that are not zeros: index and digest's halves.

    Sorted by digest, so that a reader that wants a range of digests finds them together.
    """
    numbers = np.array(list(stretches), dtype=np.uint64)
    joined = b"".join(stretch.digests for stretch in stretches.values())
    halves = np.frombuffer(joined, dtype=">u8").astype(np.uint64)
    table = halves.reshape(len(numbers), LEVEL_STARTS[-1], 2)
    found = []
    for level, zero in enumerate(ZERO_DIGESTS):
        count = _SPREAD >> level
        part = table[:, LEVEL_STARTS[level] : LEVEL_STARTS[level + 1], :].reshape(-1, 2)
        indexes = numbers[:, None] * np.uint64(count) + np.arange(count, dtype=np.uint64)
        high, low = _halves(zero)
        is_present = (part[:, 0] != high) | (part[:, 1] != low)
        part, indexes = part[is_present], indexes.ravel()[is_present]
        order = np.argsort(part[:, 0], kind="stable")
        found.append((indexes[order], part[order, 0], part[order, 1]))
    return found
