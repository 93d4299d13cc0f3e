"""Giving back the space that deletions and interrupted snapshots left in the store.

    1  interrupted uploads are let go, but those of volumes that are being snapshotted
    2  the reclaim queue is emptied, dead extents are punched, empty packs are deleted
    3  packs that are mostly waste, or very small, are rewritten (``chunkstore/compaction.py``)

Steps 1 and 2 work on a full disk; step 3 needs room for what it moves, and gives back
pack by pack what it has moved.
"""

from contextlib import suppress
from dataclasses import dataclass

from ebsim.catalog.records import find_snapshot
from ebsim.chunkstore.compaction import (
    Compacted,
    Compaction,
    CompactionPlan,
    DamageFound,
    plan_compaction,
)
from ebsim.chunkstore.deletion_plan import plan_deletion
from ebsim.chunkstore.rows import decode_hold, hold_prefix
from ebsim.engine.recovery import (
    drop_interrupted_upload,
    interrupted_uploads,
    recover,
    upload_of,
)
from ebsim.engine.region import Region
from ebsim.errors import StorageUnavailable
from ebsim.ids import SnapshotId
from ebsim.metadata.transactions import Reader, Table
from ebsim.progress import Progress, Unwatched

_ROWS_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What compaction did, or would do.

    Attributes:
        is_dry_run: Nothing was changed; the figures below are what would be.
        interrupted_upload_count: Uploads let go.
        rewritten_pack_count: Packs chosen to be rewritten.
        moved_count: Chunks moved.
        moved_bytes: Their records' bytes.
        occupied_bytes_before: What all packs occupied on the device.
        occupied_bytes_after: What they occupy now; others at work add to it.  In a dry
            run about what they would.
        damage: Records that could not be moved, and stay where they are.
    """

    is_dry_run: bool
    interrupted_upload_count: int
    rewritten_pack_count: int
    moved_count: int
    moved_bytes: int
    occupied_bytes_before: int
    occupied_bytes_after: int
    damage: tuple[DamageFound, ...] = ()

    @property
    def freed_bytes(self) -> int:
        """What the device got back."""
        return max(0, self.occupied_bytes_before - self.occupied_bytes_after)


def plan_compaction_of(region: Region) -> CompactionPlan:
    """What compaction would rewrite, as the store is now."""
    return plan_compaction(region.backend, region.metadata, region.sessions.is_alive)


def compact_store(
    region: Region, *, dry_run: bool = False, progress: Progress | None = None
) -> CompactionReport:
    """Give back what nothing needs; return what that came to.  Nobody has to wait for it.

    Cost: a look at every pack's row; a read and a write of what is moved.

    Raises:
        StorageFull, StorageUnavailable: no room, or the disk failed; the store is whole,
            and what was given back before stays so.
    """
    if dry_run:
        return _foretell(region)
    recover(region)
    before = occupied_bytes(region)
    upload_count = region.reserve.use_if_full(lambda: _give_back_at_once(region))
    plan = plan_compaction_of(region)
    try:
        done = _rewrite(region, plan, progress or Unwatched())
    except BaseException:
        # The failure may keep this from working as well; then the next verb does it.
        with suppress(StorageUnavailable):
            recover(region)
        raise
    return CompactionReport(
        is_dry_run=False,
        interrupted_upload_count=upload_count,
        rewritten_pack_count=len(plan.packs),
        moved_count=done.moved_count,
        moved_bytes=done.moved_bytes,
        occupied_bytes_before=before,
        occupied_bytes_after=occupied_bytes(region),
        damage=tuple(done.damage),
    )


def _foretell(region: Region) -> CompactionReport:
    """The report of a dry run.  What waits in the reclaim queue is not counted."""
    plan = plan_compaction_of(region)
    uploads = _idle_uploads(region)
    held = [number for _, upload in uploads for number in _held_numbers(region, upload)]
    freed = plan.freed_bytes + plan_deletion(region.metadata, held).freed_bytes
    before = occupied_bytes(region)
    return CompactionReport(
        is_dry_run=True,
        interrupted_upload_count=len(uploads),
        rewritten_pack_count=len(plan.packs),
        moved_count=sum(pack.live_count for pack in plan.packs),
        moved_bytes=plan.live_bytes,
        occupied_bytes_before=before,
        occupied_bytes_after=max(0, before - freed),
    )


def _give_back_at_once(region: Region) -> int:
    """Steps 1 and 2, safe to run again; return how many uploads were let go."""
    uploads = _idle_uploads(region)
    for upload, _ in uploads:
        drop_interrupted_upload(region, upload)
    region.reclaimer().sweep()
    return len(uploads)


def _rewrite(region: Region, plan: CompactionPlan, progress: Progress) -> Compacted:
    """Step 3."""
    if not plan.packs:
        return Compacted()
    with region.session() as session:
        compaction = Compaction(region.backend, region.metadata, session, region.reclaimer())
        progress.begin("compact", plan.live_bytes)
        try:
            return compaction.execute(plan, progress)
        finally:
            progress.end()


def _idle_uploads(region: Region) -> list[tuple[str, SnapshotId]]:
    """The interrupted uploads of what nobody is taking a snapshot of."""

    def find(reader: Reader) -> list[tuple[str, SnapshotId]]:
        busy = set()
        for key, _ in reader.scan(Table.SESSIONS, limit=_ROWS_MAX):
            snapshot = find_snapshot(reader, SnapshotId(key.decode().partition("/")[2]))
            if snapshot is not None:
                busy.add(upload_of(snapshot))
        return [upload for upload in interrupted_uploads(reader) if upload[0] not in busy]

    return region.metadata.read(find)


def _held_numbers(region: Region, upload: SnapshotId) -> list[int]:
    prefix = hold_prefix(upload)
    rows = region.metadata.read(
        lambda reader: reader.scan(Table.HOLDS, prefix, prefix + b"\xff" * 10, limit=_ROWS_MAX)
    )
    return [decode_hold(value)[0] for _, value in rows]


def occupied_bytes(region: Region) -> int:
    """What all packs occupy on the device, holes left out."""
    backend = region.backend
    return sum(backend.allocated_bytes(name) or 0 for name in backend.names("packs"))
