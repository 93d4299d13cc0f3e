"""A clock that a file drives, so that months pass in seconds.

The file says ``2027-01-31T04:00:00Z``, and that is the time until it says another; or
``+30d`` (s, m, h, d), and the time is the machine's and that.  It is read whenever somebody
asks for the time.  While it is missing or says neither, the last time that it said counts,
and before that the machine's.
"""

import re
import threading
from pathlib import Path

from ebsim.clock import Clock, from_iso8601

_AHEAD = re.compile(r"\+([0-9]{1,9})([smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class DrivenClock:
    """The time that a file says.  Safe from many threads."""

    def __init__(self, path: Path, machine: Clock) -> None:
        self._path = path
        self._machine = machine
        self._lock = threading.Lock()
        self._text = ""
        self._still_ns: int | None = None
        self._ahead_ns = 0

    def now_ns(self) -> int:
        try:
            text = self._path.read_text("utf-8").strip()
        except (OSError, ValueError):
            text = ""
        with self._lock:
            if text != self._text:
                self._take(text)
            if self._still_ns is not None:
                return self._still_ns
            return self._machine.now_ns() + self._ahead_ns

    def _take(self, text: str) -> None:
        """Go by *text*, if it says a time."""
        self._text = text
        ahead = _AHEAD.fullmatch(text)
        if ahead is not None:
            self._still_ns = None
            self._ahead_ns = int(ahead[1]) * _UNIT_SECONDS[ahead[2]] * 10**9
            return
        try:
            self._still_ns = from_iso8601(text)
        except ValueError:
            return
