"""One line of events for the main thread: what other threads tell it, and signals.

Python runs a signal's handler in the main thread, when that gets to it; if it waits for a
lock while the kernel gives the signal to another thread, that may be never.  A wakeup
descriptor is written whichever thread gets the signal, and waiting on it cannot miss one.
"""

import signal
import socket
import threading
from contextlib import suppress
from enum import Enum
from types import FrameType, TracebackType


class Event(Enum):
    """What the main thread waits for.  The values are none of a signal's."""

    MOUNTED = 0x80
    ENDED = 0x81
    ASKED_TO_END = 0x82  # by a signal


ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""The signals that ask for an end."""


class Events:
    """The events of a context, in which the signals of ``ENDING`` end nothing by themselves.

    Entered and waited on by the main thread.  The handlers and the wakeup descriptor that
    were there before come back afterwards.
    """

    def __init__(self) -> None:
        assert threading.current_thread() is threading.main_thread(), "signals are its business"
        self._inlet, self._outlet = socket.socketpair()
        # A full socket loses an event, which takes hundreds that nobody looked at.
        self._inlet.setblocking(False)

    def __enter__(self) -> "Events":
        self._fd_before = signal.set_wakeup_fd(self._inlet.fileno(), warn_on_full_buffer=False)
        self._handlers_before = {number: signal.signal(number, _go_on) for number in ENDING}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers_before.items():
            # ``None`` is one that Python did not install, and cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._fd_before)
        self._inlet.close()
        self._outlet.close()

    def tell(self, event: Event) -> None:
        """Add an event.  From any thread; nothing happens when nobody waits any more."""
        with suppress(OSError):
            self._inlet.send(bytes((event.value,)))

    def wait(self) -> Event:
        """The next event.  Other signals that this process handles are passed over."""
        while True:
            (number,) = self._outlet.recv(1)
            if number in ENDING:
                return Event.ASKED_TO_END
            if number >= Event.MOUNTED.value:
                return Event(number)


def _go_on(_number: int, _frame: FrameType | None) -> None:
    """Let the wakeup descriptor tell."""
