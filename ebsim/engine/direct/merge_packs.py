"""Merging the small packs that puts leave.

A put is acknowledged when a pack with it is sealed, so a pack holds no more than what
arrived while the one before it was synced: a few megabytes.  Once nothing is written
in a session any more, those that stayed small are rewritten into large ones.
"""

from collections.abc import Sequence

from ebsim.chunkstore.chunk_index import find_packs
from ebsim.chunkstore.compaction import Compaction, plan_merge
from ebsim.engine.region import Region
from ebsim.progress import Unwatched


def merge_packs(region: Region, session_id: str, pack_numbers: Sequence[int]) -> None:
    """Merge packs of a session that writes no more, and delete those that nothing needs.

    Cost: a read and a write of what is moved.

    Raises:
        StorageFull, StorageUnavailable: what was merged before stays merged.
    """
    reclaimer = region.reclaimer(ended=[session_id])
    reclaimer.run()
    rows = region.metadata.read(lambda reader: find_packs(reader, pack_numbers))
    reclaimer.delete_packs({n: row.name for n, row in rows.items() if not row.live_count})
    plan = plan_merge(region.backend, region.metadata, pack_numbers)
    if plan.packs:
        with region.session() as session:
            compaction = Compaction(region.backend, region.metadata, session, reclaimer)
            compaction.execute(plan, Unwatched())
