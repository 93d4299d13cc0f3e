"""The snapshot record, and how it is written as JSON.

The same object is the value of the ``SNAPSHOTS`` row and the body of the manifest.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from ebsim.catalog.bin_stay import BinStay
from ebsim.catalog.snapshot_lock import SnapshotLock, lock_from_json, started
from ebsim.catalog.storage_tier import Archive, StorageTier, Tiering, tiering_from_json
from ebsim.catalog.volume import UNKNOWN_VOLUME
from ebsim.errors import MetadataCorrupt
from ebsim.ids import AccountId, Digest, SnapshotId, VolumeId
from ebsim.units import whole_gib


class SnapshotState(StrEnum):
    """Amazon's states of a snapshot."""

    PENDING = "pending"
    COMPLETED = "completed"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot.

    Attributes:
        size_bytes: The disk's exact length; what a restore gives back.
        block_size: Bytes.
        root: The root digest of its block map in the region; ``None`` until it is
            completed, and while it is archived.
        generation: The write generation given to the blocks that it found changed.
        block_count: Blocks present in its map, its own and inherited ones.
        changed_block_count: Blocks that differ from the parent's, vanished ones included.
        stored_bytes: What taking it added to the packs, nodes included.
        referenced_bytes: The records of its present blocks, each as often as it occurs.
        state_message: What is to be known of it, such as that the source changed.
        tags: The owner's.
        shared_with: Other accounts that may use it, sorted.
        is_public: Every account may use it.
        foreign_tags: Other accounts' tags, by account: nobody sees another's.
        bin_stay: It was deleted, and is kept in the recycle bin.
        copied_from: Of a copy, ``REGION/SNAPSHOT-ID`` of what it was copied from.
        completion_duration_minutes: The time in which a copy was asked to be done.
        lineage: What it shares with every snapshot whose write generations may be compared
            with its own, if that is not the volume; see ``lineage_of``.
        archive: Where it is stored complete by itself.  It is archived while it has this
            and no root, and temporarily restored while it has both.
        tiering: What was last done to archive or restore it.
        restore_expiry_time_ns: When a temporary restore ends.
        is_announced: While it is pending: somebody was told of it, so if it breaks off it stays
            listed, as failed.
        progress_percent: How far it was when that was last noted, while it is pending and after
            it failed.
    """

    snapshot_id: SnapshotId
    volume_id: VolumeId
    owner_id: AccountId
    state: SnapshotState
    start_time_ns: int
    size_bytes: int
    block_size: int
    generation: int
    parent_id: SnapshotId | None = None
    root: Digest | None = None
    completion_time_ns: int | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    state_message: str = ""
    block_count: int = 0
    changed_block_count: int = 0
    stored_bytes: int = 0
    referenced_bytes: int = 0
    shared_with: tuple[AccountId, ...] = ()
    is_public: bool = False
    foreign_tags: Mapping[AccountId, Mapping[str, str]] = field(default_factory=dict)
    lock: SnapshotLock | None = None
    bin_stay: BinStay | None = None
    copied_from: str = ""
    completion_duration_minutes: int | None = None
    lineage: str = ""
    archive: Archive | None = None
    tiering: Tiering | None = None
    restore_expiry_time_ns: int | None = None
    is_announced: bool = False
    progress_percent: int = 0

    @property
    def is_archived(self) -> bool:
        """Whether its bytes are in the archive alone, so that it has no root to be read from."""
        return self.archive is not None and self.root is None

    def is_archived_at(self, now_ns: int) -> bool:
        """Whether it is archived, or restored for a time that is over by now."""
        expiry_ns = self.restore_expiry_time_ns
        return self.is_archived or (expiry_ns is not None and expiry_ns <= now_ns)

    @property
    def is_readable(self) -> bool:
        """Whether it is completed, and its bytes are in the region."""
        return self.state is SnapshotState.COMPLETED and self.root is not None

    @property
    def storage_tier(self) -> StorageTier:
        return StorageTier.ARCHIVE if self.is_archived else StorageTier.STANDARD

    @property
    def volume_size_gib(self) -> int:
        """The size that EBS would report: whole GiB, rounded up."""
        return whole_gib(self.size_bytes)

    @property
    def transfer_type(self) -> str:
        """``time-based`` for a copy that was asked to be done in some time."""
        return "standard" if self.completion_duration_minutes is None else "time-based"


_ADDED_LATER: dict[str, Any] = {
    "shared_with": [],
    "is_public": False,
    "foreign_tags": {},
    "lock": None,
    "bin_stay": None,
    "copied_from": "",
    "completion_duration_minutes": None,
    "lineage": "",
    "archive": None,
    "tiering": None,
    "restore_expiry_time_ns": None,
    "is_announced": False,
    "progress_percent": 0,
}
"""Fields that the first version did not have, and what they are where it left them out."""


def tags_seen_by(snapshot: Snapshot, account_id: AccountId) -> Mapping[str, str]:
    """The tags that *account_id* has given the snapshot."""
    if account_id == snapshot.owner_id:
        return snapshot.tags
    return snapshot.foreign_tags.get(account_id, {})


def seen_by(snapshot: Snapshot, account_id: AccountId) -> Snapshot:
    """*snapshot* as *account_id* sees it: under its own tags."""
    if account_id == snapshot.owner_id:
        return snapshot
    return replace(snapshot, tags=tags_seen_by(snapshot, account_id), foreign_tags={})


def completed_from(pending: Snapshot, completed: Snapshot) -> Snapshot:
    """*completed* with what was done to it while it was *pending*; a lock's time begins."""
    lock = pending.lock
    if lock is not None and completed.completion_time_ns is not None:
        lock = started(lock, completed.completion_time_ns)
    return replace(
        completed,
        tags=pending.tags,
        shared_with=pending.shared_with,
        is_public=pending.is_public,
        foreign_tags=pending.foreign_tags,
        lock=lock,
    )


def lineage_of(snapshot: Snapshot) -> str:
    """What is the same for the snapshots of one lineage, whichever of them are deleted.

    Snapshots of a volume share the volume's; a snapshot that was written block by block has
    its parent's, or begins one.
    """
    if snapshot.lineage:
        return snapshot.lineage
    if snapshot.volume_id == UNKNOWN_VOLUME.volume_id:
        return snapshot.snapshot_id
    return snapshot.volume_id


def snapshot_to_json(snapshot: Snapshot) -> dict[str, Any]:
    """*snapshot* as a JSON object, keys in a fixed order.

    A field added later is left out while it says nothing, so that records written before
    there was such a field stay what they are.
    """
    values = asdict(snapshot)
    values["tags"] = dict(sorted(snapshot.tags.items()))
    values["root"] = snapshot.root.hex() if snapshot.root is not None else None
    values["shared_with"] = list(snapshot.shared_with)
    values["foreign_tags"] = {
        account: dict(sorted(tags.items()))
        for account, tags in sorted(snapshot.foreign_tags.items())
    }
    for name, nothing in _ADDED_LATER.items():
        if values[name] == nothing:
            del values[name]
    return values


def snapshot_from_json(values: Mapping[str, Any]) -> Snapshot:
    """The snapshot that ``snapshot_to_json`` wrote.

    Raises:
        MetadataCorrupt: a field is missing, unknown or of another type.
    """
    try:
        root = values["root"]
        known = {
            **values,
            "state": SnapshotState(values["state"]),
            "root": None if root is None else Digest(bytes.fromhex(root)),
        }
        if "shared_with" in values:
            known["shared_with"] = tuple(values["shared_with"])
        if "lock" in values:
            known["lock"] = lock_from_json(values["lock"])
        if "bin_stay" in values:
            known["bin_stay"] = BinStay(**values["bin_stay"])
        if "archive" in values:
            known["archive"] = Archive(**values["archive"])
        if "tiering" in values:
            known["tiering"] = tiering_from_json(values["tiering"])
        return Snapshot(**known)
    except (KeyError, TypeError, ValueError) as error:
        raise MetadataCorrupt(where="a snapshot record", found=repr(error)) from error


def encode_snapshot(snapshot: Snapshot) -> bytes:
    return json.dumps(snapshot_to_json(snapshot), separators=(",", ":")).encode()


def decode_snapshot(row: bytes) -> Snapshot:
    return snapshot_from_json(json.loads(row))
