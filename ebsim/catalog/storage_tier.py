"""In which tier a snapshot's bytes are, and what was last done about that.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_SnapshotTierStatus.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class StorageTier(StrEnum):
    """Amazon's names of the tiers."""

    STANDARD = "standard"
    ARCHIVE = "archive"


class TieringStatus(StrEnum):
    """How the last archival or restore of a snapshot stands."""

    ARCHIVAL_IN_PROGRESS = "archival-in-progress"
    ARCHIVAL_COMPLETED = "archival-completed"
    ARCHIVAL_FAILED = "archival-failed"
    TEMPORARY_RESTORE_IN_PROGRESS = "temporary-restore-in-progress"
    TEMPORARY_RESTORE_COMPLETED = "temporary-restore-completed"
    TEMPORARY_RESTORE_FAILED = "temporary-restore-failed"
    PERMANENT_RESTORE_IN_PROGRESS = "permanent-restore-in-progress"
    PERMANENT_RESTORE_COMPLETED = "permanent-restore-completed"
    PERMANENT_RESTORE_FAILED = "permanent-restore-failed"

    @property
    def is_in_progress(self) -> bool:
        return self.value.endswith("-in-progress")


@dataclass(frozen=True, slots=True)
class Tiering:
    """The last archival or restore.

    Attributes:
        session_id: Who is at work on it; empty once it is over.
        detail: Why it failed; empty otherwise.
    """

    status: TieringStatus
    start_time_ns: int
    session_id: str = ""
    detail: str = ""

    def completed(self) -> "Tiering":
        """This, done."""
        status = TieringStatus(self.status.replace("-in-progress", "-completed"))
        return replace(self, status=status, session_id="")

    def failed(self, why: str) -> "Tiering":
        """This, failed."""
        status = TieringStatus(self.status.replace("-in-progress", "-failed"))
        return replace(self, status=status, session_id="", detail=why)


@dataclass(frozen=True, slots=True)
class Archive:
    """A snapshot stored complete by itself, in packs of its own.

    Attributes:
        archive_id: What the names of its packs begin with.
        root: The root digest of its block map, in hex.
        size_bytes: Its packs together.
        complete_time_ns: When it was archived.
    """

    archive_id: str
    root: str
    pack_count: int
    size_bytes: int
    complete_time_ns: int

    def pack_names(self) -> list[str]:
        """Its packs, in the order in which they were written."""
        return [
            archive_pack_name(self.archive_id, number) for number in range(1, self.pack_count + 1)
        ]


ARCHIVE_FOLDER = "archive"


def archive_pack_name(archive_id: str, number: int) -> str:
    """The name of the pack *number*, from 1, of an archive."""
    return f"{ARCHIVE_FOLDER}/{archive_id}-{number:06x}.pack"


def tiering_from_json(values: Mapping[str, Any]) -> Tiering:
    return Tiering(**{**values, "status": TieringStatus(values["status"])})
