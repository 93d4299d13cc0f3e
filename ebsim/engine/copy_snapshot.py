"""Copying a snapshot to another region, or to another record within its own.

    0  transaction   in the source: a reader's hold on the root
    1  transaction   the copy is pending; what an interrupted copy of the same had is claimed
    2  packs sealed, transaction after transaction: finished nodes, held by the copy
    3  manifest written
    4  transaction   completed: the one point at which the copy exists
    5  transaction   holds that are not the root's are dropped, the source's as well

The copy has the source's block map, root digest and all: the encoding of a map is the same
in every region.  Nothing of the source but that is copied: not its tags, not who may use it.

Source: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-copy-snapshot.html
"""

import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ebsim.blockmap.geometry import FAN_OUT
from ebsim.catalog.manifest import write_manifest
from ebsim.catalog.records import find_snapshot, get_usable_snapshot, put_snapshot, put_volume
from ebsim.catalog.snapshot import Snapshot, SnapshotState, completed_from
from ebsim.catalog.volume import UNKNOWN_VOLUME, Volume
from ebsim.chunkstore.chunk_index import find_node_rows, find_numbers
from ebsim.chunkstore.chunk_writer import ChunkWriter
from ebsim.chunkstore.sessions import Session
from ebsim.content.compression import LEVEL_DEFAULT
from ebsim.engine.copy_tree import TreeCopy
from ebsim.engine.create_snapshot import clear_up
from ebsim.engine.holds import root_holder, take_hold
from ebsim.engine.noted_progress import NotedProgress
from ebsim.engine.reading_snapshot import reading_snapshot
from ebsim.engine.record_events import snapshot_copied
from ebsim.engine.recovery import claim_interrupted_upload, note_snapshot, recover, upload_of
from ebsim.engine.region import Region, next_generation
from ebsim.engine.snapshot_steps import end_session, let_go
from ebsim.engine.source_volume import BLOCK_SIZE_DEFAULT
from ebsim.engine.storage_tiers import refuse_archived
from ebsim.engine.tags import check_description, check_tags
from ebsim.errors import ChunkMissing, Conflict, EbsimError, InvalidRequest, StorageFull
from ebsim.ids import Digest, SnapshotId, new_snapshot_id
from ebsim.metadata.transactions import Transaction
from ebsim.progress import Progress, Unwatched

PENDING_MESSAGE = "Metadata not updated"
"""What the real service says of a copy until it knows anything of it."""

DURATION_MIN_MINUTES, DURATION_MAX_MINUTES, DURATION_STEP_MINUTES = 15, 2880, 15


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """What the copy is to be.

    Attributes:
        completion_duration_minutes: For a time-based copy: 15 to 2880, in steps of 15.  It
            is kept and told; the copy is made as fast as can be.
        thread_count: Threads that read and prove; ``None`` is one a processor.
        is_announced: The copy's id is given out while it is pending: it stays listed, as
            failed, if it breaks off.
        system_tags: Tags that nobody could set, by which what made it knows it again.
    """

    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    completion_duration_minutes: int | None = None
    thread_count: int | None = None
    is_announced: bool = False
    system_tags: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what Amazon refuses, whatever the source is."""
        check_tags(self.tags)
        check_description(self.description)
        minutes = self.completion_duration_minutes
        if minutes is not None and (
            not DURATION_MIN_MINUTES <= minutes <= DURATION_MAX_MINUTES
            or minutes % DURATION_STEP_MINUTES
        ):
            raise InvalidRequest(
                f"'{minutes}' is not a valid value for completion duration. Specify a value "
                "between 15 and 2880 minutes, in 15 minute increments only"
            )


class Copied(NamedTuple):
    """A completed copy, and what travelled for it.

    Attributes:
        is_incremental: The destination had some of it before.
        sent_count: Blocks that travelled.
        sent_bytes: Their records' bytes.
    """

    snapshot: Snapshot
    is_incremental: bool
    sent_count: int
    sent_bytes: int


def copy_snapshot(
    region: Region,
    source: Region,
    name: str,
    options: CopyOptions | None = None,
    progress: Progress | None = None,
) -> Copied:
    """Copy the snapshot *name* of *source* into *region*, for the account that acts there.

    Cost: what *region* has not is read, proved by digest and appended as it lies; for the
    rest, a look at the inner nodes above it.  Within one region nothing is copied.  A copy
    that broke off is gone on from by the next of the same snapshot.

    Raises:
        SnapshotNotFound, InvalidRequest: *name*, or an option.
        SnapshotArchived: the source is archived.
        Conflict: the source is not completed, or the copy was taken out of the catalog.
        ChunkCorrupt, ChunkMissing: the source is damaged; no copy was made.
        StorageFull, StorageUnavailable: in either region; no copy was made.
    """
    copy = SnapshotCopy(region, source, name, options or CopyOptions())
    copy.begin()
    return copy.run(progress or Unwatched())


def register_failed_copy(
    region: Region, source_name: str, source_id: str, options: CopyOptions, why: str
) -> Snapshot:
    """List a copy that failed before it began; return it.

    The real service accepts copies of what it then does not find.
    """
    options.check()
    failed = Snapshot(
        snapshot_id=new_snapshot_id(region.random),
        volume_id=UNKNOWN_VOLUME.volume_id,
        owner_id=region.account_id,
        state=SnapshotState.ERROR,
        state_message=why,
        start_time_ns=region.clock.now_ns(),
        size_bytes=0,
        block_size=BLOCK_SIZE_DEFAULT,
        generation=0,
        description=options.description,
        tags=dict(options.tags),
        copied_from=f"{source_name}/{source_id}",
        completion_duration_minutes=options.completion_duration_minutes,
    )

    def put(txn: Transaction) -> None:
        put_volume(txn, UNKNOWN_VOLUME)
        put_snapshot(txn, failed)
        snapshot_copied(txn, region, failed, why)

    region.metadata.run(put)
    return failed


class SnapshotCopy:
    """One snapshot being copied: ``begin`` makes the copy pending, ``run`` ends it."""

    def __init__(self, region: Region, source: Region, name: str, options: CopyOptions) -> None:
        """Check what is asked.

        Raises:
            SnapshotNotFound, InvalidRequest, SnapshotArchived, Conflict: as
                :func:`copy_snapshot`.
        """
        options.check()
        original = source.metadata.read(
            lambda reader: get_usable_snapshot(reader, source.account_id, name)
        )
        refuse_archived(source, original)
        if original.state is not SnapshotState.COMPLETED or original.root is None:
            raise Conflict(
                f"{original.snapshot_id} is {original.state}, not completed. Nothing was copied."
            )
        self._region = region
        self._source = source
        self._original = original
        self._root: Digest = original.root
        self._options = options
        self._reading = ExitStack()
        self._claimed: SnapshotId | None = None
        self._in_manifest: tuple[Snapshot, Volume] | None = None

    def begin(self) -> Snapshot:
        """Steps 0 and 1; returns the pending copy.

        ``run`` must follow.  If the process ends before that is done, recovery clears up.
        """
        region = self._region
        with ExitStack() as begun:
            begun.enter_context(reading_snapshot(self._source, self._original))
            recover(region)
            region.reserve.fill()
            self._copy = self._planned()
            self._session = region.open_session()
            try:
                self._claimed = region.metadata.run(self._register)
            except BaseException:
                self._session.abandon()
                self._clear_up(None)
                raise
            self._reading = begun.pop_all()
        return self._copy

    def run(self, progress: Progress) -> Copied:
        """Steps 2 to 5; on failure leave nothing but what recovery keeps for the next try.

        A copy that was announced stays listed, as failed.
        """
        region, session = self._region, self._session
        with self._reading:
            try:
                copied = self._make(progress)
                end_session(region, session, lambda: self._let_go(session, copied.snapshot))
            except BaseException as error:
                session.abandon()
                self._clear_up(error)
                raise
            session.close()
            return copied

    def _clear_up(self, error: BaseException | None) -> None:
        """As in create_snapshot: whoever opens the region next does it where this fails."""
        is_full = isinstance(error, StorageFull)
        with suppress(EbsimError):
            if self._options.is_announced and error is not None:
                why = str(error) if isinstance(error, EbsimError) else "The copy was interrupted."
                self._region.metadata.run(lambda txn: self._fail(txn, why))
            clear_up(self._region, upload_of(self._copy), is_full=is_full)

    def _fail(self, txn: Transaction, why: str) -> None:
        """The copy failed, and stays listed as such."""
        pending = find_snapshot(txn, self._copy.snapshot_id)
        if pending is not None and pending.state is SnapshotState.PENDING:
            failed = replace(pending, state=SnapshotState.ERROR, state_message=why)
            put_snapshot(txn, failed)
            snapshot_copied(txn, self._region, failed, why)

    def _let_go(self, session: Session, snapshot: Snapshot) -> None:
        """Step 5."""
        let_go(self._region, session, snapshot, self._claimed, self._in_manifest)

    def _planned(self) -> Snapshot:
        """The copy as it is registered."""
        original, options = self._original, self._options
        return Snapshot(
            snapshot_id=new_snapshot_id(self._region.random),
            volume_id=UNKNOWN_VOLUME.volume_id,
            owner_id=self._region.account_id,
            state=SnapshotState.PENDING,
            start_time_ns=self._region.clock.now_ns(),
            size_bytes=0,
            block_size=original.block_size,
            generation=original.generation,
            state_message=PENDING_MESSAGE,
            is_announced=options.is_announced,
            description=options.description,
            tags={**options.tags, **options.system_tags},
            copied_from=f"{self._source.name}/{original.snapshot_id}",
            completion_duration_minutes=options.completion_duration_minutes,
        )

    def _make(self, progress: Progress) -> Copied:
        """Steps 2 to 4."""
        region = self._region
        tree, stored_bytes = self._send(progress)
        completed = replace(
            self._copy,
            state=SnapshotState.COMPLETED,
            state_message="",
            is_announced=False,
            size_bytes=self._original.size_bytes,
            root=self._root,
            completion_time_ns=region.clock.now_ns(),
            block_count=self._original.block_count,
            changed_block_count=self._original.block_count,
            stored_bytes=stored_bytes,
            referenced_bytes=self._original.referenced_bytes,
        )
        # Proves that the root is there, whole; each node below was proved when it came.
        region.chunks.read(self._root)
        write_manifest(region.backend, completed, UNKNOWN_VOLUME)
        self._in_manifest = (completed, UNKNOWN_VOLUME)
        is_incremental = tree.is_incremental
        completed = region.metadata.run(
            lambda txn: self._complete(txn, completed, is_incremental=is_incremental)
        )
        return Copied(completed, tree.is_incremental, tree.sent_count, tree.sent_bytes)

    def _register(self, txn: Transaction) -> SnapshotId | None:
        """Step 1.  Write generations of the region go on above those that the copy brings."""
        session_id, copy = self._session.session_id, self._copy
        next_generation(txn, copy.generation)
        put_volume(txn, UNKNOWN_VOLUME)
        put_snapshot(txn, copy)
        note_snapshot(txn, session_id, copy.snapshot_id)
        return claim_interrupted_upload(txn, session_id, upload_of(copy))

    def _send(self, progress: Progress) -> tuple[TreeCopy, int]:
        """Step 2; returns what travelled, and what was added to the packs."""
        region = self._region
        writer = ChunkWriter(
            region.backend,
            region.metadata,
            self._session,
            level=LEVEL_DEFAULT,
            read_again=lambda index: tree.read_again(index),
        )
        tree = TreeCopy(
            self._source.chunks,
            self._root,
            metadata=region.metadata,
            writer=writer,
            holder_id=self._copy.snapshot_id,
        )
        noted = NotedProgress(region.metadata, self._copy.snapshot_id, progress)
        try:
            noted.begin("copy", self._original.size_bytes)
            threads = self._options.thread_count or len(os.sched_getaffinity(0))
            tree.run(noted, FAN_OUT * self._original.block_size, threads)
        finally:
            writer.close()
            noted.end()
        return tree, writer.stored_bytes

    def _complete(
        self, txn: Transaction, completed: Snapshot, *, is_incremental: bool
    ) -> Snapshot:
        """Step 4."""
        pending = find_snapshot(txn, completed.snapshot_id)
        if pending is None or pending.state is not SnapshotState.PENDING:
            raise Conflict(
                f"{completed.snapshot_id} was taken out of the catalog while it was being "
                "copied. No copy was made. Run the command again."
            )
        number = find_numbers(txn, [self._root]).get(self._root, 0)
        if find_node_rows(txn, [number]) == [None]:
            raise ChunkMissing(self._root)
        completed = completed_from(pending, completed)
        put_snapshot(txn, completed)
        take_hold(txn, root_holder(completed.snapshot_id), self._root)
        snapshot_copied(txn, self._region, completed, is_incremental=is_incremental)
        return completed
