"""A volume's local bytes and the bits that say which of them count.

Invariants:

1. A block's dirty bit is set before its bytes change.
2. A block's present bit is set after all of its bytes are in the file.
3. A durable present bit is written after its block's bytes are durable.
4. Bits in the page cache (live present, dirty) are believed within the boot of the
   machine that wrote them, or after a clean close; never after an unclean end: then
   the durable present bits hold, and every block counts as dirty since nobody knows when.
5. The bits of a cut are kept until its snapshot is completed, or are dirty again.
6. What a block held at the cut is preserved before it changes (``cut.py``).

So a killed process loses no write that returned.  A power cut loses what was written
since the last flush, block by block: such a block reads as one of the two, the bytes
before or the bytes after, down to what the disk does within a sector.

Which requests may run at the same time is the caller's to see to (``live_volume.py``).
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import replace
from itertools import islice

from ebsim.errors import Conflict, StorageUnavailable
from ebsim.volumes.block_bitmap import BlockBitmap
from ebsim.volumes.cut import Cut, PreparedCut, held_unread, open_cut
from ebsim.volumes.mapped_bits import PAGE, MappedBits, padded_bytes
from ebsim.volumes.overlay_files import open_overlay_files
from ebsim.volumes.sparse_file import SparseFile
from ebsim.volumes.volume_folder import NO_BOOT, NOT_KNOWN, VolumeFolder, VolumeState

Buffer = bytes | bytearray | memoryview

_BLOCKS_PER_PAGE = PAGE * 8

IsCompleted = Callable[[str], bool]
"""Whether the snapshot of this id was completed."""


class Overlay:
    """The local part of one volume, open.  The caller holds the volume's lock.

    Args:
        boot: Which boot of the machine this is.
        is_completed: Asked about snapshots that were being taken when the volume was
            last closed.

    Raises:
        MetadataCorrupt: the state or a file is missing or damaged.
        StorageFull: no room for the bits.
    """

    def __init__(self, folder: VolumeFolder, boot: str, is_completed: IsCompleted) -> None:
        self._folder = folder
        self._is_completed = is_completed
        self._bits_lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._syncs_begun = 0
        self._state_lock = threading.Lock()
        self._unsaved_pages: set[int] = set()
        self._failure: StorageUnavailable | None = None
        self.cut: Cut | None = None
        self._prepared: PreparedCut | None = None
        self._present: MappedBits | None = None
        self._durable = -1
        self._state = state = folder.load()
        is_trusted = state.boot in (None, boot)
        with ExitStack() as opened:
            files = open_overlay_files(folder, state, boot, opened)
            self._data, self._dirty = files.data, files.dirty
            if files.present is not None:
                self._present, self._durable, may_be_ahead = files.present
                if may_be_ahead:
                    self._unsaved_pages.update(range(len(self._present.memory) // PAGE))
            # Before any byte changes: from here on the bits are of this boot.
            dirty_since = state.dirty_since if is_trusted else NOT_KNOWN
            self._change_state(lambda old: replace(old, boot=boot, dirty_since=dirty_since))
            opened.callback(self._close_cuts)
            for snapshot_id in folder.cuts():
                self._take_up_cut(snapshot_id, is_trusted=is_trusted)
            folder.discard_unused_cuts()
            opened.pop_all()

    # Reading and writing

    @property
    def state(self) -> VolumeState:
        return self._state

    @property
    def present(self) -> MappedBits | None:
        """The blocks that are here; ``None`` when all are."""
        return self._present

    @property
    def data(self) -> SparseFile:
        return self._data

    def is_present(self, first: int, stop: int) -> bool:
        """Whether all blocks from *first* up to *stop* are here."""
        present = self._present
        return present is None or present.is_full(first, stop)

    def write(self, data: Buffer, offset_bytes: int) -> None:
        """Write into blocks that are present, or all of the blocks that are not."""
        first, stop = self._touched(offset_bytes, len(data))
        self._before_change(first, stop)
        self._data.write(data, offset_bytes)
        self._mark_present(first, stop)

    def zero(self, offset_bytes: int, length: int, *, allocate: bool = False) -> None:
        """Make zeros of a range, with the same proviso as ``write``."""
        first, stop = self._touched(offset_bytes, length)
        self._before_change(first, stop)
        self._data.zero(offset_bytes, length, allocate=allocate)
        self._mark_present(first, stop)

    def fill(self, data: Buffer, offset_bytes: int) -> None:
        """Bring whole blocks here as the origin has them: nothing becomes dirty."""
        self._data.write(data, offset_bytes)
        self._mark_present(*self._touched(offset_bytes, len(data)))

    def fill_zeros(self, first: int, stop: int) -> None:
        """Bring blocks here that the origin does not have: they are zeros."""
        at = first * self._state.block_size
        # An unflushed write may have left bytes here when the machine ended.
        self._data.zero(at, min(stop * self._state.block_size, self._state.size_bytes) - at)
        self._mark_present(first, stop)

    def _touched(self, offset_bytes: int, length: int) -> tuple[int, int]:
        size = self._state.block_size
        return offset_bytes // size, -(-(offset_bytes + length) // size)

    def _before_change(self, first: int, stop: int) -> None:
        if not self._dirty.is_full(first, stop):
            with self._bits_lock:
                self._dirty.set_range(first, stop)
        cut = self.cut
        if cut is not None and cut.needs(first, stop):
            cut.preserve(first, stop, self._data.read)

    def _mark_present(self, first: int, stop: int) -> None:
        present = self._present
        if present is None or present.is_full(first, stop):
            return
        with self._bits_lock:
            present.set_range(first, stop)
            last_page = (stop - 1) // _BLOCKS_PER_PAGE
            self._unsaved_pages.update(range(first // _BLOCKS_PER_PAGE, last_page + 1))

    # Durability

    def sync(self) -> None:
        """Make durable what was written before, bytes first, then the bits that count on them.

        Raises:
            StorageUnavailable: it failed now, or once before: what the disk holds of the
                writes since the last flush is not known.
        """
        begun_before = self._syncs_begun
        with self._sync_lock:
            if self._failure is not None:
                raise self._failure
            # One that began after this was asked for has done it.
            if self._syncs_begun == begun_before:
                self._sync()

    def _sync(self) -> None:
        self._syncs_begun += 1
        with self._bits_lock:
            pages, self._unsaved_pages = self._unsaved_pages, set()
            saved = [(page * PAGE, self._page(page)) for page in sorted(pages)]
        try:
            self._data.sync()
            for offset, page in saved:
                self._folder.files.write(self._durable, [page], offset)
            if saved:
                self._folder.files.sync(self._durable)
        except StorageUnavailable as error:
            self._failure = error
            self._distrust_bits()
            raise

    def _distrust_bits(self) -> None:
        """Let whoever opens the volume next take nothing in the page cache for true.

        What the kernel could not write it keeps as if it had been written, and forgets
        when it needs the memory; nobody is told a second time.
        """
        # The disk is ill already: what counts is the failure itself.
        with suppress(StorageUnavailable):
            self._change_state(lambda state: replace(state, boot=NO_BOOT))

    def _page(self, page: int) -> bytes:
        assert self._present is not None, "only a volume with absent blocks notes pages"
        return bytes(self._present.memory[page * PAGE : (page + 1) * PAGE])

    def stand_alone(self) -> None:
        """Note, durably, that every block is here.  Nobody reads or writes meanwhile."""
        self.sync()
        with self._sync_lock, self._bits_lock:
            present, self._present = self._present, None
            self._unsaved_pages.clear()
        self._change_state(lambda state: replace(state, origin=None))
        if present is not None:
            present.close()
            self._folder.files.close(self._durable)
            self._folder.discard(self._folder.live_present, self._folder.present)

    def grow(self, size_bytes: int) -> None:
        """Make the volume longer, durably.  Nobody reads or writes meanwhile.

        Raises:
            Conflict: a snapshot of it is being taken.
        """
        if self.cut is not None:
            raise Conflict(
                f"{self.cut.snapshot_id} is being taken of the volume. Its size is unchanged. "
                "Resize it when the snapshot is done."
            )
        self._forget_prepared()
        block_count = replace(self._state, size_bytes=size_bytes).block_count
        with self._sync_lock:
            self._data.grow(size_bytes)
            self._sync()
        self._folder.files.sync_directory(self._folder.path)
        files = self._folder.files
        with self._sync_lock, self._bits_lock:
            old_dirty, old_present = self._dirty, self._present
            self._dirty = MappedBits(files, self._folder.dirty, block_count)
            old_dirty.close()
            if old_present is not None:
                files.allocate(self._durable, padded_bytes(block_count))
                live = self._folder.live_present
                self._present = MappedBits(files, live, block_count)
                old_present.close()
        self._change_state(lambda state: replace(state, size_bytes=size_bytes))

    def close(self) -> None:
        """Make everything durable, note the clean end, release the files."""
        try:
            self.sync()
            self._dirty.sync()
            if self.cut is None:
                # The names that a cut swapped must not come back under a state that
                # says that the bits can be believed.
                self._folder.files.sync_directory(self._folder.path)
                self._change_state(lambda state: replace(state, boot=None))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Release the files as a killed process does."""
        self._data.close()
        self._dirty.close()
        if self._present is not None:
            self._present.close()
            self._folder.files.close(self._durable)
        self._close_cuts()

    def _close_cuts(self) -> None:
        for cut in (self.cut, self._prepared):
            if cut is not None:
                cut.close()

    def _change_state(self, changed: Callable[[VolumeState], VolumeState]) -> None:
        # A snapshot that ends and the last block that arrives each change their part of it.
        with self._state_lock:
            state = changed(self._state)
            self._folder.store(state)
            self._state = state

    # Snapshots

    def prepare_cut(self, snapshot_id: str, dirty_since: str | None) -> bool:
        """Make ready what a cut for *snapshot_id* needs; whether it may read dirty blocks only.

        It may if the dirty bits tell the difference from the snapshot *dirty_since*;
        otherwise it reads every block that is here.
        """
        if self.cut is not None:
            raise Conflict(
                f"{self.cut.snapshot_id} is being taken of the volume, and one at a time can "
                "be. Nothing was changed. Try again when it is done."
            )
        self._forget_prepared()
        self._prepared = PreparedCut(self._folder, self._state, snapshot_id)
        return dirty_since is not None and dirty_since == self._state.dirty_since

    def make_cut(self, snapshot_id: str, *, dirty_only: bool) -> None:
        """Cut: from now on the blocks it reads are preserved.  No write is in progress.

        Raises:
            Conflict: what ``prepare_cut`` made ready was given up since.
            StorageUnavailable: a name could not be changed; there is no cut.
        """
        prepared = self._prepared
        if self.cut is not None or prepared is None or prepared.snapshot_id != snapshot_id:
            raise Conflict(
                f"the volume was resized, or another snapshot of it begun, before {snapshot_id} "
                "was cut. No snapshot was made. Try again."
            )
        with self._bits_lock:
            self._choose_blocks(dirty_only=dirty_only)
            prepared.swap_names()
            self.cut = Cut(snapshot_id, self._dirty, prepared.preserved)
            self._dirty, self._prepared = prepared.next_dirty, None

    def _forget_prepared(self) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.close()
            self.discard_cut(prepared.snapshot_id)

    def _choose_blocks(self, *, dirty_only: bool) -> None:
        """Make the dirty bits those of the blocks to read: here, and dirty if that is known.

        A block that is not here is the origin's still, whatever a write that failed noted.
        """
        if not dirty_only:
            self._dirty.set_range(0, self._state.block_count)
        if self._present is not None:
            self._dirty.keep(self._present)

    def settle_cut(self, snapshot_id: str) -> bool:
        """The snapshot was completed, or its blocks are dirty again; whether it was this cut's.

        The cut itself stays until ``drop_cut``.
        """
        if self._prepared is not None and self._prepared.snapshot_id == snapshot_id:
            self._forget_prepared()
        cut = self.cut
        if cut is None or cut.snapshot_id != snapshot_id:
            return False
        if not self._settle(snapshot_id, cut.bits):
            # Whoever takes it may live on, only out of reach: it must not read what is
            # no longer preserved.
            cut.break_off()
        return True

    def drop_cut(self) -> None:
        """Preserve nothing any more, after ``settle_cut``.  No write is in progress."""
        assert self.cut is not None, "there is a cut to drop"
        self.cut.close()
        self.cut = None

    def held_unread(self, cut: Cut) -> AbstractContextManager[bool]:
        """Whether nobody reads *cut*; if so nobody can begin to while the body runs."""
        return held_unread(self._folder, cut.snapshot_id)

    def discard_cut(self, snapshot_id: str) -> None:
        """Give back the room of a cut that was dropped."""
        self._folder.discard_cut(snapshot_id, self._state.size_bytes)

    def dirty_runs(self, first: int, stop: int, limit: int) -> list[tuple[int, int]]:
        """The first *limit* runs of dirty blocks from *first* up to *stop*."""
        with self._bits_lock:
            return list(islice(self._dirty.runs(first, stop), limit))

    def dirty_count(self) -> int:
        """How many blocks were written since the last snapshot."""
        with self._bits_lock:
            return self._dirty.count()

    def _settle(self, snapshot_id: str, bits: BlockBitmap) -> bool:
        if self._is_completed(snapshot_id):
            self._change_state(lambda state: replace(state, dirty_since=snapshot_id))
            return True
        with self._bits_lock:
            self._dirty.add(bits)
        return False

    def _take_up_cut(self, snapshot_id: str, *, is_trusted: bool) -> None:
        """Go on with a cut that was open when the volume's last process ended.

        Its snapshot may be read still, by another process.  After an unclean end of the
        machine nothing reads it, and every block is dirty already.
        """
        with held_unread(self._folder, snapshot_id) as is_unread:
            if is_trusted and not is_unread:
                self.cut = open_cut(self._folder, self._state, snapshot_id)
                return
            if is_trusted:
                path, count = self._folder.cut(snapshot_id), self._state.block_count
                with closing(MappedBits(self._folder.files, path, count)) as bits:
                    self._settle(snapshot_id, bits)
            self.discard_cut(snapshot_id)
