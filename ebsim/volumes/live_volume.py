"""A volume in use: a block device over its local bytes and the origin that it was made from.

A request runs like this: what it needs of absent blocks is fetched first, with nothing
locked; then its range is locked (``request_gate.py``); if the blocks still are as it
found them it does its work, otherwise it begins again.  Blocks only ever become
present, so it begins again once or twice at most.

A write locks whole blocks where it has to do more than write: bring a block here that
it writes a part of, or preserve what a snapshot being taken has to read.
"""

import threading
from collections.abc import Callable, Iterator
from itertools import islice

from ebsim.volumes.access_log import AccessLog
from ebsim.volumes.allocation import merged, volume_parts
from ebsim.volumes.block_device import AllocationRange, DirtyRange
from ebsim.volumes.demand import Demand
from ebsim.volumes.origin import Origin
from ebsim.volumes.overlay import Overlay
from ebsim.volumes.request_gate import RequestGate
from ebsim.volumes.volume_folder import VolumeState

Buffer = bytes | bytearray | memoryview
Change = Callable[[], None]

_RANGES_MAX = 1024  # described in one answer


class LiveVolume:
    """A :class:`~ebsim.volumes.block_device.MappedDevice` that can be frozen and cut.

    Args:
        overlay: The local part, which the volume owns from now on.
        origin: Where absent blocks come from; ``None`` for a volume that stands alone.
        access: Records the order of first reads; owned as well.
    """

    def __init__(
        self, overlay: Overlay, origin: Origin | None, access: AccessLog | None = None
    ) -> None:
        self._overlay = overlay
        self._origin = origin
        self._access = access
        self._gate = RequestGate()
        self._demand = Demand(self._fetch, self.fill)
        self._size_bytes = overlay.state.size_bytes
        self._block_size = overlay.state.block_size
        self._cut_lock = threading.Lock()
        # The overlay may have taken up a cut that a process before this one made.
        self._is_cut_left = overlay.cut is not None

    # The device

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def block_size(self) -> int:
        return self._block_size

    def try_read_at(self, offset_bytes: int, buffer: memoryview) -> bool:
        stop = offset_bytes + len(buffer)
        token = self._gate.try_begin_read(offset_bytes, stop)
        if not token:
            return False
        try:
            size = self._block_size
            if not self._overlay.is_present(offset_bytes // size, -(-stop // size)):
                return False
            return self._overlay.data.try_read(buffer, offset_bytes)
        finally:
            self._gate.end(token)

    def read_at(self, offset_bytes: int, buffer: memoryview) -> None:
        stop = offset_bytes + len(buffer)
        first, last = self._blocks(offset_bytes, stop)
        fetched: dict[int, Buffer | None] = {}
        while True:
            token = self._gate.begin_read(offset_bytes, stop)
            try:
                absent = self._absent(first, last)
                missing = [block for block in absent if block not in fetched]
                if not missing:
                    self._assemble(offset_bytes, buffer, absent, fetched)
                    return
            finally:
                self._gate.end(token)
            for block in missing:
                fetched[block] = self._demand.get(block)

    def try_write_at(self, offset_bytes: int, data: Buffer) -> bool:
        stop = offset_bytes + len(data)
        token = self._gate.try_begin_write(offset_bytes, stop)
        if not token:
            return False
        try:
            if self._absent_edges(offset_bytes, stop) or self._needs_preserving(
                offset_bytes, stop
            ):
                return False
            self._overlay.write(data, offset_bytes)
            return True
        finally:
            self._gate.end(token)

    def write_at(self, offset_bytes: int, data: Buffer) -> None:
        self._change(offset_bytes, len(data), lambda: self._overlay.write(data, offset_bytes))

    def zero_at(self, offset_bytes: int, length: int, *, allocate: bool = False) -> None:
        self._change(
            offset_bytes,
            length,
            lambda: self._overlay.zero(offset_bytes, length, allocate=allocate),
        )

    def trim(self, offset_bytes: int, length: int) -> None:
        self.zero_at(offset_bytes, length)

    def flush(self) -> None:
        self._overlay.sync()

    def allocation(self, offset_bytes: int, length: int) -> Iterator[AllocationRange]:
        stop = offset_bytes + length
        token = self._gate.begin_read(offset_bytes, stop)
        try:
            parts = volume_parts(self._overlay, self._origin, offset_bytes, stop)
            return iter(list(islice(merged(parts), _RANGES_MAX)))
        finally:
            self._gate.end(token)

    def dirty(self, offset_bytes: int, length: int) -> Iterator[DirtyRange]:
        stop = offset_bytes + length
        first, last = self._blocks(offset_bytes, stop)
        position = offset_bytes
        runs = self._overlay.dirty_runs(first, last, _RANGES_MAX)
        for start, end in runs:
            begins = max(start * self._block_size, offset_bytes)
            ends = min(end * self._block_size, stop)
            if begins > position:
                yield DirtyRange(begins - position, False)
            yield DirtyRange(ends - begins, True)
            position = ends
        if position < stop and len(runs) < _RANGES_MAX:
            yield DirtyRange(stop - position, False)

    # Snapshots

    def prepare_cut(self, snapshot_id: str, dirty_since: str | None) -> bool:
        """Make files ready for a cut; whether only dirty blocks have to be read.

        *dirty_since* is the snapshot that the new one builds on.

        Raises:
            Conflict: another snapshot of the volume is being taken.
            StorageFull: no room for the bits.
        """
        with self._cut_lock:
            self._settle_left_cut()
            return self._overlay.prepare_cut(snapshot_id, dirty_since)

    def freeze(self, timeout_seconds: float) -> None:
        """Admit no new write and wait for those in progress.

        Raises:
            FreezeTimedOut: they took longer; writes go on.
        """
        self._gate.freeze(timeout_seconds)

    def make_cut(self, snapshot_id: str, *, dirty_only: bool) -> None:
        """Cut the volume at this moment, for ``prepare_cut``'s snapshot; it is frozen."""
        assert self._gate.is_frozen, "a cut is made of a volume that holds still"
        with self._cut_lock:
            self._overlay.make_cut(snapshot_id, dirty_only=dirty_only)

    def thaw(self) -> bool:
        """Let writes go on; whether they were frozen."""
        return self._gate.thaw()

    def settle_cut(self, snapshot_id: str) -> None:
        """The snapshot was completed, or it failed and its blocks count as dirty again."""
        with self._cut_lock:
            self._settle_cut(snapshot_id)

    def leave_cut(self, snapshot_id: str) -> None:
        """Whoever had it made is gone: settle it now, or before the next if it is read still."""
        with self._cut_lock:
            self._is_cut_left = True
            self._settle_left_cut(snapshot_id)

    def _settle_left_cut(self, snapshot_id: str | None = None) -> None:
        cut = self._overlay.cut
        if cut is None or not self._is_cut_left or snapshot_id not in (None, cut.snapshot_id):
            return
        with self._overlay.held_unread(cut) as is_unread:
            if is_unread:
                self._settle_cut(cut.snapshot_id)

    def _settle_cut(self, snapshot_id: str) -> None:
        if not self._overlay.settle_cut(snapshot_id):
            return
        token = self._gate.begin_fill(0, self._size_bytes)
        try:
            self._overlay.drop_cut()
        finally:
            self._gate.end(token)
        self._is_cut_left = False
        self._overlay.discard_cut(snapshot_id)

    # Loading

    @property
    def origin(self) -> Origin | None:
        """Where absent blocks come from; ``None`` once the volume stands alone."""
        return self._origin

    @property
    def state(self) -> VolumeState:
        return self._overlay.state

    @property
    def demand(self) -> Demand:
        return self._demand

    def absent_runs(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Runs of blocks from *first* up to *stop* that are not here."""
        present = self._overlay.present
        return iter(()) if present is None else present.runs(first, stop, is_set=False)

    def present_count(self) -> int:
        """How many blocks are here."""
        present = self._overlay.present
        return self._overlay.state.block_count if present is None else present.count()

    def dirty_count(self) -> int:
        """How many blocks were written since the last snapshot."""
        return self._overlay.dirty_count()

    def fill(self, block_index: int, data: Buffer) -> None:
        """Bring a block here as the origin has it, unless it came meanwhile."""
        start = block_index * self._block_size
        stop = min(start + self._block_size, self._size_bytes)
        token = self._gate.begin_fill(start, stop)
        try:
            if not self._overlay.is_present(block_index, block_index + 1):
                self._overlay.fill(memoryview(data)[: stop - start], start)
        finally:
            self._gate.end(token)

    def begin_write_out(self, block_index: int) -> None:
        """Let the disk begin with a block, so that less is left for the next flush."""
        self._overlay.data.begin_write_out(block_index * self._block_size, self._block_size)

    def fill_zeros(self, first: int, stop: int) -> None:
        """Bring blocks here that the origin has not: those that did not come meanwhile."""
        end = min(stop * self._block_size, self._size_bytes)
        token = self._gate.begin_fill(first * self._block_size, end)
        try:
            for start, run_stop in list(self.absent_runs(first, stop)):
                self._overlay.fill_zeros(start, run_stop)
        finally:
            self._gate.end(token)

    def stand_alone(self) -> None:
        """Every block is here: need the origin no more, durably."""
        assert next(self.absent_runs(0, self.state.block_count), None) is None, "all are here"
        token = self._gate.begin_fill(0, self._size_bytes)
        try:
            self._overlay.stand_alone()
            self._origin = None
        finally:
            self._gate.end(token)

    def grow(self, size_bytes: int) -> None:
        """Make the device longer; the new bytes are zeros.  Waits for requests in progress.

        Raises:
            Conflict: a snapshot is being taken.
        """
        with self._cut_lock:
            self._settle_left_cut()
            token = self._gate.begin_fill(0, max(size_bytes, self._size_bytes))
            try:
                self._overlay.grow(size_bytes)
                self._size_bytes = size_bytes
            finally:
                self._gate.end(token)

    def close(self) -> None:
        """Make everything durable and release it.  Nobody uses the device any more."""
        self._demand.close()
        try:
            if self._access is not None:
                self._access.close()
        finally:
            self._overlay.close()

    # Inside

    def _blocks(self, start: int, stop: int) -> tuple[int, int]:
        return start // self._block_size, -(-stop // self._block_size)

    def _absent(self, first: int, last: int) -> list[int]:
        if self._overlay.is_present(first, last):
            return []
        return [b for start, stop in self.absent_runs(first, last) for b in range(start, stop)]

    def _fetch(self, block_index: int) -> Buffer | None:
        origin = self._origin
        if origin is None:  # it became alone since: the block is here
            return None
        data = origin.read(block_index)
        if data is not None and self._access is not None:
            self._access.append(block_index)
        return data

    def _assemble(
        self,
        offset_bytes: int,
        buffer: memoryview,
        absent: list[int],
        fetched: dict[int, Buffer | None],
    ) -> None:
        """Fill *buffer* from the local file and from what was fetched of *absent* blocks."""
        size, position = self._block_size, offset_bytes
        end = offset_bytes + len(buffer)
        for block in absent:
            start, stop = max(block * size, offset_bytes), min((block + 1) * size, end)
            if start > position:
                self._overlay.data.read(
                    buffer[position - offset_bytes : start - offset_bytes], position
                )
            data = fetched[block]
            target = buffer[start - offset_bytes : stop - offset_bytes]
            if data is None:
                target[:] = bytes(stop - start)
            else:
                within = start - block * size
                target[:] = memoryview(data)[within : within + stop - start]
            position = stop
        if position < end:
            self._overlay.data.read(buffer[position - offset_bytes :], position)

    def _absent_edges(self, start: int, stop: int) -> list[int]:
        """The absent blocks of which a change from *start* to *stop* covers a part only."""
        first, last = self._blocks(start, stop)
        if self._overlay.is_present(first, last):
            return []
        edges = set()
        if start % self._block_size:
            edges.add(first)
        if stop % self._block_size and stop != self._size_bytes:
            edges.add(last - 1)
        return [edge for edge in edges if not self._overlay.is_present(edge, edge + 1)]

    def _needs_preserving(self, start: int, stop: int) -> bool:
        cut = self._overlay.cut
        return cut is not None and cut.needs(*self._blocks(start, stop))

    def _change(self, offset_bytes: int, length: int, change: Change) -> None:
        """Run *change* with its range locked, its edges here, the snapshot's blocks preserved."""
        start, stop = offset_bytes, offset_bytes + length
        fetched: dict[int, Buffer | None] = {}
        whole = False
        while True:
            for edge in self._absent_edges(start, stop):
                if edge not in fetched:
                    fetched[edge] = self._demand.get(edge)
                whole = True
            whole = whole or self._needs_preserving(start, stop)
            token = self._begin_change(start, stop, whole=whole)
            try:
                edges = self._absent_edges(start, stop)
                if whole and all(edge in fetched for edge in edges):
                    for edge in edges:
                        self._bring(edge, fetched[edge])
                    change()
                    return
                if not edges and not self._needs_preserving(start, stop):
                    change()
                    return
            finally:
                self._gate.end(token)

    def _begin_change(self, start: int, stop: int, *, whole: bool) -> int:
        if whole:
            first, last = self._blocks(start, stop)
            start, stop = first * self._block_size, min(last * self._block_size, self._size_bytes)
        return self._gate.begin_write(start, stop)

    def _bring(self, block: int, data: Buffer | None) -> None:
        """Bring an absent block here, which is locked."""
        if data is None:
            self._overlay.fill_zeros(block, block + 1)
        else:
            start = block * self._block_size
            self._overlay.fill(memoryview(data)[: self._size_bytes - start], start)
