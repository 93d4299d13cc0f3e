"""The snapshot record, and how it is written as JSON.

The same object is the value of the ``SNAPSHOTS`` row and the body of the manifest.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

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
        root: The root digest of its block map; ``None`` until it is completed.
        generation: The write generation given to the blocks that it found changed.
        block_count: Blocks present in its map, its own and inherited ones.
        changed_block_count: Blocks that differ from the parent's, vanished ones included.
        stored_bytes: What taking it added to the packs, nodes included.
        referenced_bytes: The records of its present blocks, each as often as it occurs.
        state_message: What is to be known of it, such as that the source changed.
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

    @property
    def volume_size_gib(self) -> int:
        """The size that EBS would report: whole GiB, rounded up."""
        return whole_gib(self.size_bytes)


def snapshot_to_json(snapshot: Snapshot) -> dict[str, Any]:
    """*snapshot* as a JSON object, keys in a fixed order."""
    values = asdict(snapshot)
    values["tags"] = dict(sorted(snapshot.tags.items()))
    values["root"] = snapshot.root.hex() if snapshot.root is not None else None
    return values


def snapshot_from_json(values: Mapping[str, Any]) -> Snapshot:
    """The snapshot that ``snapshot_to_json`` wrote.

    Raises:
        MetadataCorrupt: a field is missing, unknown or of another type.
    """
    try:
        root = values["root"]
        return Snapshot(
            **{
                **values,
                "state": SnapshotState(values["state"]),
                "root": None if root is None else Digest(bytes.fromhex(root)),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MetadataCorrupt(where="a snapshot record", found=repr(error)) from error


def encode_snapshot(snapshot: Snapshot) -> bytes:
    return json.dumps(snapshot_to_json(snapshot), separators=(",", ":")).encode()


def decode_snapshot(row: bytes) -> Snapshot:
    return snapshot_from_json(json.loads(row))
