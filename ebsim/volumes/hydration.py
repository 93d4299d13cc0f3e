"""Loading a volume in the background until every block is here.

First the ranges that were asked for, then the blocks in a recorded order, then the rest
from front to back; whoever waits for a block goes first, always.  Where it has come to
is in the present bits alone, so it goes on after a restart, however that came about.

A block that cannot be had is passed over and tried again later: the volume stays lazy
until the store is whole.  Later is at growing intervals, but soon when somebody else gets
a block of a store that was out of reach.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from time import monotonic
from typing import NamedTuple

from ebsim.blockmap.geometry import FAN_OUT, FAN_OUT_BITS
from ebsim.errors import EbsimError, IntegrityError, StorageFull, StorageUnavailable
from ebsim.ids import Digest
from ebsim.volumes.block_bitmap import runs_of_bits
from ebsim.volumes.hydration_order import HydrationOrder
from ebsim.volumes.live_volume import LiveVolume
from ebsim.volumes.origin import Origin

_ALL_SLOTS = (1 << FAN_OUT) - 1
_DEMAND_WAIT_SECONDS = 0.05
_RETRY_SECONDS = (1.0, 60.0)  # first, longest
_LOOK_SECONDS = 1.0  # at whether the store is back
_RETRY_SHARE = 4  # how many times as long as trying took is waited at least


class HydrationState(StrEnum):
    """How far loading has come."""

    RUNNING = "running"
    PAUSED = "paused"
    WAITING = "waiting"  # some blocks could not be had, and are tried again
    FULL = "full"  # the volume's own disk has no room
    DONE = "done"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class HydrationProgress:
    """What can be said about it.

    Attributes:
        loaded_bytes: Brought here by this process.
        percent: Of the origin's leaves, how much is here.
        seconds_left: At the speed so far, ``None`` before there is one.
        failure: Why some blocks could not be loaded, ``""`` if all could.
    """

    state: HydrationState
    loaded_bytes: int
    percent: int
    seconds_left: float | None
    failure: str


class _Task(NamedTuple):
    leaf_index: int
    leaf_digest: Digest | None
    mask: int
    counts: bool = False


class _FoundLeaf(NamedTuple):
    """A leaf, or the end: there is no leaf from *zeros_from* up to *leaf_index*."""

    zeros_from: int
    leaf_index: int
    digest: Digest | None


class Hydrator:
    """Loads *volume* with threads of its own, between ``start`` and ``stop``.

    Args:
        on_alone: Called once every block is here and that is durable.
        rate: Bytes a second at the most; ``None`` for as fast as it goes.
    """

    def __init__(
        self,
        volume: LiveVolume,
        order: HydrationOrder,
        on_alone: Callable[[], None],
        *,
        rate: int | None = None,
        thread_count: int = 2,
    ) -> None:
        self._volume = volume
        self._order = order
        self._on_alone = on_alone
        self._thread_count = thread_count
        self._rate = rate
        self._next_at = monotonic()
        self._stopping = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self._finished = threading.Event()
        self._lock = threading.Lock()
        self._tasks: Iterator[_Task] = iter(())
        self._failure: EbsimError | None = None
        self._state = HydrationState.STOPPED
        self._loaded_bytes = 0
        self._leaf_count = 0
        self._leaves_done = 0.0
        self._leaves_here = 0
        self._started_at = monotonic()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, or go on."""
        self._state = HydrationState.RUNNING
        self._thread = threading.Thread(target=self._run, name="hydrate", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Load nothing until ``resume``; blocks that are asked for still come."""
        self._running.clear()

    def resume(self) -> None:
        """Go on."""
        self._running.set()

    @property
    def rate(self) -> int | None:
        """Bytes a second at the most; ``None`` for as fast as it goes."""
        return self._rate

    def set_rate(self, rate: int | None) -> None:
        """Change how many bytes a second are loaded at the most."""
        with self._lock:
            self._rate = rate
            self._next_at = monotonic()

    def stop(self) -> None:
        """End the threads; what came so far stays.  Harmless when called twice."""
        self._stopping.set()
        self._running.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the volume stands alone, or loading was stopped; whether it was."""
        return self._finished.wait(timeout_seconds)

    def progress(self) -> HydrationProgress:
        """How far it has come."""
        state = self._state
        if state is HydrationState.RUNNING and not self._running.is_set():
            state = HydrationState.PAUSED
        here = self._leaves_here + self._leaves_done
        percent = min(int(100 * here / self._leaf_count), 99) if self._leaf_count else 0
        if state is HydrationState.DONE:
            percent = 100
        elapsed = monotonic() - self._started_at
        left = None
        if state is HydrationState.DONE:
            left = 0.0
        elif self._leaves_done:
            left = elapsed / self._leaves_done * max(self._leaf_count - here, 0)
        failure = str(self._failure) if self._failure is not None else ""
        return HydrationProgress(state, self._loaded_bytes, percent, left, failure)

    def _run(self) -> None:
        delay, longest = _RETRY_SECONDS
        try:
            while not self._stopping.is_set():
                begun = monotonic()
                if self._load_all() and self._is_noted():
                    self._state = HydrationState.DONE
                    return
                fetched, taken = self._volume.demand.fetched_count, monotonic() - begun
                full = isinstance(self._failure, StorageFull)
                self._state = HydrationState.FULL if full else HydrationState.WAITING
                self._wait_to_retry(delay, taken * _RETRY_SHARE, fetched)
                delay = min(2 * delay, longest)
        except EbsimError as error:
            self._failure, self._state = error, HydrationState.WAITING
        finally:
            if self._state is not HydrationState.DONE and self._stopping.is_set():
                self._state = HydrationState.STOPPED
            self._finished.set()

    def _wait_to_retry(self, delay: float, least: float, fetched_before: int) -> None:
        """Wait *delay*, or *least* if the store was out of reach and is not any more."""
        # What others get says nothing of this disk's room, or of a damaged chunk.
        was_away = self._state is not HydrationState.FULL and isinstance(
            self._failure, StorageUnavailable
        )
        begun = monotonic()
        while (waited := monotonic() - begun) < delay:
            is_back = was_away and self._volume.demand.fetched_count > fetched_before
            if (is_back and waited >= least) or self._stopping.wait(_LOOK_SECONDS):
                return

    def _is_noted(self) -> bool:
        """Note that all is here: in the volume, then in the store, which may be out of reach."""
        self._volume.stand_alone()
        try:
            self._on_alone()
        except StorageUnavailable as error:
            self._failure = error
            return False
        return True

    def _load_all(self) -> bool:
        """Go through everything once; whether every block is here afterwards."""
        origin = self._volume.origin
        if origin is None:
            return True
        self._failure = None
        self._started_at = monotonic()
        try:
            self._count_leaves(origin)
        except EbsimError as error:
            self._failure = error
            return False
        self._state = HydrationState.RUNNING
        self._tasks = chain(self._wanted_first(origin), self._front_to_back(origin))
        workers = [
            threading.Thread(target=self._work, args=(origin,), name="hydrate", daemon=True)
            for _ in range(self._thread_count)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return (
            self._failure is None
            and not self._stopping.is_set()
            and next(self._volume.absent_runs(0, self._block_count), None) is None
        )

    @property
    def _block_count(self) -> int:
        return self._volume.state.block_count

    def _count_leaves(self, origin: Origin) -> None:
        """How many leaves there are, and how many of them are here already."""
        self._leaf_count = self._leaves_here = 0
        self._leaves_done = 0.0
        for found in self._found_leaves(origin):
            if found.digest is not None:
                self._leaf_count += 1
                self._leaves_here += not self._absent_mask(found.leaf_index)
            if self._stopping.is_set():
                return

    def _wanted_first(self, origin: Origin) -> Iterator[_Task]:
        for leaf, mask in self._wanted():
            try:
                digest = origin.leaf_digest(leaf)
            except IntegrityError as error:
                self._failure = error
                continue
            yield _Task(leaf, digest, mask)

    def _wanted(self) -> Iterator[tuple[int, int]]:
        """Leaves, and which of their blocks are to come before everything else."""
        for start, stop in self._order.first:
            for leaf in range(start >> FAN_OUT_BITS, -(-stop >> FAN_OUT_BITS)):
                base = leaf << FAN_OUT_BITS
                low, high = max(start - base, 0), min(stop - base, FAN_OUT)
                yield leaf, (1 << high) - (1 << low)
        for block in self._order.replay:
            if block < self._block_count:
                leaf = block >> FAN_OUT_BITS
                yield leaf, 1 << (block - (leaf << FAN_OUT_BITS))

    def _front_to_back(self, origin: Origin) -> Iterator[_Task]:
        """Every leaf, and what lies between them, which is zeros."""
        for found in self._found_leaves(origin):
            start = min(found.leaf_index << FAN_OUT_BITS, self._block_count)
            self._bring_zeros(found.zeros_from << FAN_OUT_BITS, start)
            if found.digest is not None:
                yield _Task(found.leaf_index, found.digest, _ALL_SLOTS, counts=True)

    def _found_leaves(self, origin: Origin) -> Iterator[_FoundLeaf]:
        """The leaves of the map, but for those below a node that cannot be had."""
        leaf_count = -(-self._block_count >> FAN_OUT_BITS)
        position = 0
        while position < leaf_count:
            try:
                for leaf_index, digest in origin.leaves(position):
                    yield _FoundLeaf(position, leaf_index, digest)
                    position = leaf_index + 1
            except IntegrityError as error:
                self._failure = error
                # All leaves of a lowest inner node come before the next node is loaded, so
                # none that can be had is passed over. Whether there are zeros is not known.
                position = ((position >> FAN_OUT_BITS) + 1) << FAN_OUT_BITS
            else:
                yield _FoundLeaf(position, leaf_count, None)
                position = leaf_count

    def _bring_zeros(self, start: int, stop: int) -> None:
        """Bring blocks here that the origin has not, a piece at a time: each locks its range."""
        for first, last in self._volume.absent_runs(start, stop):
            for piece in range(first, last, 1 << 16):
                if self._stopping.is_set():
                    return
                self._volume.fill_zeros(piece, min(piece + (1 << 16), last))

    def _next_task(self) -> _Task | None:
        with self._lock:
            return next(self._tasks, None)

    def _work(self, origin: Origin) -> None:
        while not self._stopping.is_set():
            try:
                task = self._next_task()
                if task is None:
                    return
                self._load(origin, task)
            except EbsimError as error:
                self._failure = error
                if isinstance(error, StorageFull):
                    return

    def _absent_mask(self, leaf_index: int) -> int:
        base = leaf_index << FAN_OUT_BITS
        stop = min(base + FAN_OUT, self._block_count)
        mask = 0
        for start, end in self._volume.absent_runs(base, stop):
            mask |= (1 << end - base) - (1 << start - base)
        return mask

    def _load(self, origin: Origin, task: _Task) -> None:
        """Bring the absent blocks of *task* here."""
        absent = self._absent_mask(task.leaf_index) & task.mask
        # What each block is of its leaf: a leaf is 64 MiB, and may take minutes.
        share = 1 / absent.bit_count() if task.counts and absent else 0.0
        shares_left = 1.0 if share else 0.0
        base = task.leaf_index << FAN_OUT_BITS
        if absent and task.leaf_digest is not None:
            for block in origin.leaf_blocks(task.leaf_index, task.leaf_digest):
                bit = 1 << (block.block_index - base)
                if not absent & bit:
                    continue
                absent &= ~bit
                if not self._wait_for_turn():
                    return
                try:
                    self._volume.fill(block.block_index, origin.read_located(block))
                    # Here, not where somebody waits for a block: the disk may be slow to take it.
                    self._volume.begin_write_out(block.block_index)
                    self._note_loaded(share)
                    shares_left -= share
                except StorageFull:
                    raise
                except EbsimError as error:
                    self._failure = error
                    shares_left -= share
        for start, stop in runs_of_bits(absent, base):
            self._volume.fill_zeros(start, min(stop, self._block_count))
        with self._lock:
            self._leaves_done += shares_left

    def _note_loaded(self, share: float) -> None:
        with self._lock:
            self._loaded_bytes += self._volume.block_size
            self._leaves_done += share

    def _wait_for_turn(self) -> bool:
        """Wait while paused, for the rate and for who needs a block now; whether to go on."""
        self._running.wait()
        self._volume.demand.wait_until_idle(_DEMAND_WAIT_SECONDS)
        with self._lock:
            if self._rate is None:
                return not self._stopping.is_set()
            now = monotonic()
            begin = max(now, self._next_at)
            self._next_at = begin + self._volume.block_size / self._rate
        return not self._stopping.wait(max(0.0, begin - now))
