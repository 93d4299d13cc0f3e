"""Noting on a pending snapshot how far it is, for whoever lists snapshots meanwhile.

A note is a transaction, so there is at most one a second, and none for a snapshot that is
taken faster.  It may be lost without harm: a snapshot that fails keeps the last.
"""

import threading
import time
from contextlib import suppress
from dataclasses import replace

from ebsim.catalog.records import find_snapshot, put_snapshot
from ebsim.catalog.snapshot import SnapshotState
from ebsim.errors import StorageUnavailable
from ebsim.ids import SnapshotId
from ebsim.metadata.transactions import Metadata, Transaction
from ebsim.progress import Progress

_NOTE_INTERVAL_SECONDS = 1.0
_PERCENT_MAX = 99
"""What is not completed is never shown as all done."""


class NotedProgress:
    """A :class:`ebsim.progress.Progress` that passes on to *inner* what it notes."""

    def __init__(self, metadata: Metadata, snapshot_id: SnapshotId, inner: Progress) -> None:
        self._metadata = metadata
        self._snapshot_id = snapshot_id
        self._inner = inner
        self._lock = threading.Lock()
        self._total_bytes: int | None = None
        self._done_bytes = 0
        self._noted_percent = 0
        self._noted_at = time.monotonic()

    def begin(self, what: str, total_bytes: int | None) -> None:
        with self._lock:
            self._total_bytes, self._done_bytes = total_bytes, 0
        self._inner.begin(what, total_bytes)

    def advance(self, size_bytes: int) -> None:
        self._inner.advance(size_bytes)
        with self._lock:
            self._done_bytes += size_bytes
            percent = self._percent_to_note()
        if percent is not None:
            # How far it is, is not worth a snapshot; what ails the disk, the next step tells.
            with suppress(StorageUnavailable):
                self._metadata.run(lambda txn: self._note(txn, percent))

    def end(self) -> None:
        self._inner.end()

    def _percent_to_note(self) -> int | None:
        now = time.monotonic()
        if not self._total_bytes or now - self._noted_at < _NOTE_INTERVAL_SECONDS:
            return None
        percent = min(_PERCENT_MAX, 100 * self._done_bytes // self._total_bytes)
        if percent <= self._noted_percent:
            return None
        self._noted_percent, self._noted_at = percent, now
        return percent

    def _note(self, txn: Transaction, percent: int) -> None:
        pending = find_snapshot(txn, self._snapshot_id)
        if pending is not None and pending.state is SnapshotState.PENDING:
            put_snapshot(txn, replace(pending, progress_percent=percent))
