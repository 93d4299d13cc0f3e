"""Replies on their way to one client, from several threads, each in one piece.

Whoever has a reply when nobody is sending sends it, and whatever others add meanwhile.
The connection's own thread waits for a client that reads slowly: it would only take in
more requests.  Worker threads never do: what does not go at once they leave to a thread
that is there for that alone.  So a client that stalls holds up nobody else.
"""

import threading
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from typing import NamedTuple

from ebsim.attach.nbd_buffers import PayloadBuffers
from ebsim.attach.nbd_stream import Buffer, Stream


class Load:
    """How much a connection has under way, from request to sent reply: the back-pressure."""

    def __init__(self, *, count_max: int, bytes_max: int) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._count = 0
        self._bytes = 0

    def try_enter(self, size_bytes: int) -> bool:
        """Count *size_bytes* as under way, if there is room.

        What is larger than the whole room enters when nothing else is there.
        """
        with self._changed:
            return self._enter(size_bytes)

    def enter(self, size_bytes: int) -> None:
        """As ``try_enter``, waiting for room."""
        with self._changed:
            self._changed.wait_for(lambda: self._enter(size_bytes))

    def leave(self, size_bytes: int) -> None:
        with self._changed:
            self._count -= 1
            self._bytes -= size_bytes
            self._changed.notify_all()

    def wait_until_idle(self) -> None:
        """Return when nothing is under way."""
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0)

    def _enter(self, size_bytes: int) -> bool:
        if self._count and (
            self._count >= self._count_max or self._bytes + size_bytes > self._bytes_max
        ):
            return False
        self._count += 1
        self._bytes += size_bytes
        return True


class Reply(NamedTuple):
    """The answers to one or more requests.

    *size_bytes* is what was entered into *load* for it, and *buffer* what its parts lie in.
    """

    parts: list[Buffer]
    size_bytes: int
    buffer: memoryview | None
    load: Load


class ReplySender:
    """Sends over *stream*; what was sent leaves its load, and its memory goes to *buffers*."""

    def __init__(self, stream: Stream, buffers: PayloadBuffers) -> None:
        self._stream = stream
        self._buffers = buffers
        self._lock = threading.Lock()
        self._waiting: deque[Reply] = deque()
        self._is_sending = False
        self.is_broken = False
        """Whether the client is gone; what is given then is dropped."""
        self._left_over: SimpleQueue[list[Buffer] | None] = SimpleQueue()
        self._under_way: list[Reply] = []
        self._thread: threading.Thread | None = None

    def send(self, reply: Reply) -> None:
        """Send *reply*, waiting for the client if need be.  Only the connection's own thread."""
        if self._claim([reply]):
            self._send_all_waiting()

    def post(self, *replies: Reply) -> None:
        """Have *replies* sent, with one call if they fit it; never waits."""
        if not self._claim(replies):
            return
        while parts := self._next():
            rest = self._try(parts)
            if rest:
                self._leave_to_thread(rest)
                return
            self._finish()

    def join(self) -> None:
        """End the thread.  Nothing may be under way."""
        if self._thread is not None:
            self._left_over.put(None)
            self._thread.join()

    def _claim(self, replies: Sequence[Reply]) -> bool:
        """Put *replies* behind the others; whether the caller has to send them."""
        with self._lock:
            self._waiting.extend(replies)
            if self._is_sending:
                return False
            self._is_sending = True
            return True

    def _next(self) -> list[Buffer]:
        """Everything that waits now, or nothing, and then nobody is sending any more."""
        with self._lock:
            assert not self._under_way, "what was sent before is finished"
            if not self._waiting:
                self._is_sending = False
                return []
            if len(self._waiting) == 1:
                self._under_way.append(self._waiting.popleft())
                return self._under_way[0].parts
            self._under_way.extend(self._waiting)
            self._waiting.clear()
            return [part for reply in self._under_way for part in reply.parts]

    def _finish(self) -> None:
        sent, self._under_way = self._under_way, []
        for reply in sent:
            if reply.buffer is not None:
                self._buffers.give_back(reply.buffer)
            reply.load.leave(reply.size_bytes)

    def _send_all_waiting(self) -> None:
        while parts := self._next():
            self._send(parts)
            self._finish()

    def _send(self, parts: list[Buffer]) -> None:
        if self.is_broken:
            return
        try:
            self._stream.send(parts)
        except OSError:
            self._break()

    def _try(self, parts: list[Buffer]) -> list[Buffer]:
        if self.is_broken:
            return []
        try:
            return self._stream.try_send(parts)
        except OSError:
            self._break()
            return []

    def _break(self) -> None:
        """The client is gone: the connection's thread, which may wait for it, is told."""
        self.is_broken = True
        self._stream.break_off()

    def _leave_to_thread(self, rest: list[Buffer]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._send_left_over, name="nbd-sender", daemon=True
            )
            self._thread.start()
        self._left_over.put(rest)

    def _send_left_over(self) -> None:
        while (rest := self._left_over.get()) is not None:
            self._send(rest)
            self._finish()
            self._send_all_waiting()
