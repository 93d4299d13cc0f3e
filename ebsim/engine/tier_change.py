"""What archiving and restoring have in common: they begin, take long, and succeed or fail.

While one runs, a session has noted the snapshot.  When its process dies, recovery says of
the snapshot that it failed, and clears up what it left.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from ebsim.catalog.records import find_snapshot, get_snapshot, put_snapshot
from ebsim.catalog.snapshot import Snapshot
from ebsim.engine.holds import drop_all_holds, reader_of
from ebsim.engine.record_tier_events import tiering_failed
from ebsim.engine.recovery import (
    forget_snapshot,
    note_snapshot,
    recover,
    write_current_manifest,
)
from ebsim.engine.region import Region
from ebsim.engine.storage_tiers import delete_dropped_archives
from ebsim.errors import Conflict, EbsimError, SnapshotNotFound
from ebsim.metadata.transactions import Reader, Transaction


class TierChange:
    """A snapshot whose tier is being changed, and the session that does it."""

    def __init__(self, region: Region, name: str, begun: Callable[[Snapshot], Snapshot]) -> None:
        """Make of the account's snapshot *name* what *begun* says, and note it.

        Raises:
            SnapshotNotFound, InvalidRequest, NotPermitted: *name*.
            Conflict: another change is under way.  Whatever *begun* raises.
        """

        def changed(reader: Reader) -> Snapshot:
            old = get_snapshot(reader, region.account_id, name)
            if old.tiering is not None and old.tiering.status.is_in_progress:
                raise Conflict(
                    f"{old.snapshot_id}: {old.tiering.status}. Nothing was changed. Wait until "
                    "that is done."
                )
            return begun(old)

        def begin(txn: Transaction) -> Snapshot:
            new = changed(txn)
            tiering = new.tiering
            assert tiering is not None, "a change of the tier begins"
            new = replace(new, tiering=replace(tiering, session_id=self.session.session_id))
            put_snapshot(txn, new)
            note_snapshot(txn, self.session.session_id, new.snapshot_id)
            return new

        region.metadata.read(changed)
        self._region = region
        self.session = region.open_session()
        try:
            self.snapshot = region.metadata.run(begin)
            write_current_manifest(region, self.snapshot.snapshot_id)
        except BaseException:
            self.session.abandon()
            raise

    @contextmanager
    def running(self) -> Iterator[None]:
        """Do the body; the change has failed if that raises, and is over in any case."""
        try:
            yield
        except BaseException as error:
            with suppress(EbsimError):
                self._fail(error)
            self.session.abandon()
            with suppress(EbsimError):
                recover(self._region)
            raise
        self._finish()

    def _finish(self) -> None:
        region, snapshot_id = self._region, self.snapshot.snapshot_id
        try:
            write_current_manifest(region, snapshot_id)
            region.metadata.run(
                lambda txn: forget_snapshot(txn, self.session.session_id, snapshot_id)
            )
            drop_all_holds(region, reader_of(self.session.session_id))
            region.reclaimer(ended=[self.session.session_id]).run()
            delete_dropped_archives(region)
        except EbsimError:
            # What counts is done; recovery does the rest, and meets the failure if it lasts.
            self.session.abandon()
            return
        self.session.close()

    def _fail(self, error: BaseException) -> None:
        """Say of the snapshot that the change failed."""
        snapshot_id = self.snapshot.snapshot_id

        def fail(txn: Transaction) -> None:
            snapshot = find_snapshot(txn, snapshot_id)
            if snapshot is None or snapshot.tiering is None:
                raise SnapshotNotFound(snapshot_id)
            if snapshot.tiering.session_id != self.session.session_id:
                return
            why = str(error) or type(error).__name__
            new = replace(snapshot, tiering=snapshot.tiering.failed(why))
            put_snapshot(txn, new)
            tiering_failed(txn, self._region, new)

        self._region.metadata.run(fail)
