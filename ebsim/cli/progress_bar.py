"""A progress bar with rate and time left, on standard error."""

import sys
import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

# Work comes in blocks at up to 20 GB/s; drawing costs far more than counting.
_DRAW_INTERVAL_SECONDS = 0.1


class ProgressBar:
    """An :class:`ebsim.progress.Progress` that people can see.

    Used as a context manager, it leaves the terminal as it was however the work ends.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._lock = threading.Lock()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._undrawn_bytes = 0
        self._drawn_at = 0.0

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def begin(self, what: str, total_bytes: int | None) -> None:
        self.end()
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeElapsedColumn() if total_bytes is None else TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        task = bar.add_task(what, total=total_bytes)
        bar.start()
        with self._lock:
            self._bar, self._task = bar, task
            self._undrawn_bytes, self._drawn_at = 0, time.monotonic()

    def advance(self, size_bytes: int) -> None:
        now = time.monotonic()
        with self._lock:
            self._undrawn_bytes += size_bytes
            if now - self._drawn_at < _DRAW_INTERVAL_SECONDS:
                return
            self._drawn_at = now
            self._draw()

    def end(self) -> None:
        with self._lock:
            self._draw()
            bar, self._bar = self._bar, None
        if bar is not None:
            bar.stop()

    def _draw(self) -> None:
        if self._bar is not None:
            self._bar.advance(self._task, self._undrawn_bytes)
            self._undrawn_bytes = 0
