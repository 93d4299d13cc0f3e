"""Taking a snapshot of a file, device or stream.

The order of what becomes durable, each step relying on those before it:

    1  transaction   the snapshot is pending; its parent's root is held
    2  packs sealed, transaction after transaction: finished nodes, held by the snapshot
    3  manifest written
    4  transaction   completed: the one point at which the snapshot exists
    5  transaction   holds that are not the root's are dropped

A process that dies before 4 leaves no snapshot, one that dies after it a whole one.  What
fails in 5 is not the snapshot's failure: recovery does it for whoever comes next.
"""

from contextlib import closing, suppress
from dataclasses import dataclass, replace
from random import Random

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.node_store import empty_root
from ebsim.catalog.manifest import write_manifest
from ebsim.catalog.records import find_snapshot, newest_completed, put_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.volume import Volume
from ebsim.chunkstore.chunk_writer import ChunkWriter
from ebsim.chunkstore.rows import Holder
from ebsim.chunkstore.sessions import Session
from ebsim.engine.disk import Disk, SeekableDisk, StreamedDisk
from ebsim.engine.finished_leaves import held_nodes, leaves_below
from ebsim.engine.holds import drop_all_holds, reader_of, root_holder, take_hold
from ebsim.engine.leaf_scan import FingerprintLied, LeafScanner, ScanSettings
from ebsim.engine.new_nodes import NewNodes
from ebsim.engine.recovery import (
    claim_interrupted_upload,
    drop_interrupted_upload,
    forget_snapshot,
    let_go_of_claimed,
    note_snapshot,
    recover,
    write_current_manifest,
)
from ebsim.engine.region import Region, next_generation
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.source_volume import (
    agreed_block_size,
    find_source_volume,
    refuse_store_as_source,
    register_volume,
    source_path,
    update_volume_size,
)
from ebsim.engine.upload import Upload, Uploaded
from ebsim.errors import (
    Conflict,
    EbsimError,
    IntegrityError,
    SourceUnusable,
    StorageFull,
    StorageUnavailable,
)
from ebsim.ids import Digest, SnapshotId, VolumeId, new_snapshot_id
from ebsim.metadata.transactions import Reader, Table, Transaction
from ebsim.progress import Progress, Unwatched
from ebsim.sources.open_source import open_source
from ebsim.sources.source import StreamSource

_PARENT_LEVEL = 254

_DAMAGED_MAX = 1 << 20  # bounds the memory


def create_snapshot(
    region: Region,
    source_name: str,
    options: SnapshotOptions | None = None,
    progress: Progress | None = None,
) -> Snapshot:
    """Snapshot *source_name*, a path or the id of a source volume; return it completed.

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
        taking = _Taking(region, options, progress or Unwatched())
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


@dataclass(slots=True)
class _Registered:
    """A snapshot that was begun: what the first transaction found and made."""

    snapshot: Snapshot
    volume: Volume
    parent: Snapshot | None
    claimed: SnapshotId | None
    interrupted: list[tuple[Holder, Digest]]
    damaged: frozenset[int]


class _Taking:
    """One snapshot being taken."""

    def __init__(self, region: Region, options: SnapshotOptions, progress: Progress) -> None:
        self._region = region
        self._options = options
        self._progress = progress
        self._volume_id: VolumeId | None = None
        self._claimed: SnapshotId | None = None
        self._in_manifest: tuple[Snapshot, Volume] | None = None

    def run(self, location: str, volume_id: str | None, disk: Disk) -> Snapshot:
        """Take it; on failure leave nothing but what recovery keeps for the next try."""
        recover(self._region)
        self._region.reserve.fill()
        try:
            with self._region.session() as session:
                snapshot = self._take(session, location, volume_id, disk)
                self._let_go(session, snapshot)
                return snapshot
        except BaseException as error:
            # The failure that ended the snapshot may keep this from working as well; then
            # whoever opens the region next does it.
            with suppress(EbsimError):
                self._clear_up(is_full=isinstance(error, StorageFull))
            raise

    def _clear_up(self, *, is_full: bool) -> None:
        """Recover from this snapshot's own failure.

        What it had stored is kept for the next try, unless the disk *is_full*: then nobody
        could get that room back without another snapshot of this volume.
        """
        region, volume_id = self._region, self._volume_id
        region.reserve.use_if_full(lambda: recover(region))
        if is_full and volume_id is not None:
            region.reserve.use_if_full(lambda: drop_interrupted_upload(region, volume_id))
            region.reclaimer().run()

    def _take(
        self, session: Session, location: str, volume_id: str | None, disk: Disk
    ) -> Snapshot:
        started = self._region.metadata.run(
            lambda txn: self._register(txn, session, location, volume_id, disk)
        )
        self._volume_id, self._claimed = started.volume.volume_id, started.claimed
        rehash = self._options.rehash
        try:
            uploaded, message = self._upload(session, started, disk, rehash=rehash), ""
        except (FingerprintLied, IntegrityError) as error:
            started, message = self._start_over(started, disk, error)
            uploaded = self._upload(session, started, disk, rehash=True)
        return self._complete(started, disk, uploaded, message)

    def _start_over(
        self, started: _Registered, disk: Disk, error: FingerprintLied | IntegrityError
    ) -> tuple[_Registered, str]:
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
        drop_all_holds(self._region, started.snapshot.snapshot_id)
        if isinstance(error, FingerprintLied):
            return started, (
                f"block {error.block_index} had changed under the fingerprint it had before; "
                "every block was compared by digest."
            )
        if started.parent is None and not started.interrupted:
            raise error
        return replace(started, parent=None, interrupted=[]), (
            f"the parent snapshot was not built on: {error}"
        )

    def _register(
        self,
        txn: Transaction,
        session: Session,
        location: str,
        volume_id: str | None,
        disk: Disk,
    ) -> _Registered:
        """Step 1: the snapshot is pending, its parent held."""
        region, options = self._region, self._options
        found = find_source_volume(txn, region, location, volume_id)
        block_size = agreed_block_size(found, options.block_size)
        volume = register_volume(txn, region, found, location, block_size)
        parent = newest_completed(txn, volume.volume_id)
        now_ns = region.clock.now_ns()
        snapshot = Snapshot(
            snapshot_id=new_snapshot_id(region.random),
            volume_id=volume.volume_id,
            owner_id=region.account_id,
            state=SnapshotState.PENDING,
            start_time_ns=now_ns,
            size_bytes=disk.size_bytes,
            block_size=volume.block_size,
            generation=next_generation(txn, now_ns),
            parent_id=parent.snapshot_id if parent else None,
            description=options.description,
            tags=dict(options.tags),
        )
        put_snapshot(txn, snapshot)
        note_snapshot(txn, session.session_id, snapshot.snapshot_id)
        if parent is not None and parent.root is not None:
            owner = reader_of(session.session_id)
            take_hold(txn, Holder(owner, _PARENT_LEVEL, 0), parent.root)
        claimed = claim_interrupted_upload(txn, session.session_id, volume.volume_id)
        interrupted = held_nodes(txn, claimed) if claimed else []
        return _Registered(snapshot, volume, parent, claimed, interrupted, _damaged_numbers(txn))

    def _upload(
        self, session: Session, started: _Registered, disk: Disk, *, rehash: bool
    ) -> Uploaded:
        """Step 2: read, compare, store, commit."""
        region, snapshot = self._region, started.snapshot
        writer = ChunkWriter(
            region.backend,
            region.metadata,
            session,
            level=self._options.level,
            read_again=lambda index: disk.read_again(index, snapshot.block_size),
        )
        scanner = LeafScanner(
            ScanSettings(
                snapshot.snapshot_id,
                snapshot.generation,
                snapshot.block_size,
                region.seed,
                rehash,
                started.damaged,
            ),
            disk.read_into,
            metadata=region.metadata,
            chunks=region.chunks,
            writer=writer,
            random=Random(region.random.getrandbits(64)),
        )
        root = started.parent.root if started.parent else None
        nodes = NewNodes(region.chunks, writer, snapshot.snapshot_id)
        parent = BlockMap(empty_root() if root is None else root, nodes)
        interrupted = dict(leaves_below(region.chunks, started.interrupted))
        tasks = disk.tasks(snapshot.block_size, parent, interrupted)
        self._progress.begin("snapshot", disk.data_bytes)
        try:
            upload = Upload(parent, writer, region.metadata, self._progress)
            return upload.run(tasks, scanner.scan, disk.thread_count(self._options.thread_count))
        finally:
            writer.close()
            self._progress.end()

    def _complete(
        self, started: _Registered, disk: Disk, uploaded: Uploaded, message: str
    ) -> Snapshot:
        """Steps 3 and 4."""
        region, parent = self._region, started.parent
        sentences = [message, disk.caution, disk.changed_since_opened()]
        snapshot = replace(
            started.snapshot,
            state=SnapshotState.COMPLETED,
            root=uploaded.root,
            size_bytes=disk.size_bytes,
            completion_time_ns=region.clock.now_ns(),
            state_message=" ".join(sentence for sentence in sentences if sentence),
            block_count=(parent.block_count if parent else 0) + uploaded.block_count_change,
            changed_block_count=uploaded.changed_block_count,
            stored_bytes=uploaded.stored_bytes,
            referenced_bytes=(
                (parent.referenced_bytes if parent else 0) + uploaded.referenced_bytes_change
            ),
        )
        volume = replace(started.volume, size_bytes=disk.size_bytes)
        write_manifest(region.backend, snapshot, volume)
        self._in_manifest = (snapshot, volume)

        def complete(txn: Transaction) -> Snapshot:
            pending = find_snapshot(txn, snapshot.snapshot_id)
            if pending is None or pending.state is not SnapshotState.PENDING:
                raise Conflict(
                    f"{snapshot.snapshot_id} was taken out of the catalog while it was being "
                    "taken. No snapshot was made. Run the command again."
                )
            completed = replace(snapshot, tags=pending.tags)
            put_snapshot(txn, completed)
            update_volume_size(txn, volume, disk.size_bytes)
            take_hold(txn, root_holder(snapshot.snapshot_id), uploaded.root)
            return completed

        return region.metadata.run(complete)

    def _let_go(self, session: Session, snapshot: Snapshot) -> None:
        """Step 5."""
        region, snapshot_id = self._region, snapshot.snapshot_id
        try:
            # What it was tagged with meanwhile is not in the manifest yet.
            write_current_manifest(region, snapshot_id, written=self._in_manifest)
            drop_all_holds(region, snapshot_id, keep=root_holder(snapshot_id))
            drop_all_holds(region, reader_of(session.session_id))
            if self._claimed is not None:
                let_go_of_claimed(region, session.session_id, self._claimed)
            region.metadata.run(lambda txn: forget_snapshot(txn, session.session_id, snapshot_id))
            region.reclaimer(ended=[session.session_id]).run()
        except StorageUnavailable:
            session.abandon()


def _damaged_numbers(reader: Reader) -> frozenset[int]:
    rows = reader.scan(Table.DAMAGED, limit=_DAMAGED_MAX)
    return frozenset(int.from_bytes(key, "big") for key, _ in rows)
