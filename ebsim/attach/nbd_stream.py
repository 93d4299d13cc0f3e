"""A connection's bytes, plain or encrypted, with the calls that a fast server needs.

One thread receives while another sends; two may not do the same.
"""

import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol, cast

Buffer = bytes | bytearray | memoryview

# Linux takes this many pieces in one call (UIO_MAXIOV).
_PARTS_MAX = 1024
_TLS_READ_BYTES = 256 << 10


class Stream(Protocol):
    """What a connection needs.  Every call fails with ``OSError`` when the peer is gone."""

    def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes and put at most ``len(buffer)`` there; 0 at the stream's end."""

    def send(self, parts: Sequence[Buffer]) -> None:
        """Send everything, however long the peer takes to make room."""

    def try_send(self, parts: Sequence[Buffer]) -> list[Buffer]:
        """Send what goes at once; return the rest."""

    def set_deadline(self, seconds: float | None) -> None:
        """Let every call fail with ``TimeoutError`` from *seconds* after now on."""

    def stop_receiving(self) -> None:
        """Let ``receive_into`` end, from another thread; what can be sent still is."""

    def break_off(self) -> None:
        """Let both directions fail, from another thread."""

    def close(self) -> None:
        """Take leave and close.  No other call may be under way."""


class PlainStream:
    """The bytes as they are.  Owns *sock*."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._deadline: float | None = None
        sock.settimeout(None)

    def receive_into(self, buffer: memoryview) -> int:
        if self._deadline is not None:
            self._hurry(self._deadline)
        return self._sock.recv_into(buffer)

    def send(self, parts: Sequence[Buffer]) -> None:
        rest = list(parts)
        while rest:
            if self._deadline is not None:
                self._hurry(self._deadline)
            rest = _after(rest, self._sock.sendmsg(rest[:_PARTS_MAX]))

    def try_send(self, parts: Sequence[Buffer]) -> list[Buffer]:
        rest = list(parts)
        while rest:
            try:
                count = self._sock.sendmsg(rest[:_PARTS_MAX], [], socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            rest = _after(rest, count)
        return rest

    def set_deadline(self, seconds: float | None) -> None:
        self._deadline = None if seconds is None else time.monotonic() + seconds
        # Python's time-outs cost a poll for each call: only while a deadline is set.
        if seconds is None:
            self._sock.settimeout(None)

    def stop_receiving(self) -> None:
        self._shut(socket.SHUT_RD)

    def break_off(self) -> None:
        self._shut(socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()

    def _hurry(self, deadline: float) -> None:
        left_seconds = deadline - time.monotonic()
        if left_seconds <= 0:
            raise TimeoutError("the deadline has passed")
        self._sock.settimeout(left_seconds)

    def _shut(self, how: int) -> None:
        with suppress(OSError):  # the peer has closed it, or we have: which is what was wanted
            self._sock.shutdown(how)


class TlsStream:
    """TLS over another stream, which it owns.

    OpenSSL's state is not for two threads at once, so receiving and sending meet in a lock
    that is held only while bytes in memory are worked on, never while the peer is waited
    for.

    Raises:
        OSError: the peer does not shake hands; ``ssl.SSLError`` is one.
    """

    def __init__(self, lower: Stream, context: ssl.SSLContext) -> None:
        self._lower = lower
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._lock = threading.Lock()
        self._received = memoryview(bytearray(_TLS_READ_BYTES))
        self._shake_hands()

    def receive_into(self, buffer: memoryview) -> int:
        while True:
            with self._lock:
                try:
                    # With a buffer it returns a count, which its stub does not say.
                    return cast("int", self._tls.read(len(buffer), buffer))
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    return 0
            self._fill()

    def send(self, parts: Sequence[Buffer]) -> None:
        for part in parts:
            with self._lock:
                # A memory BIO takes everything, so one call is all.
                if len(part):
                    self._tls.write(part)
                encrypted = self._outgoing.read()
            self._lower.send([encrypted])

    def try_send(self, parts: Sequence[Buffer]) -> list[Buffer]:
        return list(parts)  # what is encrypted has to be sent: it cannot be tried

    def set_deadline(self, seconds: float | None) -> None:
        self._lower.set_deadline(seconds)

    def stop_receiving(self) -> None:
        self._lower.stop_receiving()

    def break_off(self) -> None:
        self._lower.break_off()

    def close(self) -> None:
        with suppress(ssl.SSLError, ValueError):  # the peer's own farewell is not waited for
            self._tls.unwrap()
        with suppress(OSError):  # it may be gone already
            self._lower.try_send([self._outgoing.read()])
        self._lower.close()

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._lower.send([self._outgoing.read()])
                self._fill()
                if self._incoming.eof:
                    raise ConnectionResetError(
                        "the client left during the TLS handshake"
                    ) from None
                continue
            except ssl.SSLError:
                self._lower.try_send([self._outgoing.read()])  # the alert that says why
                raise
            self._lower.send([self._outgoing.read()])
            return

    def _fill(self) -> None:
        count = self._lower.receive_into(self._received)
        with self._lock:
            if count:
                self._incoming.write(self._received[:count])
            else:
                self._incoming.write_eof()


def _after(parts: list[Buffer], sent_bytes: int) -> list[Buffer]:
    """What is left of *parts* behind the first *sent_bytes*."""
    for index, part in enumerate(parts):
        if sent_bytes < len(part):
            return [memoryview(part)[sent_bytes:], *parts[index + 1 :]]
        sent_bytes -= len(part)
    return []
