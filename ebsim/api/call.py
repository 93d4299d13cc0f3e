"""One call of an action: who makes it, where, and what it works with."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ebsim.api.block_plane import BlockPlane
from ebsim.api.snapshot_limits import SnapshotLimits
from ebsim.api.work import Work
from ebsim.clock import Clock
from ebsim.engine.region import Region
from ebsim.ids import AccountId, VolumeId

LookAfter = Callable[[str, Sequence[VolumeId]], None]
"""Told of a region's volumes that were made or attached, once that is so."""


class RegionSource(Protocol):
    """Where a call's region comes from: ``regions.Regions``, or one that a test has open."""

    def region(self, name: str, *, create: bool) -> Region:
        """The region *name*, open and shared; *create* makes it where there is none."""

    def names(self) -> list[str]:
        """Every region that a request may name."""

    def blocks(self, region: Region) -> BlockPlane:
        """What the process keeps of an open region for reading and writing its blocks."""


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls what, where.

    Attributes:
        account_id: Who acts: everything that the action does is as this account.
        work: What goes on after the answer is begun with this.
        is_reading: Whether the action changes nothing, so that it makes no region.
        import_folder: Whose files may be imported; ``None`` for none.
        keeper: Serves volumes and loads them; ``None`` if this process does not.
        limits: Quotas of snapshots; ``None`` for none.
    """

    service: str
    action: str
    account_id: AccountId
    key_id: str
    region_name: str
    request_id: str
    clock: Clock
    regions: RegionSource
    work: Work
    is_reading: bool
    import_folder: Path | None = None
    keeper: LookAfter | None = None
    limits: SnapshotLimits | None = None

    @property
    def region(self) -> Region:
        """The region that the request names, with the caller as the acting account."""
        return self.region_named(self.region_name)

    def region_named(self, name: str) -> Region:
        """Another region, as the same account."""
        found = self.regions.region(name, create=not self.is_reading)
        return replace(found, account_id=self.account_id, request_id=self.request_id)

    def count_snapshot_request(self, volume_id: str) -> None:
        """Count a request for a snapshot of a volume, and refuse it if it comes too soon."""
        if self.limits is not None:
            self.limits.count_request(self.region, volume_id)

    def room_for(self, count: int) -> AbstractContextManager[None]:
        """Room for *count* more snapshots while the body makes them; refuses what has none."""
        return nullcontext() if self.limits is None else self.limits.room_for(self.region, count)

    def room_to_start(self) -> AbstractContextManager[None]:
        """Room for one that is written block by block, as :meth:`room_for`."""
        return nullcontext() if self.limits is None else self.limits.room_to_start(self.region)

    @property
    def blocks(self) -> BlockPlane:
        """The region's blocks; pass ``call.region`` along, for the account that acts."""
        return self.regions.blocks(self.region)

    def look_after(self, volume_ids: Sequence[VolumeId]) -> None:
        """Have volumes that were made or attached served, or loaded, by this process."""
        if self.keeper is not None:
            self.keeper(self.region_name, volume_ids)
