"""Which requests may run at once: overlapping ones only if all of them read, none while frozen.

A request is admitted with the range it touches and leaves with the token it was given.
Who has to wait is served in turn, so that a stream of readers does not keep a writer
out.  Freezing keeps out new writes alone, and waits for those that are in.

Requests in progress are few (a client's queue depth), so they are looked through.
"""

import threading
from time import monotonic
from typing import NamedTuple

from ebsim.errors import Conflict


class FreezeTimedOut(Conflict):
    """Writes in progress did not end in time; nothing is frozen."""


class _Request(NamedTuple):
    start: int
    stop: int
    is_exclusive: bool
    is_write: bool


class RequestGate:
    """Admits requests to one device."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._last_token = 0
        self._running: dict[int, _Request] = {}
        self._waiting: dict[int, _Request] = {}
        self._writes_running = 0
        self._is_frozen = False

    def try_begin_read(self, start: int, stop: int) -> int:
        """A token, or 0 if the read would have to wait."""
        return self._try_begin(_Request(start, stop, False, False))

    def try_begin_write(self, start: int, stop: int) -> int:
        """A token, or 0 if the write would have to wait."""
        return self._try_begin(_Request(start, stop, True, True))

    def begin_read(self, start: int, stop: int) -> int:
        """Wait until no write touches the range; return a token."""
        return self._begin(_Request(start, stop, False, False))

    def begin_write(self, start: int, stop: int) -> int:
        """Wait until nothing touches the range and writes are admitted; return a token."""
        return self._begin(_Request(start, stop, True, True))

    def begin_fill(self, start: int, stop: int) -> int:
        """As ``begin_write`` for bytes that do not change what is read: frozen or not."""
        return self._begin(_Request(start, stop, True, False))

    def end(self, token: int) -> None:
        """The request is done."""
        with self._changed:
            if self._running.pop(token).is_write:
                self._writes_running -= 1
            if self._waiting or self._is_frozen:
                self._changed.notify_all()

    @property
    def is_frozen(self) -> bool:
        return self._is_frozen

    def freeze(self, timeout_seconds: float) -> None:
        """Admit no new write, and wait for those that are in.

        Raises:
            FreezeTimedOut: they did not end in time; writes are admitted again.
            Conflict: it is frozen already.
        """
        deadline = monotonic() + timeout_seconds
        with self._changed:
            if self._is_frozen:
                raise Conflict("writes are frozen already, by another snapshot. Try again.")
            self._is_frozen = True
            while self._writes_running:
                if not self._is_frozen:
                    raise FreezeTimedOut("writes were let go on. No snapshot was cut. Try again.")
                rest = deadline - monotonic()
                if rest <= 0:
                    self._is_frozen = False
                    self._changed.notify_all()
                    raise FreezeTimedOut(
                        f"{self._writes_running} writes did not end within "
                        f"{timeout_seconds:g} s. Writes go on; no snapshot was cut."
                    )
                self._changed.wait(rest)

    def thaw(self) -> bool:
        """Admit writes again; whether they were kept out.  Harmless when nothing is frozen."""
        with self._changed:
            was_frozen, self._is_frozen = self._is_frozen, False
            self._changed.notify_all()
            return was_frozen

    def _try_begin(self, request: _Request) -> int:
        with self._changed:
            if not self._may_run(request):
                return 0
            return self._start(request)

    def _begin(self, request: _Request) -> int:
        with self._changed:
            if self._may_run(request):
                return self._start(request)
            self._last_token += 1
            turn = self._last_token
            self._waiting[turn] = request
            try:
                while not self._may_run(request, turn):
                    self._changed.wait()
            finally:
                del self._waiting[turn]
            # Another that waited for this one's turn, not for its range, may go as well.
            self._changed.notify_all()
            return self._start(request)

    def _start(self, request: _Request) -> int:
        self._last_token += 1
        self._running[self._last_token] = request
        self._writes_running += request.is_write
        return self._last_token

    def _may_run(self, request: _Request, turn: int | None = None) -> bool:
        if request.is_write and self._is_frozen:
            return False
        start, stop, is_exclusive, _ = request
        for other in self._running.values():
            if start < other.stop and other.start < stop and (is_exclusive or other.is_exclusive):
                return False
        for other_turn, other in self._waiting.items():
            if turn is not None and other_turn >= turn:
                break
            # A write that waits for the thaw must not keep reads of its range out.
            if other.is_write and self._is_frozen:
                continue
            if start < other.stop and other.start < stop and (is_exclusive or other.is_exclusive):
                return False
        return True
