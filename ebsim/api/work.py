"""Work that goes on after its request was answered: uploads of snapshots, copies.

Amazon answers such a request while the snapshot is ``pending``.  The work runs in threads of
its own; what it comes to is in the store, and a server that ends waits for it.  One that is
killed leaves it to recovery, which marks as failed what somebody was told of.
"""

import threading
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import TypeVar

from ebsim.errors import EbsimError

T = TypeVar("T")

THREAD_COUNT = 16
LINGER_SECONDS = 0.5

Announce = Callable[[T], None]
"""Tells the request what to answer; the work goes on."""


class Work:
    """The work of a server.  Safe from many threads."""

    def __init__(self, tell_bug: Callable[[str], None], *, lag_seconds: float = 0) -> None:
        """Work takes *lag_seconds* longer, after it was announced."""
        self._tell_bug = tell_bug
        self._lag_seconds = lag_seconds
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(THREAD_COUNT, "work")
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._waiting: Counter[str] = Counter()
        self._cancelled: set[str] = set()

    def cancel(self, name: str) -> None:
        """Let the work that is known by *name* end as soon as it looks."""
        self._cancelled.add(name)

    def is_cancelled(self, name: str) -> bool:
        """Whether the work that is known by *name* is to end."""
        return name in self._cancelled

    def waiting_for(self, name: str) -> int:
        """How many pieces of work on *name* are going on or wait for their turn."""
        with self._lock:
            return self._waiting[name]

    def begin(self, on: Sequence[str], do: Callable[[Announce[T]], object]) -> T:
        """Do *do* behind; return what it announces.

        Work that is done within half a second is waited for: who asks at once how far it is
        then need not ask again, and the waiters of AWS clients ask every 15 seconds.

        Work *on* the same things is done one after the other.

        Raises:
            Whatever ended it before it announced anything.
        """
        announced: Future[T] = Future()
        names = sorted(set(on))
        with self._lock:
            self._waiting.update(names)
        working = self._pool.submit(self._run, names, do, announced)
        found = announced.result()
        wait([working], timeout=LINGER_SECONDS)
        return found

    def go_on(self, name: str, do: Callable[[], object]) -> None:
        """Do *do*, which was announced already, behind: as soon as a thread is free.

        What it comes to, its failures as well, is in the store.
        """
        with self._lock:
            self._waiting.update([name])
        announced: Future[None] = Future()

        def go_on(announce: Announce[None]) -> None:
            announce(None)
            do()

        self._pool.submit(self._run, [name], go_on, announced)

    def _run(
        self, names: Sequence[str], do: Callable[[Announce[T]], object], announced: "Future[T]"
    ) -> None:

        def announce(what: T) -> None:
            announced.set_result(what)
            if self._lag_seconds:
                self._ended.wait(self._lag_seconds)

        try:
            with ExitStack() as turns:
                for name in names:
                    turns.enter_context(self._turn(name))
                do(announce)
            assert announced.done(), "work announces what it does"
        except BaseException as error:  # noqa: BLE001 (it is passed on, or told)
            if not announced.done():
                announced.set_exception(error)
            elif not isinstance(error, EbsimError):
                self._tell_bug(f"work on {', '.join(names)}: {traceback.format_exc()}")
        finally:
            self._forget(names)

    def _turn(self, name: str) -> threading.Lock:
        with self._lock:
            return self._turns.setdefault(name, threading.Lock())

    def _forget(self, names: Sequence[str]) -> None:
        with self._lock:
            self._waiting.subtract(names)
            for name in names:
                if not self._waiting[name]:
                    del self._waiting[name]
                    self._turns.pop(name, None)

    def close(self) -> None:
        """Wait until all of it is done; nothing begins any more."""
        self._ended.set()
        self._pool.shutdown(wait=True)
