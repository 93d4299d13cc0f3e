"""What a check of a store found, and what a repair made of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ebsim.ids import SnapshotId


class FindingKind(StrEnum):
    """What is wrong."""

    METADATA = "metadata"  # pages or rows that cannot be read
    PACK = "pack"  # a pack is missing, or its size or footer is wrong
    CHUNK = "chunk"  # a chunk cannot be read
    INDEX = "index"  # rows that lead nowhere, or do not lead where they should
    ACCOUNT = "account"  # a pack's live bytes, or dead bytes, are counted wrong
    COUNT = "count"  # a reference count has drifted
    NODE = "node"  # a node's row of edges is not what the node says
    FINGERPRINT = "fingerprint"  # a block's fingerprint is another's
    SNAPSHOT = "snapshot"  # a snapshot's row, index rows, root or volume
    VOLUME = "volume"  # a volume's row, hold or folder
    MANIFEST = "manifest"  # a snapshot's manifest
    ORPHAN = "orphan"  # an object that belongs to nothing


class BlockRange(NamedTuple):
    """Blocks of a volume, half-open."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class AffectedSnapshot:
    """The blocks of a snapshot that cannot be read; *is_whole*: none of it can."""

    snapshot_id: SnapshotId
    ranges: Sequence[BlockRange]
    is_whole: bool = False

    def __str__(self) -> str:
        if self.is_whole:
            return f"{self.snapshot_id}, all of it"
        shown = ", ".join(
            f"{one.start}" if one.stop == one.start + 1 else f"{one.start}-{one.stop - 1}"
            for one in self.ranges[:8]
        )
        more = " and more" if len(self.ranges) > 8 else ""
        return f"{self.snapshot_id}, blocks {shown}{more}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        where: The pack and byte, chunk, row or snapshot.
        what: What was found there.
        affects: Whose bytes cannot be read for it; empty where none are lost.
        is_mended: A repair put it right.
    """

    kind: FindingKind
    where: str
    what: str
    affects: Sequence[AffectedSnapshot] = ()
    is_mended: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """How much was looked at."""

    pack_count: int = 0
    chunk_count: int = 0
    node_count: int = 0
    snapshot_count: int = 0
    reference_count: int = 0
    read_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The outcome of a check.

    Attributes:
        notes: What is worth knowing and not wrong: interrupted uploads, unknown files.
        repairs: What a repair did, a sentence each.
        lost: What stays unreadable, all findings together.
    """

    checked: Checked
    findings: Sequence[Finding] = ()
    notes: Sequence[str] = ()
    repairs: Sequence[str] = ()
    lost: Sequence[AffectedSnapshot] = ()

    @property
    def has_damage(self) -> bool:
        """Whether anything was found wrong, mended or not."""
        return bool(self.findings)

    @property
    def has_damage_left(self) -> bool:
        """Whether anything found wrong is so still."""
        return any(not finding.is_mended for finding in self.findings)


def merged_ranges(ranges: Sequence[BlockRange]) -> list[BlockRange]:
    """*ranges* in order, those that touch or overlap made one."""
    merged: list[BlockRange] = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1].stop:
            merged[-1] = BlockRange(merged[-1].start, max(stop, merged[-1].stop))
        else:
            merged.append(BlockRange(start, stop))
    return merged


def merged_snapshots(affected: Sequence[AffectedSnapshot]) -> list[AffectedSnapshot]:
    """*affected* with one entry a snapshot."""
    ranges: dict[SnapshotId, list[BlockRange]] = {}
    whole = {one.snapshot_id for one in affected if one.is_whole}
    for one in affected:
        ranges.setdefault(one.snapshot_id, []).extend(one.ranges)
    return [
        AffectedSnapshot(snapshot_id, merged_ranges(ranges[snapshot_id]), snapshot_id in whole)
        for snapshot_id in sorted(ranges)
    ]
