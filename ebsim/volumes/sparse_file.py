"""A sparse file that may be longer than the file system's longest.

ext4 ends files at 16 TiB, a volume may have 64: the bytes lie in segments of 8 TiB,
``NAME.0``, ``NAME.1`` and so on, and whoever reads or writes sees one range of bytes.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ebsim.disk_errors import Attempt, failure
from ebsim.durable_files import Files
from ebsim.units import MIB, TIB

Buffer = bytes | bytearray | memoryview

_SEGMENT_BITS = 43
SEGMENT_BYTES = 8 * TIB
assert SEGMENT_BYTES == 1 << _SEGMENT_BITS

_NO_FALLOCATE = {errno.EOPNOTSUPP, errno.ENOSYS}
# What SEEK_DATA answers where the file system keeps no account of holes.
_HOLES_UNKNOWN = {errno.EINVAL, errno.EOPNOTSUPP}
_UNCHANGED = "Nothing was changed."
_RANGE_CHANGED = "Only the range to be written may have changed."


class DataRange(NamedTuple):
    """A half-open range of bytes of a sparse file, and whether it is a hole."""

    start: int
    stop: int
    is_hole: bool


class SparseFile:
    """The file *path* of *size_bytes*, zeros where nothing was written.

    Every method but ``grow`` and ``close`` may be called from many threads at once.

    Raises:
        FileNotFoundError: it is not there, and not to be made.
        StorageUnavailable: of every method: a call failed.
    """

    def __init__(
        self, files: Files, path: Path, size_bytes: int, *, create: bool, read_only: bool = False
    ) -> None:
        self._files = files
        self._path = path
        self._segments: list[int] = []
        self._is_unsynced: list[bool] = []
        self.size_bytes = 0
        try:
            if create:
                self.grow(size_bytes)
            else:
                self._open_segments(size_bytes, read_only=read_only)
        except BaseException:
            self.close()
            raise

    def _open_segments(self, size_bytes: int, *, read_only: bool) -> None:
        opened = self._files.open_to_read if read_only else self._files.open_to_write
        for index in range(_segment_count(size_bytes)):
            self._segments.append(opened(segment_path(self._path, index)))
            # Whoever had it open before may have left it so.
            self._is_unsynced.append(True)
        self.size_bytes = size_bytes

    def grow(self, size_bytes: int) -> None:
        """Make it longer; the new bytes are zeros.  Nothing else may go on meanwhile."""
        assert size_bytes >= self.size_bytes, "a volume never shrinks"
        for index in range(_segment_count(size_bytes)):
            if index == len(self._segments):
                path = segment_path(self._path, index)
                self._segments.append(self._files.open_or_create(path))
                self._is_unsynced.append(True)
            end = min(size_bytes - index * SEGMENT_BYTES, SEGMENT_BYTES)
            self._files.truncate(self._segments[index], end)
            self._is_unsynced[index] = True
        self.size_bytes = size_bytes

    def try_read(self, buffer: memoryview, offset_bytes: int) -> bool:
        """Fill *buffer* if all of it is in the page cache; else ``False``, at once."""
        within = offset_bytes & (SEGMENT_BYTES - 1)
        descriptor = self._segments[offset_bytes >> _SEGMENT_BITS]
        try:
            return self._files.calls.preadv_cached(descriptor, [buffer], within) == len(buffer)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return False
            raise failure("read", descriptor, _UNCHANGED, error) from error

    def read(self, buffer: memoryview, offset_bytes: int) -> None:
        """Fill *buffer* from *offset_bytes* on."""
        for descriptor, within, piece in self._pieces(buffer, offset_bytes):
            done = 0
            try:
                while done < len(piece):
                    count = self._files.calls.preadv(descriptor, [piece[done:]], within + done)
                    if count == 0:
                        break
                    done += count
            except OSError as error:
                raise failure("read", descriptor, _UNCHANGED, error) from error
            if done < len(piece):
                ended = OSError(errno.EIO, "the file ends before the volume does")
                raise failure("read", descriptor, _UNCHANGED, ended)

    def write(self, data: Buffer, offset_bytes: int) -> None:
        """Replace the bytes from *offset_bytes* on."""
        within = offset_bytes & (SEGMENT_BYTES - 1)
        if within + len(data) <= SEGMENT_BYTES:
            index = offset_bytes >> _SEGMENT_BITS
            descriptor = self._segments[index]
            try:
                if self._files.calls.pwritev(descriptor, [data], within) == len(data):
                    self._is_unsynced[index] = True
                    return
            except OSError as error:
                raise failure("write", descriptor, _RANGE_CHANGED, error) from error
        for descriptor, at, piece in self._pieces(memoryview(data).cast("B"), offset_bytes):
            self._files.write(descriptor, [piece], at)
        self._note_change(offset_bytes, len(data))

    def zero(self, offset_bytes: int, length: int, *, allocate: bool = False) -> None:
        """Make a range zeros: a hole, or with *allocate* a range that has its room."""
        calls = self._files.calls
        change = calls.zero_range if allocate else calls.punch_hole
        for descriptor, within, size in self._ranges(offset_bytes, length):
            try:
                change(descriptor, within, size)
            except OSError as error:
                if error.errno not in _NO_FALLOCATE:
                    raise failure("write", descriptor, _RANGE_CHANGED, error) from error
                self._write_zeros(descriptor, within, size)
        self._note_change(offset_bytes, length)

    def _note_change(self, offset_bytes: int, length: int) -> None:
        """A range was changed: *after* that, or a sync at the same time might miss it."""
        first, last = offset_bytes >> _SEGMENT_BITS, (offset_bytes + length - 1) >> _SEGMENT_BITS
        for index in range(first, last + 1):
            self._is_unsynced[index] = True

    def _write_zeros(self, descriptor: int, offset_bytes: int, length: int) -> None:
        zeros = bytes(min(length, MIB))
        for at in range(offset_bytes, offset_bytes + length, MIB):
            rest = offset_bytes + length - at
            self._files.write(descriptor, [zeros[:rest] if rest < len(zeros) else zeros], at)

    def ranges(self, start: int, stop: int) -> Iterator[DataRange]:
        """Yield what lies from *start* up to *stop*: data and holes, in order, without gaps."""
        for descriptor, within, size in self._ranges(start, stop - start):
            offset = start - within
            for found in self._ranges_of(descriptor, within, within + size):
                yield DataRange(found.start + offset, found.stop + offset, found.is_hole)
            start += size

    def _ranges_of(self, descriptor: int, position: int, stop: int) -> Iterator[DataRange]:
        while position < stop:
            data = min(self._seek(descriptor, position, os.SEEK_DATA), stop)
            if data > position:
                yield DataRange(position, data, True)
            if data == stop:
                return
            position = min(max(self._seek(descriptor, data, os.SEEK_HOLE), data + 1), stop)
            yield DataRange(data, position, False)

    def _seek(self, descriptor: int, position: int, whence: int) -> int:
        """Where data, or a hole, begins; past everything if nowhere."""
        try:
            return self._files.calls.seek(descriptor, position, whence)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return SEGMENT_BYTES
            if error.errno in _HOLES_UNKNOWN:
                return position if whence == os.SEEK_DATA else SEGMENT_BYTES
            raise failure("look up", descriptor, _UNCHANGED, error) from error

    def allocated_bytes(self) -> int:
        """How much of the disk it takes."""
        return sum(self._files.status_of(fd).st_blocks * 512 for fd in self._segments)

    def begin_write_out(self, offset_bytes: int, length: int) -> None:
        """Let the disk begin with a range, so that less is left for ``sync``."""
        for descriptor, within, size in self._ranges(offset_bytes, length):
            # A hint: whatever is wrong, ``sync`` tells it.
            with suppress(OSError):
                self._files.calls.begin_write_out(descriptor, within, size)

    def sync(self) -> None:
        """Make its bytes durable.  Never to be called again once it failed.

        One thread at a time.  Segments that nothing was written to since are left alone.
        """
        for index, descriptor in enumerate(self._segments):
            if self._is_unsynced[index]:
                # Before the call: what is written while it runs belongs to the next one.
                self._is_unsynced[index] = False
                self._files.sync(descriptor)

    def close(self) -> None:
        """Close the segments.  Harmless when called twice."""
        segments, self._segments = self._segments, []
        for descriptor in segments:
            with Attempt("close", descriptor, "What was synced before is safe."):
                self._files.calls.close(descriptor)

    def _ranges(self, offset_bytes: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Yield the parts of a range by segment: descriptor, offset there, length."""
        while length:
            index, within = divmod(offset_bytes, SEGMENT_BYTES)
            size = min(length, SEGMENT_BYTES - within)
            yield self._segments[index], within, size
            offset_bytes += size
            length -= size

    def _pieces(
        self, buffer: memoryview, offset_bytes: int
    ) -> Iterator[tuple[int, int, memoryview]]:
        done = 0
        for descriptor, within, size in self._ranges(offset_bytes, len(buffer)):
            yield descriptor, within, buffer[done : done + size]
            done += size


def segment_path(path: Path, index: int) -> Path:
    """The path of segment *index* of the sparse file *path*."""
    return path.with_name(f"{path.name}.{index}")


def segment_paths(path: Path, size_bytes: int) -> Sequence[Path]:
    """The paths of all segments of a sparse file of *size_bytes*."""
    return [segment_path(path, index) for index in range(_segment_count(size_bytes))]


def _segment_count(size_bytes: int) -> int:
    return max(1, -(-size_bytes // SEGMENT_BYTES))
