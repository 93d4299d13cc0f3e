"""Waiting for what another process does, which tells nobody when it has done it."""

import time
from collections.abc import Callable

_LONGEST_PAUSE_SECONDS = 0.1


def wait_until(is_so: Callable[[], bool], timeout_seconds: float) -> bool:
    """Ask *is_so* again and again, ever more seldom, until it is; ``False`` after the time."""
    deadline = time.monotonic() + timeout_seconds
    pause = 0.001
    while not is_so():
        rest = deadline - time.monotonic()
        if rest <= 0:
            return False
        time.sleep(min(pause, rest))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
    return True
