"""What a snapshot being taken of a live volume reads: the blocks as they were at the cut.

The process that has the volume open, and the one that takes the snapshot, share three
files.  ``cut-SNAP`` has the blocks that the snapshot reads.  Before the first write to
one of them the old bytes go to ``preserved-SNAP``, then its bit to
``preserved-SNAP.bits``, then the write goes on.  So a reader that finds the bit clear
*after* it read a block from the volume's own file has read it as it was at the cut; one
that finds it set reads the preserved bytes.  Bits go through ``pwrite`` and ``pread``,
whose locks order them with the data on every machine.

The file of bits begins with a header of 8 bytes: zeros, or ones once a block could not be
preserved.  From then on the cut is broken: the write goes on, the snapshot fails.

Whoever reads a cut holds a shared ``flock`` on ``cut-SNAP`` meanwhile.
"""

import threading
from typing import Protocol

from ebsim.errors import Conflict, EbsimError
from ebsim.volumes.block_bitmap import BlockBitmap, bitmap_bytes
from ebsim.volumes.mapped_bits import MappedBits
from ebsim.volumes.sparse_file import DataRange, SparseFile
from ebsim.volumes.volume_folder import VolumeFolder, VolumeState

_HEADER_SIZE = 8
_BROKEN = b"\x01" * _HEADER_SIZE


class ReadBlock(Protocol):
    """Reads bytes of the volume as it is now."""

    def __call__(self, buffer: memoryview, offset_bytes: int) -> None: ...


def prepare_cut(folder: VolumeFolder, state: VolumeState, snapshot_id: str) -> None:
    """Make the files into which blocks are preserved, before anything is frozen.

    Raises:
        StorageFull: there is no room for the bits.
    """
    files = folder.files
    SparseFile(files, folder.preserved(snapshot_id), state.size_bytes, create=True).close()
    descriptor = files.open_or_create(folder.preserved_bits(snapshot_id))
    try:
        files.allocate(descriptor, _HEADER_SIZE + bitmap_bytes(state.block_count))
    finally:
        files.close(descriptor)


class Cut:
    """The cut for *snapshot_id*, in the process that has the volume open.

    One thread at a time calls ``preserve`` for a given block.
    """

    def __init__(self, folder: VolumeFolder, state: VolumeState, snapshot_id: str) -> None:
        self.snapshot_id = snapshot_id
        self._files = folder.files
        self._lock = threading.Lock()
        self._block_size = state.block_size
        self._bits = MappedBits(folder.files, folder.cut(snapshot_id), state.block_count)
        self._preserved = SparseFile(
            folder.files, folder.preserved(snapshot_id), state.size_bytes, create=False
        )
        self._descriptor = folder.files.open_to_write(folder.preserved_bits(snapshot_id))
        size = bitmap_bytes(state.block_count)
        read = folder.files.read(self._descriptor, 0, _HEADER_SIZE + size)
        self.is_broken = read[:_HEADER_SIZE] != bytes(_HEADER_SIZE)
        self._is_preserved = BlockBitmap(bytearray(read[_HEADER_SIZE:]), state.block_count)

    @property
    def bits(self) -> BlockBitmap:
        """The blocks that the snapshot reads."""
        return self._bits

    def needs(self, first: int, stop: int) -> bool:
        """Whether a write to blocks *first* to *stop* has to preserve something first."""
        if self.is_broken:
            return False
        if stop - first == 1:
            return self._bits[first] and not self._is_preserved[first]
        return any(
            not self._is_preserved.is_full(start, end)
            for start, end in self._bits.runs(first, stop)
        )

    def preserve(self, first: int, stop: int, read: ReadBlock) -> None:
        """Keep what is needed of blocks *first* to *stop*, which nobody writes meanwhile.

        A failure breaks the cut and is not raised, the write matters more, unless not even
        that can be written down.
        """
        for start, end in self._bits.runs(first, stop):
            for block in range(start, end):
                if not self.is_broken and not self._is_preserved[block]:
                    self._preserve_block(block, read)

    def _preserve_block(self, block: int, read: ReadBlock) -> None:
        at = block * self._block_size
        buffer = memoryview(bytearray(min(self._block_size, self._preserved.size_bytes - at)))
        try:
            read(buffer, at)
            self._preserved.write(buffer, at)
            self._note_preserved(block)
        except EbsimError:
            self.break_off()

    def _note_preserved(self, block: int) -> None:
        """Set the block's bit, in the file first: memory decides what a write may skip.

        Neighbours in one byte are preserved by different threads.
        """
        at = block >> 3
        with self._lock:
            byte = self._is_preserved.memory[at] | 1 << (block & 7)
            self._files.write(self._descriptor, [bytes([byte])], _HEADER_SIZE + at)
            self._is_preserved.memory[at] = byte

    def break_off(self) -> None:
        """Preserve nothing any more, once whoever still reads the cut can know.

        Raises:
            StorageUnavailable: it could not be written down, so the cut stays whole.
        """
        self._files.write(self._descriptor, [_BROKEN], 0)
        self.is_broken = True

    def close(self) -> None:
        """Release the files, which stay."""
        self._bits.close()
        self._preserved.close()
        self._files.close(self._descriptor)


class CutReader:
    """The volume as it was at the cut, in the process that takes the snapshot.

    Reads blocks of the cut only; safe from many threads.  Close it when the snapshot is
    done: the volume keeps what it has preserved until then.

    Raises:
        Conflict: there is no such cut, or it is broken.
    """

    def __init__(self, folder: VolumeFolder, snapshot_id: str) -> None:
        self._files = folder.files
        state = folder.load()
        self.size_bytes = state.size_bytes
        self.block_size = state.block_size
        self.block_count = state.block_count
        self._lock = folder.files.open_to_read(folder.cut(snapshot_id))
        if not folder.files.lock(self._lock, shared=True, wait=False):
            folder.files.close(self._lock)
            raise _broken()
        bits = folder.files.read(self._lock, 0, bitmap_bytes(state.block_count))
        self.bits = BlockBitmap(bytearray(bits), state.block_count)
        self._data = SparseFile(
            folder.files, folder.data, state.size_bytes, create=False, read_only=True
        )
        self._preserved = SparseFile(
            folder.files,
            folder.preserved(snapshot_id),
            state.size_bytes,
            create=False,
            read_only=True,
        )
        self._descriptor = folder.files.open_to_read(folder.preserved_bits(snapshot_id))

    def read(self, buffer: memoryview, offset_bytes: int) -> None:
        """Fill *buffer* from *offset_bytes*, a block's start, on.

        Raises:
            Conflict: a block could not be preserved: the volume's disk is full, say.
        """
        inside = min(len(buffer), self.size_bytes - offset_bytes)
        self._data.read(buffer[:inside], offset_bytes)
        buffer[inside:] = bytes(len(buffer) - inside)
        first = offset_bytes // self.block_size
        stop = -(-(offset_bytes + inside) // self.block_size)
        for start, end in self._preserved_now(first, stop).runs(
            first % 8, first % 8 + stop - first
        ):
            at = (start - first % 8) * self.block_size
            to = min((end - first % 8) * self.block_size, inside)
            self._preserved.read(buffer[at:to], offset_bytes + at)

    def holes(self, first: int, stop: int) -> list[DataRange]:
        """Where blocks *first* to *stop* were holes at the cut: nothing there but zeros."""
        end = min(stop * self.block_size, self.size_bytes)
        holes = [h for h in self._data.ranges(first * self.block_size, end) if h.is_hole]
        preserved = self._preserved_now(first, stop)
        return [hole for hole in holes if self._is_whole(preserved, first, hole)]

    def _is_whole(self, preserved: BlockBitmap, first: int, hole: DataRange) -> bool:
        """Whether no block of *hole* was written since the cut."""
        skipped = first - first % 8
        start, stop = hole.start // self.block_size, -(-hole.stop // self.block_size)
        return preserved.is_empty(start - skipped, stop - skipped)

    def _preserved_now(self, first: int, stop: int) -> BlockBitmap:
        """The preserved bits from byte ``first // 8`` on, read after the data."""
        if self._files.read(self._descriptor, 0, _HEADER_SIZE) != bytes(_HEADER_SIZE):
            raise _broken()
        start, end = first >> 3, (stop + 7) >> 3
        bits = self._files.read(self._descriptor, _HEADER_SIZE + start, end - start)
        return BlockBitmap(bytearray(bits), stop - (start << 3))

    def close(self) -> None:
        """Release files and the lock."""
        self._data.close()
        self._preserved.close()
        self._files.close(self._descriptor)
        self._files.close(self._lock)


def _broken() -> Conflict:
    return Conflict(
        "the volume could not keep what its blocks held when the snapshot was cut. The volume "
        "is whole; no snapshot was made. Free some space on its disk, then try again."
    )
