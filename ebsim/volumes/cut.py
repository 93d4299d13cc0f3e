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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from os.path import samestat
from typing import Protocol

from ebsim.errors import Conflict, EbsimError
from ebsim.volumes.block_bitmap import BlockBitmap, bitmap_bytes
from ebsim.volumes.mapped_bits import MappedBits, new_bits
from ebsim.volumes.sparse_file import DataRange, SparseFile
from ebsim.volumes.volume_folder import VolumeFolder, VolumeState

_HEADER_SIZE = 8
_BROKEN = b"\x01" * _HEADER_SIZE


class ReadBlock(Protocol):
    """Reads bytes of the volume as it is now."""

    def __call__(self, buffer: memoryview, offset_bytes: int) -> None: ...


class PreservedBlocks:
    """Where blocks of one cut are preserved, and which are.

    Raises:
        StorageFull: there is no room for the bits.
    """

    def __init__(
        self, folder: VolumeFolder, state: VolumeState, snapshot_id: str, *, create: bool
    ) -> None:
        self._files = files = folder.files
        self.block_size = state.block_size
        size = bitmap_bytes(state.block_count)
        with ExitStack() as opened:
            path = folder.preserved(snapshot_id)
            self.blocks = SparseFile(files, path, state.size_bytes, create=create)
            opened.callback(self.blocks.close)
            open_bits = files.open_or_create if create else files.open_to_write
            self._descriptor = open_bits(folder.preserved_bits(snapshot_id))
            opened.callback(files.close, self._descriptor)
            if create:
                files.allocate(self._descriptor, _HEADER_SIZE + size)
            read = files.read(self._descriptor, 0, _HEADER_SIZE + size)
            opened.pop_all()
        self.is_broken = read[:_HEADER_SIZE] != bytes(_HEADER_SIZE)
        self.bits = BlockBitmap(bytearray(read[_HEADER_SIZE:]), state.block_count)
        self._lock = threading.Lock()

    def note(self, block: int) -> None:
        """Set the block's bit, in the file first: memory decides what a write may skip.

        Neighbours in one byte are preserved by different threads.
        """
        at = block >> 3
        with self._lock:
            byte = self.bits.memory[at] | 1 << (block & 7)
            self._files.write(self._descriptor, [bytes([byte])], _HEADER_SIZE + at)
            self.bits.memory[at] = byte

    def break_off(self) -> None:
        """Let whoever reads the cut know that nothing is preserved any more."""
        self._files.write(self._descriptor, [_BROKEN], 0)
        self.is_broken = True

    def close(self) -> None:
        """Release the files, which stay."""
        self.blocks.close()
        self._files.close(self._descriptor)


class PreparedCut:
    """What a cut needs, open before anything is frozen: making it only changes names.

    Raises:
        StorageFull: there is no room for the bits.
    """

    def __init__(self, folder: VolumeFolder, state: VolumeState, snapshot_id: str) -> None:
        self.snapshot_id = snapshot_id
        self._folder = folder
        self.next_dirty = new_bits(folder.files, folder.next_dirty, state.block_count)
        try:
            self.preserved = PreservedBlocks(folder, state, snapshot_id, create=True)
        except BaseException:
            self.next_dirty.close()
            folder.discard_cut(snapshot_id, state.size_bytes)
            raise

    def swap_names(self) -> None:
        """Let the dirty bits be the cut's, and the new ones the dirty bits: both or neither."""
        folder, files = self._folder, self._folder.files
        cut = folder.cut(self.snapshot_id)
        files.rename(folder.dirty, cut)
        try:
            files.rename(folder.next_dirty, folder.dirty)
        except BaseException:
            files.rename(cut, folder.dirty)
            raise

    def close(self) -> None:
        """Release the files, which stay."""
        self.next_dirty.close()
        self.preserved.close()


class Cut:
    """The cut for *snapshot_id*, in the process that has the volume open; owns what it is given.

    One thread at a time calls ``preserve`` for a given block.
    """

    def __init__(self, snapshot_id: str, bits: MappedBits, preserved: PreservedBlocks) -> None:
        self.snapshot_id = snapshot_id
        self._bits = bits
        self._preserved = preserved

    @property
    def bits(self) -> BlockBitmap:
        """The blocks that the snapshot reads."""
        return self._bits

    def needs(self, first: int, stop: int) -> bool:
        """Whether a write to blocks *first* to *stop* has to preserve something first."""
        preserved = self._preserved
        if preserved.is_broken:
            return False
        if stop - first == 1:
            return self._bits[first] and not preserved.bits[first]
        return any(
            not preserved.bits.is_full(start, end) for start, end in self._bits.runs(first, stop)
        )

    def preserve(self, first: int, stop: int, read: ReadBlock) -> None:
        """Keep what is needed of blocks *first* to *stop*, which nobody writes meanwhile.

        A failure breaks the cut and is not raised, the write matters more, unless not even
        that can be written down.
        """
        preserved = self._preserved
        for start, end in self._bits.runs(first, stop):
            for block in range(start, end):
                if not preserved.is_broken and not preserved.bits[block]:
                    self._preserve_block(block, read)

    def _preserve_block(self, block: int, read: ReadBlock) -> None:
        preserved = self._preserved
        at = block * preserved.block_size
        size = min(preserved.block_size, preserved.blocks.size_bytes - at)
        buffer = memoryview(bytearray(size))
        try:
            read(buffer, at)
            preserved.blocks.write(buffer, at)
            preserved.note(block)
        except EbsimError:
            self.break_off()

    def break_off(self) -> None:
        """Preserve nothing any more, once whoever still reads the cut can know.

        Raises:
            StorageUnavailable: it could not be written down, so the cut stays whole.
        """
        self._preserved.break_off()

    def close(self) -> None:
        """Release the files, which stay."""
        self._bits.close()
        self._preserved.close()


def open_cut(folder: VolumeFolder, state: VolumeState, snapshot_id: str) -> Cut:
    """Go on with a cut that another process made."""
    preserved = PreservedBlocks(folder, state, snapshot_id, create=False)
    with ExitStack() as opened:
        opened.callback(preserved.close)
        bits = MappedBits(folder.files, folder.cut(snapshot_id), state.block_count)
        opened.pop_all()
    return Cut(snapshot_id, bits, preserved)


@contextmanager
def held_unread(folder: VolumeFolder, snapshot_id: str) -> Iterator[bool]:
    """Whether nobody reads the cut; if so nobody can begin to while the body runs."""
    descriptor = folder.files.open_to_read(folder.cut(snapshot_id))
    try:
        yield folder.files.lock(descriptor, wait=False)
    finally:
        folder.files.close(descriptor)


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
        with ExitStack() as opened:
            try:
                self._open(opened, folder, snapshot_id)
            except FileNotFoundError as error:
                raise _broken() from error
            self._opened = opened.pop_all()

    def _open(self, opened: ExitStack, folder: VolumeFolder, snapshot_id: str) -> None:
        files, size = folder.files, self.size_bytes
        lock = files.open_to_read(folder.cut(snapshot_id))
        opened.callback(files.close, lock)
        is_locked = files.lock(lock, shared=True, wait=False)
        named = files.status(folder.cut(snapshot_id))
        # Whoever opened the volume meanwhile may have settled it, and preserves nothing.
        if not is_locked or named is None or not samestat(named, files.status_of(lock)):
            raise _broken()
        bits = files.read(lock, 0, bitmap_bytes(self.block_count))
        self.bits = BlockBitmap(bytearray(bits), self.block_count)
        self._data = SparseFile(files, folder.data, size, create=False, read_only=True)
        opened.callback(self._data.close)
        preserved = folder.preserved(snapshot_id)
        self._preserved = SparseFile(files, preserved, size, create=False, read_only=True)
        opened.callback(self._preserved.close)
        self._descriptor = files.open_to_read(folder.preserved_bits(snapshot_id))
        opened.callback(files.close, self._descriptor)

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
        self._opened.close()


def _broken() -> Conflict:
    return Conflict(
        "the volume could not keep what its blocks held when the snapshot was cut. The volume "
        "is whole; no snapshot was made. Free some space on its disk, then try again."
    )
