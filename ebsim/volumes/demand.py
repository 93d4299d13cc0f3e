"""Blocks fetched because somebody waits for them: once each, and kept until they are here.

Several readers of one absent block share one fetch.  What was fetched is answered from
memory at once and brought into the local file behind, by a thread of its own; where that
falls too far behind, readers bring theirs themselves, which holds them up as it must.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

Buffer = bytes | bytearray | memoryview

WAITING_MAX = 24
"""Blocks in memory that wait to be written: 12 MiB of 512 KiB ones."""


class Demand:
    """Fetches blocks for readers and writers.

    Args:
        fetch: Gives a block's bytes, ``None`` for zeros.
        fill: Brings a block into the local file; called by any thread.
    """

    def __init__(
        self, fetch: Callable[[int], Buffer | None], fill: Callable[[int, Buffer], None]
    ) -> None:
        self._fetch = fetch
        self._fill = fill
        self._lock = threading.Lock()
        self._fetches: dict[int, Future[Buffer | None]] = {}
        self._waiting: SimpleQueue[tuple[int, Buffer] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.fetched_count = 0
        """How many fetches were not refused: when it rises, the store can be had."""
        self._in_progress = 0
        self._is_idle = threading.Event()
        self._is_idle.set()
        self.fill_failure: Exception | None = None

    def get(self, block_index: int) -> Buffer | None:
        """The bytes of an absent block as the origin has them, ``None`` for zeros.

        Raises:
            EbsimError: what the fetch raised; the next one tries anew.
        """
        with self._lock:
            future = self._fetches.get(block_index)
            is_mine = future is None
            if future is None:
                future = self._fetches[block_index] = Future()
                self._in_progress += 1
                self._is_idle.clear()
        if is_mine:
            self._run(block_index, future)
        return future.result()

    def wait_until_idle(self, timeout_seconds: float) -> None:
        """Let those go first who wait for a block, for a time."""
        self._is_idle.wait(timeout_seconds)

    def close(self) -> None:
        """Bring what was fetched here, and end the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join()

    def _run(self, block_index: int, future: "Future[Buffer | None]") -> None:
        try:
            data = self._fetch(block_index)
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            self._forget(block_index)
            future.set_exception(error)
            return
        else:
            with self._lock:
                self.fetched_count += 1
        finally:
            self._note_end()
        future.set_result(data)
        if data is None:
            self._forget(block_index)
        elif self._waiting.qsize() < WAITING_MAX:
            self._start_thread()
            self._waiting.put((block_index, data))
        else:
            self._bring(block_index, data)

    def _note_end(self) -> None:
        with self._lock:
            self._in_progress -= 1
            if self._in_progress == 0:
                self._is_idle.set()

    def _forget(self, block_index: int) -> None:
        with self._lock:
            del self._fetches[block_index]

    def _start_thread(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._fill_all, name="fill", daemon=True)
                self._thread.start()

    def _fill_all(self) -> None:
        while (item := self._waiting.get()) is not None:
            self._bring(*item)

    def _bring(self, block_index: int, data: Buffer) -> None:
        try:
            self._fill(block_index, data)
        except Exception as error:  # noqa: BLE001
            # The block stays absent and is fetched again by whoever wants it; the thread
            # must live on whatever it was, or readers would wait for ever.
            self.fill_failure = error
        finally:
            self._forget(block_index)
