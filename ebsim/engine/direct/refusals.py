"""What the verbs of this package refuse; the sentences are Amazon's where it has one."""

from ebsim.errors import Conflict, InvalidRequest
from ebsim.ids import SnapshotId
from ebsim.units import format_size


class BlockRefused(InvalidRequest):
    """The index is none of the volume's, or the bytes are not a block's."""


class BlockTokenInvalid(InvalidRequest):
    """The token is not one that was given for this block, or it is over."""

    def __init__(self, token: str) -> None:
        super().__init__(f"The block token {token} is invalid.")


class PageTokenInvalid(InvalidRequest):
    """The token is not one that was given for this list, or it is over."""

    def __init__(self, token: str) -> None:
        super().__init__(f"The pagination token {token} is invalid.")


class SnapshotUnusable(InvalidRequest):
    """The snapshot is there and cannot be used for this."""


class ForeignBlockSize(SnapshotUnusable):
    """The snapshot was taken in blocks of another size."""

    def __init__(self, snapshot_id: SnapshotId, block_size: int) -> None:
        super().__init__(
            f"{snapshot_id} has blocks of {format_size(block_size)}, not the 512 KiB that the EBS "
            "direct APIs write: it can be read and not be a parent. Restore it, and snapshot the "
            "disk without --block-size."
        )


class UnrelatedSnapshots(InvalidRequest):
    """The snapshots are of two lineages: their write generations say nothing."""

    def __init__(self, first: SnapshotId, second: SnapshotId) -> None:
        super().__init__(f"The snapshots '{first}' and '{second}' are not related.")


class VolumeSizeRefused(InvalidRequest):
    """The volume is smaller than the parent's."""


class SnapshotAlreadyCompleted(Conflict):
    """Nothing can be put any more: it is completed, or somebody asked for that."""

    def __init__(self) -> None:
        super().__init__("Snapshot is already completed")


class ParentPending(Conflict):
    """The parent is not completed yet."""

    def __init__(self, parent_id: SnapshotId) -> None:
        super().__init__(f"Source snapshot ({parent_id}) is not complete.")
