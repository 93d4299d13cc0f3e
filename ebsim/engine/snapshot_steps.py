"""The steps by which a snapshot is taken, of one disk or of several at one instant.

    1  transaction   the snapshot is pending; the root it builds on is held
    2  packs sealed, transaction after transaction: finished nodes, held by the snapshot
    3  manifest written
    4  transaction   completed: the one point at which the snapshot exists
    5  transaction   holds that are not the root's are dropped

A process that dies before 4 leaves no snapshot, one that dies after it a whole one.  What
fails in 5 is not the snapshot's failure: recovery does it for whoever comes next.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

from ebsim.blockmap.block_map import BlockMap
from ebsim.blockmap.node_store import empty_root
from ebsim.catalog.manifest import write_manifest
from ebsim.catalog.records import find_snapshot, put_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState, completed_from
from ebsim.catalog.volume import Volume
from ebsim.chunkstore.chunk_writer import ChunkWriter
from ebsim.chunkstore.rows import Holder
from ebsim.chunkstore.sessions import Session
from ebsim.engine.disk import Disk
from ebsim.engine.finished_leaves import held_nodes, leaves_below
from ebsim.engine.holds import drop_all_holds, reader_of, root_holder, take_hold
from ebsim.engine.leaf_scan import LeafScanner, ScanSettings
from ebsim.engine.new_nodes import NewNodes
from ebsim.engine.noted_progress import NotedProgress
from ebsim.engine.record_events import snapshot_created, snapshots_created
from ebsim.engine.recovery import (
    claim_interrupted_upload,
    forget_snapshot,
    let_go_of_claimed,
    note_snapshot,
    write_current_manifest,
)
from ebsim.engine.region import Region, next_generation
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.source_volume import update_volume_size
from ebsim.engine.tags import check_tags
from ebsim.engine.upload import Upload, Uploaded
from ebsim.errors import Conflict, StorageUnavailable
from ebsim.ids import Digest, SnapshotId, new_snapshot_id
from ebsim.metadata.transactions import Reader, Table, Transaction
from ebsim.progress import Progress

# Of reader holds: below those on whole maps, one for each snapshot of a set.
_PARENT_LEVEL = 254

_DAMAGED_MAX = 1 << 20  # bounds the memory


@dataclass(frozen=True, slots=True)
class Base:
    """The block map that a snapshot is compared with and built on.

    Attributes:
        snapshot_id: The snapshot whose map it is, ``None`` if that was deleted.
        block_count: Blocks present in it.
        referenced_bytes: Their records, each as often as it occurs.
    """

    root: Digest
    snapshot_id: SnapshotId | None
    block_count: int
    referenced_bytes: int


def base_of(snapshot: Snapshot | None) -> Base | None:
    """A completed snapshot as a base."""
    if snapshot is None or snapshot.root is None:
        return None
    return Base(
        snapshot.root, snapshot.snapshot_id, snapshot.block_count, snapshot.referenced_bytes
    )


class Subject(NamedTuple):
    """A volume of the size that it has now, what it builds on, and its place in a set."""

    volume: Volume
    base: Base | None
    place: int = 0


@dataclass(slots=True)
class Registered:
    """A snapshot that was begun: what the first transaction found and made."""

    snapshot: Snapshot
    volume: Volume
    base: Base | None
    claimed: SnapshotId | None
    interrupted: list[tuple[Holder, Digest]]
    damaged: frozenset[int]


def register(
    txn: Transaction,
    region: Region,
    session: Session,
    subject: Subject,
    options: SnapshotOptions,
) -> Registered:
    """Step 1: the snapshot is pending, its base held."""
    volume, base, place = subject
    now_ns = region.clock.now_ns()
    tags = dict(options.tags)
    if options.copies_volume_tags:
        tags = {**volume.tags, **tags}
        check_tags(tags)
    snapshot = Snapshot(
        snapshot_id=new_snapshot_id(region.random),
        volume_id=volume.volume_id,
        owner_id=region.account_id,
        state=SnapshotState.PENDING,
        start_time_ns=now_ns,
        size_bytes=volume.size_bytes,
        block_size=volume.block_size,
        generation=next_generation(txn, now_ns),
        parent_id=base.snapshot_id if base else None,
        description=options.description,
        tags={**tags, **options.system_tags},
        is_announced=options.is_announced,
        lineage=volume.lineage,
    )
    put_snapshot(txn, snapshot)
    note_snapshot(txn, session.session_id, snapshot.snapshot_id)
    if base is not None:
        owner = reader_of(session.session_id)
        take_hold(txn, Holder(owner, _PARENT_LEVEL, place), base.root)
    claimed = claim_interrupted_upload(txn, session.session_id, volume.volume_id)
    interrupted = held_nodes(txn, claimed) if claimed else []
    return Registered(snapshot, volume, base, claimed, interrupted, _damaged_numbers(txn))


def upload(
    region: Region,
    session: Session,
    started: Registered,
    disk: Disk,
    *,
    options: SnapshotOptions,
    progress: Progress,
    rehash: bool,
) -> Uploaded:
    """Step 2: read, compare, store, commit."""
    snapshot = started.snapshot
    writer = ChunkWriter(
        region.backend,
        region.metadata,
        session,
        level=options.level,
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
    nodes = NewNodes(region.chunks, writer, snapshot.snapshot_id)
    parent = BlockMap(started.base.root if started.base else empty_root(), nodes)
    interrupted = dict(leaves_below(region.chunks, started.interrupted))
    tasks = disk.tasks(snapshot.block_size, parent, interrupted)
    noted = NotedProgress(region.metadata, snapshot.snapshot_id, progress)
    noted.begin("snapshot", disk.data_bytes)
    try:
        work = Upload(parent, writer, region.metadata, noted)
        return work.run(tasks, scanner.scan, disk.thread_count(options.thread_count))
    finally:
        writer.close()
        noted.end()


def completed_snapshot(
    region: Region, started: Registered, disk: Disk, uploaded: Uploaded, message: str
) -> Snapshot:
    """What the snapshot will be once it is completed."""
    base = started.base
    sentences = [message, disk.caution, disk.changed_since_opened()]
    return replace(
        started.snapshot,
        state=SnapshotState.COMPLETED,
        is_announced=False,
        root=uploaded.root,
        size_bytes=disk.size_bytes,
        completion_time_ns=region.clock.now_ns(),
        state_message=" ".join(sentence for sentence in sentences if sentence),
        block_count=(base.block_count if base else 0) + uploaded.block_count_change,
        changed_block_count=uploaded.changed_block_count,
        stored_bytes=uploaded.stored_bytes,
        referenced_bytes=(base.referenced_bytes if base else 0) + uploaded.referenced_bytes_change,
    )


def write_first_manifest(region: Region, started: Registered, snapshot: Snapshot) -> Volume:
    """Step 3; returns the volume as the manifest has it."""
    volume = replace(started.volume, size_bytes=snapshot.size_bytes)
    write_manifest(region.backend, snapshot, volume)
    return volume


def complete_one(txn: Transaction, region: Region, snapshot: Snapshot, volume: Volume) -> Snapshot:
    """Step 4, for one snapshot."""
    completed = _complete(txn, snapshot, volume)
    snapshot_created(txn, region, completed)
    return completed


def complete_set(
    txn: Transaction, region: Region, written: Sequence[tuple[Snapshot, Volume]]
) -> list[Snapshot]:
    """Step 4, for all snapshots of a set."""
    completed = [_complete(txn, snapshot, volume) for snapshot, volume in written]
    snapshots_created(txn, region, completed)
    return completed


def _complete(txn: Transaction, snapshot: Snapshot, volume: Volume) -> Snapshot:
    pending = find_snapshot(txn, snapshot.snapshot_id)
    if pending is None or pending.state is not SnapshotState.PENDING:
        raise Conflict(
            f"{snapshot.snapshot_id} was taken out of the catalog while it was being "
            "taken. No snapshot was made. Run the command again."
        )
    assert snapshot.root is not None, "a completed snapshot has a root"
    completed = completed_from(pending, snapshot)
    put_snapshot(txn, completed)
    update_volume_size(txn, volume, snapshot.size_bytes)
    take_hold(txn, root_holder(snapshot.snapshot_id), snapshot.root)
    return completed


def let_go(
    region: Region,
    session: Session,
    snapshot: Snapshot,
    claimed: SnapshotId | None,
    written: tuple[Snapshot, Volume] | None,
) -> None:
    """Step 5, of a snapshot whose manifest was *written*; the session's own holds stay."""
    snapshot_id = snapshot.snapshot_id
    # What it was tagged with meanwhile is not in the manifest yet.
    write_current_manifest(region, snapshot_id, written=written)
    drop_all_holds(region, snapshot_id, keep=root_holder(snapshot_id))
    if claimed is not None:
        let_go_of_claimed(region, session.session_id, claimed)
    region.metadata.run(lambda txn: forget_snapshot(txn, session.session_id, snapshot_id))


def end_session(region: Region, session: Session, let_go_of_all: Callable[[], None]) -> None:
    """Do the last steps of all snapshots of a session; a failure is recovery's to make good."""
    try:
        let_go_of_all()
        drop_all_holds(region, reader_of(session.session_id))
        region.reclaimer(ended=[session.session_id]).run()
    except StorageUnavailable:
        session.abandon()


def _damaged_numbers(reader: Reader) -> frozenset[int]:
    rows = reader.scan(Table.DAMAGED, limit=_DAMAGED_MAX)
    return frozenset(int.from_bytes(key, "big") for key, _ in rows)
