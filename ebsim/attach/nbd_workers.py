"""Threads that do what would keep a connection waiting."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[], None]


class Workers:
    """At most *thread_count* threads, started when there is work for one more.

    Work is done in the order in which it was given, and must not raise.
    """

    def __init__(self, thread_count: int) -> None:
        self._thread_count_max = thread_count
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._idle_count = 0

    def give(self, work: Work) -> None:
        """Have *work* done soon.  Never waits."""
        with self._lock:
            if self._idle_count > 0:
                self._idle_count -= 1
            elif len(self._threads) < self._thread_count_max:
                thread = threading.Thread(
                    target=self._work, name=f"nbd-worker-{len(self._threads)}", daemon=True
                )
                self._threads.append(thread)
                thread.start()
        self._queue.put(work)

    def join(self) -> None:
        """Do what was given, then end the threads.  Nothing may be given any more."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
            with self._lock:
                # What waits already is taken next, by whoever is free first.
                if self._queue.empty():
                    self._idle_count += 1
