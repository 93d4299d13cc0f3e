"""Taking a snapshot of a file, device or stream; ``snapshot_steps.py`` has the steps."""

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ebsim.catalog.records import newest_completed
from ebsim.catalog.snapshot import Snapshot
from ebsim.chunkstore.sessions import Session
from ebsim.engine.disk import Disk, SeekableDisk, StreamedDisk
from ebsim.engine.holds import drop_all_holds
from ebsim.engine.leaf_scan import FingerprintLied
from ebsim.engine.recovery import drop_interrupted_upload, recover
from ebsim.engine.region import Region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_steps import (
    Registered,
    Subject,
    base_of,
    complete_one,
    completed_snapshot,
    end_session,
    let_go,
    register,
    upload,
    write_first_manifest,
)
from ebsim.engine.source_volume import (
    agreed_block_size,
    find_source_volume,
    refuse_store_as_source,
    register_volume,
    source_path,
)
from ebsim.errors import EbsimError, IntegrityError, SourceUnusable, StorageFull
from ebsim.metadata.transactions import Transaction
from ebsim.progress import Progress, Unwatched
from ebsim.sources.open_source import open_source
from ebsim.sources.source import StreamSource

if TYPE_CHECKING:
    from ebsim.catalog.volume import Volume
    from ebsim.ids import SnapshotId, VolumeId


OnBegun = Callable[[Sequence[Snapshot]], None]
"""Is told of snapshots once they are pending and their point in time has passed."""


def create_snapshot(
    region: Region,
    source_name: str,
    options: SnapshotOptions | None = None,
    progress: Progress | None = None,
    *,
    on_begun: OnBegun | None = None,
) -> Snapshot:
    """Snapshot *source_name*, a path or the id of a source volume; return it completed.

    *on_begun* is told of it as soon as it is pending.

    Cost: one read of the source's data extents; compression of what the store does not
    have; for each leaf that changed one node, and those above it.

    Raises:
        SourceUnusable: the source cannot be read as asked.
        InvalidRequest: an option makes no sense.
        StorageFull, StorageUnavailable: the store has no room or failed; no snapshot was
            made.
    """
    options = options or SnapshotOptions()
    options.check()
    path, volume = source_path(region, source_name)
    source = open_source(
        path, format=options.image_format, allow_backing_file=options.allow_backing_file
    )
    with closing(source):
        refuse_store_as_source(source.location)
        volume_id = volume.volume_id if volume else None
        taking = _Taking(region, options, progress or Unwatched(), on_begun)
        return taking.run(source.location, volume_id, SeekableDisk(source))


def create_snapshot_of_stream(
    region: Region,
    stream: StreamSource,
    volume_id: str | None,
    options: SnapshotOptions | None = None,
    progress: Progress | None = None,
) -> Snapshot:
    """Snapshot a disk that is piped in, as one of *volume_id*, or of a new volume.

    Raises:
        As :func:`create_snapshot`; a chunk that another process deletes at the wrong
        moment fails the snapshot, since the stream cannot be read again.
    """
    options = options or SnapshotOptions()
    options.check()
    taking = _Taking(region, options, progress or Unwatched())
    return taking.run("", volume_id, StreamedDisk(stream))


class _Taking:
    """One snapshot being taken."""

    def __init__(
        self,
        region: Region,
        options: SnapshotOptions,
        progress: Progress,
        on_begun: OnBegun | None = None,
    ) -> None:
        self._region = region
        self._options = options
        self._progress = progress
        self._on_begun = on_begun
        self._volume_id: VolumeId | None = None
        self._claimed: SnapshotId | None = None
        self._in_manifest: tuple[Snapshot, Volume] | None = None

    def run(self, location: str, volume_id: str | None, disk: Disk) -> Snapshot:
        """Take it; on failure leave nothing but what recovery keeps for the next try."""
        region = self._region
        recover(region)
        region.reserve.fill()
        try:
            with region.session() as session:
                snapshot = self._take(session, location, volume_id, disk)
                end_session(region, session, lambda: self._let_go(session, snapshot))
                return snapshot
        except BaseException as error:
            # The failure that ended the snapshot may keep this from working as well; then
            # whoever opens the region next does it.
            with suppress(EbsimError):
                clear_up(region, self._volume_id, is_full=isinstance(error, StorageFull))
            raise

    def _let_go(self, session: Session, snapshot: Snapshot) -> None:
        let_go(self._region, session, snapshot, self._claimed, self._in_manifest)

    def _take(
        self, session: Session, location: str, volume_id: str | None, disk: Disk
    ) -> Snapshot:
        region = self._region
        started = region.metadata.run(
            lambda txn: self._register(txn, session, location, volume_id, disk)
        )
        self._volume_id, self._claimed = started.volume.volume_id, started.claimed
        if self._on_begun is not None:
            self._on_begun([started.snapshot])
        options = self._options
        upload_all = partial(upload, region, session, options=options, progress=self._progress)
        try:
            uploaded = upload_all(started, disk, rehash=options.rehash)
            message = ""
        except (FingerprintLied, IntegrityError) as error:
            started, message = start_over(region, started, disk, error)
            uploaded = upload_all(started, disk, rehash=True)
        snapshot = completed_snapshot(region, started, disk, uploaded, message)
        volume = write_first_manifest(region, started, snapshot)
        self._in_manifest = (snapshot, volume)
        return region.metadata.run(lambda txn: complete_one(txn, region, snapshot, volume))

    def _register(
        self,
        txn: Transaction,
        session: Session,
        location: str,
        volume_id: str | None,
        disk: Disk,
    ) -> Registered:
        """Step 1, for a volume that is found or made."""
        region, options = self._region, self._options
        found = find_source_volume(txn, region, location, volume_id)
        block_size = agreed_block_size(found, options.block_size)
        volume = register_volume(txn, region, found, location, block_size)
        base = base_of(newest_completed(txn, volume.volume_id))
        subject = Subject(replace(volume, size_bytes=disk.size_bytes), base)
        return register(txn, region, session, subject, options)


def clear_up(region: Region, upload: str | None, *, is_full: bool) -> None:
    """Recover from a snapshot's own failure.

    What it had stored is kept for the next try, unless the disk *is_full*: then nobody
    could get that room back without another snapshot of the same.
    """
    region.reserve.use_if_full(lambda: recover(region))
    if is_full and upload is not None:
        region.reserve.use_if_full(lambda: drop_interrupted_upload(region, upload))
        region.reclaimer().run()


def start_over(
    region: Region, started: Registered, disk: Disk, error: FingerprintLied | IntegrityError
) -> tuple[Registered, str]:
    """What to scan again from, and the sentence that says why.

    A fingerprint that lied makes all of them doubtful.  A block map that cannot be read
    is no base to build on: the disk is then stored as if it had no parent, which finds
    every chunk that is intact by its digest.
    """
    if not disk.can_be_read_again:
        raise SourceUnusable(
            f"the stream would have to be read again: {error} No snapshot was made. "
            "Pipe it in once more with --rehash, after 'ebsim store check --repair'."
        ) from error
    drop_all_holds(region, started.snapshot.snapshot_id)
    if isinstance(error, FingerprintLied):
        return started, (
            f"block {error.block_index} had changed under the fingerprint it had before; "
            "every block was compared by digest."
        )
    if started.base is None and not started.interrupted:
        raise error
    return replace(started, base=None, interrupted=[]), (
        f"the parent snapshot was not built on: {error}"
    )
