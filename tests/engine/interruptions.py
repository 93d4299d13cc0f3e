"""Watchers of a snapshot's progress that interfere with it, as the world does."""

from collections.abc import Callable


class Interrupted(Exception):
    """A snapshot is to end here."""


class Interference:
    """Calls *act* once, when *leaf_count* leaves are done; with 0 before the first is read."""

    def __init__(self, leaf_count: int, act: Callable[[], None]) -> None:
        self._left = leaf_count
        self._act = act

    def begin(self, what: str, total_bytes: int | None) -> None:
        del what, total_bytes
        if self._left == 0:
            self._left = -1
            self._act()

    def advance(self, size_bytes: int) -> None:
        del size_bytes
        self._left -= 1
        if self._left == 0:
            self._act()

    def end(self) -> None:
        return


def interruption(leaf_count: int) -> Interference:
    """Ends the snapshot when *leaf_count* leaves are done."""

    def interrupt() -> None:
        raise Interrupted

    return Interference(leaf_count, interrupt)
