"""How long work tells of its progress."""

from typing import Protocol


class Progress(Protocol):
    """Somebody who watches.  ``advance`` may be called from any thread."""

    def begin(self, what: str, total_bytes: int | None) -> None:
        """A stage begins; *total_bytes* is ``None`` where nobody can know it."""

    def advance(self, size_bytes: int) -> None:
        """That many more bytes of the stage are done."""

    def end(self) -> None:
        """The stage is over."""


class Unwatched:
    """Nobody watches."""

    def begin(self, what: str, total_bytes: int | None) -> None:
        del what, total_bytes

    def advance(self, size_bytes: int) -> None:
        del size_bytes

    def end(self) -> None:
        return
