"""Content-defined chunks of a disk: what tools that cut where the content says would keep.

A disk is one stream of bytes, cut by FastCDC (Xia et al., 2020) as the package ``pyfastcdc``
has it: at least a quarter of the average asked for, at most four times as much.  Holes are
zeros like written ones, so what is found depends on the bytes alone; a chunk that is all zeros
is not kept, as with blocks of a fixed size.  Where no chunk can see anything but a hole, the
chunks are counted and not cut: the cut depends on the next ``max_size`` bytes and on nothing
else.

A disk is cut a span at a time, so that memory does not grow with it: a span has the chunks
that begin in it, and the next span goes on where they end.

The chunks of a span are a Parquet file with the rows of ``parts.py``, where ``block_size`` is the
average asked for and ``size_bytes`` stands in the place of ``block_index``.  The metadata
entry ``ebsim.chunks`` is a JSON object: ``version`` 1, and for each average, smallest first,
``counts`` of rows, ``zero_bytes``, and ``ends``, where the last chunk ends.
"""

import io
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from pyfastcdc import FastCDC
from xxhash import xxh3_128_intdigest

from ebsim.analysis.images import Image, Readable, opened_image
from ebsim.analysis.piece_scan import PieceResult, clipped, plain_class
from ebsim.errors import EbsimError
from ebsim.units import KIB, MIB

AVERAGE_SIZES = (64 * KIB, 512 * KIB, 1 * MIB)
CHUNKS_VERSION = 1

_METADATA_KEY = "ebsim.chunks"
_ROWS_PER_GROUP = 8192
_WINDOW = 8 * MIB
_LOW = (1 << 64) - 1


class ChunkNotes(NamedTuple):
    """What a file of chunks says beside its rows, for each of ``AVERAGE_SIZES``."""

    counts: Sequence[int]
    zero_bytes: Sequence[int]
    ends: Sequence[int]


@dataclass(frozen=True, slots=True)
class SpanTask:
    """What to cut.  A value that can be sent to another process.

    Attributes:
        starts: Where the first chunk of each average begins, after those of the span before.
        stop: Where no chunk of the span begins any more.
    """

    image: Image
    starts: tuple[int, ...]
    stop: int


def chunk_span(task: SpanTask) -> PieceResult:
    """Cut a span of an image at every average, in one read.

    Cost: 3 ms of processor time a MiB of data; holes cost next to nothing.  Memory: 20 MiB,
    and 90 bytes a chunk.
    """
    chunker = _DiskChunker(task)
    try:
        with opened_image(task.image) as disk:
            chunker.cut_disk(disk)
    except EbsimError as error:
        return PieceResult(task.image, failure=(plain_class(error), str(error)))
    return PieceResult(task.image, _encoded(chunker.cutters))


class _Cutter:
    """The chunks of one average, cut as the stream goes by."""

    def __init__(self, average_size: int, start: int, stop: int) -> None:
        self._chunker = FastCDC(average_size)
        self.max_size = self._chunker.max_size
        self._zero_size = next(iter(self._chunker.cut_buf(bytes(self.max_size)))).length
        self.start = start
        self._stop = stop
        self.rows = array("Q")
        self.zero_bytes = 0

    def cut(self, window: memoryview, window_start: int, *, is_last: bool) -> None:
        """Cut what of *window* later bytes cannot change; all of it if it is the last."""
        window_stop = window_start + len(window)
        for chunk in self._chunker.cut_buf(window[self.start - window_start :]):
            if not is_last and window_stop - self.start < self.max_size:
                return
            if self.start >= self._stop:
                return
            self._keep(chunk.data)
            self.start += chunk.length

    def skip_zeros(self, stop: int) -> None:
        """Go on over zeros that reach to *stop*, as far as a chunk sees nothing else."""
        seen = (stop - self.start - self.max_size) // self._zero_size + 1
        wanted = -(-(self._stop - self.start) // self._zero_size)
        count = max(0, min(seen, wanted))
        self.start += count * self._zero_size
        self.zero_bytes += count * self._zero_size

    def _keep(self, data: memoryview) -> None:
        if data[0] == data[-1] == 0 and not np.frombuffer(data, dtype=np.uint8).any():
            self.zero_bytes += len(data)
            return
        digest = xxh3_128_intdigest(data)
        self.rows.extend((len(data), digest >> 64, digest & _LOW))


class _DiskChunker:
    """A window that goes over the span; every cutter is somewhere in it."""

    def __init__(self, task: SpanTask) -> None:
        self.cutters = [
            _Cutter(size, start, task.stop)
            for size, start in zip(AVERAGE_SIZES, task.starts, strict=True)
        ]
        # What no cutter can cut yet is shorter than the longest chunk.
        self._longest = max(cutter.max_size for cutter in self.cutters)
        self._buffer = memoryview(bytearray(self._longest + _WINDOW))
        self._start = self._end = min(task.starts)
        self._stop = task.stop

    def cut_disk(self, disk: Readable) -> None:
        """Cut the span of *disk*."""
        # As far as any chunk that begins in the span can see.
        stop = min(disk.size_bytes, self._stop + self._longest)
        for extent in clipped(disk.extents(self._start), self._start, stop):
            self._pass_hole(extent.start)
            self._read(disk, extent.stop)
        self._pass_hole(stop)
        self._cut(is_last=stop == disk.size_bytes)

    def _read(self, disk: Readable, stop: int) -> None:
        while self._end < stop:
            room = self._room(stop)
            disk.read_into(room, self._end)
            self._end += len(room)

    def _pass_hole(self, stop: int) -> None:
        hole_start = self._end
        while self._end < stop:
            room = self._room(stop)
            if all(cutter.start >= hole_start for cutter in self.cutters):
                self._skip_zeros(stop)
                room = self._room(stop)
            room[:] = bytes(len(room))
            self._end += len(room)

    def _skip_zeros(self, stop: int) -> None:
        for cutter in self.cutters:
            cutter.skip_zeros(stop)
        lowest = min(cutter.start for cutter in self.cutters)
        if lowest > self._end:
            self._start = self._end = lowest

    def _room(self, stop: int) -> memoryview:
        """Where the bytes up to *stop* go, or the next of them; made by cutting if need be."""
        if self._end - self._start == len(self._buffer):
            self._cut(is_last=False)
        filled = self._end - self._start
        return self._buffer[filled : filled + stop - self._end]

    def _cut(self, *, is_last: bool) -> None:
        filled = self._end - self._start
        for cutter in self.cutters:
            if cutter.start < self._end:
                cutter.cut(self._buffer[:filled], self._start, is_last=is_last)
        lowest = min(self._end, *(cutter.start for cutter in self.cutters))
        self._buffer[: self._end - lowest] = self._buffer[lowest - self._start : filled]
        self._start = lowest


def _encoded(cutters: Sequence[_Cutter]) -> bytes:
    """What *cutters* kept, as a Parquet file, sorted by average and digest."""
    frames = []
    for average_size, cutter in zip(AVERAGE_SIZES, cutters, strict=True):
        rows = np.frombuffer(cutter.rows, dtype=np.uint64).reshape(-1, 3)
        rows = rows[np.argsort(rows[:, 1])]
        frames.append(
            pl.DataFrame(
                {
                    "block_size": np.full(len(rows), average_size, dtype=np.uint32),
                    "size_bytes": rows[:, 0].astype(np.uint32),
                    "digest_high": rows[:, 1],
                    "digest_low": rows[:, 2],
                },
                schema={
                    "block_size": pl.UInt32,
                    "size_bytes": pl.UInt32,
                    "digest_high": pl.UInt64,
                    "digest_low": pl.UInt64,
                },
            )
        )
    notes = {
        "version": CHUNKS_VERSION,
        "counts": [frame.height for frame in frames],
        "zero_bytes": [cutter.zero_bytes for cutter in cutters],
        "ends": [cutter.start for cutter in cutters],
    }
    file = io.BytesIO()
    pl.concat(frames).write_parquet(
        file,
        compression="uncompressed",
        row_group_size=_ROWS_PER_GROUP,
        metadata={_METADATA_KEY: json.dumps(notes)},
    )
    return file.getvalue()


def read_chunk_notes(file: Path) -> ChunkNotes | None:
    """The notes of the chunks in *file*; ``None`` where there is no whole file of them."""
    try:
        notes = json.loads(pl.read_parquet_metadata(file)[_METADATA_KEY])
    except (pl.exceptions.PolarsError, OSError, KeyError, ValueError):
        return None
    if notes.get("version") != CHUNKS_VERSION:
        return None
    return ChunkNotes(notes["counts"], notes["zero_bytes"], notes["ends"])
