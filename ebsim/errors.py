"""Every failure that ebsim reports, as one tree.

    EbsimError
        NotFound                a named snapshot, volume, region ... does not exist
            SnapshotNotFound, VolumeNotFound, InstanceNotFound, RuleNotFound
        Conflict                the resource is in a state that forbids the request
            VolumeInUse, SnapshotLocked, SnapshotArchived, RuleLocked,
            ModificationRateExceeded
            NotPermitted            its owner forbids it; PublicSharingBlocked
            QuotaExceeded           there are as many of a kind as there may be
        InvalidRequest          the caller's arguments make no sense, or none together
            UnsupportedParameter    understood, and refused by name
            InvalidGrantee          no account that anything can be shared with
        SourceUnusable          the image, device or stream to read cannot be used as asked
        TargetUnusable          the file or device to write cannot be used as asked
        MissingTool             an outside program or optional package is not installed
        UnsupportedFormat       a store, pack or row written by a newer ebsim
        IntegrityError          stored bytes are not what was written; never retried
            ChunkCorrupt, ChunkMissing, MetadataCorrupt
        StorageUnavailable      a disk call failed in a way that a retry may cure
            StorageFull             the device or quota has no room

Anything else that escapes (AssertionError, KeyError ...) is a bug in ebsim.

A message is one line: what, where (ids, byte offset), what was expected and what was
found, what was left unchanged, what to do next.  The facts are attributes as well.
AWS error codes are added in ``api/``, exit codes in ``cli/``; nothing here knows either.
"""

from datetime import UTC, datetime


class EbsimError(Exception):
    """A failure that ebsim understands; its text is one line meant for the user."""


class NotFound(EbsimError):
    """A named thing does not exist."""


class SnapshotNotFound(NotFound):
    """No snapshot has this id, or it belongs to another account."""

    def __init__(self, snapshot_id: str) -> None:
        self.snapshot_id = snapshot_id
        super().__init__(
            f"The snapshot '{snapshot_id}' does not exist. Run 'ebsim snapshot ls' to see them."
        )


class VolumeNotFound(NotFound):
    """No volume has this id."""

    def __init__(self, volume_id: str) -> None:
        self.volume_id = volume_id
        super().__init__(
            f"The volume '{volume_id}' does not exist. Run 'ebsim volume ls' to see them."
        )


class RuleNotFound(NotFound):
    """The account has no rule of this id in the recycle bin."""

    def __init__(self, rule_id: str) -> None:
        self.rule_id = rule_id
        super().__init__(
            f"The rule '{rule_id}' does not exist. Run 'ebsim recycle-bin rule ls' to see them."
        )


class InstanceNotFound(NotFound):
    """No instance has this id or name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"The instance '{name}' does not exist. Run 'ebsim instance ls' to see them."
        )


class Conflict(EbsimError):
    """The resource is in a state that forbids the request."""


class SnapshotLocked(Conflict):
    """A lock forbids that the snapshot is deleted, or that its lock is changed so."""


class RuleLocked(Conflict):
    """The lock of a rule of the recycle bin forbids the request."""


class QuotaExceeded(Conflict):
    """There are as many of a kind as there may be."""


class NotPermitted(Conflict):
    """The thing may be seen, and its owner, or a setting of his, forbids what was asked."""


class PublicSharingBlocked(NotPermitted):
    """The account has blocked that its snapshots become public."""


class SnapshotArchived(Conflict):
    """The snapshot is archived, and must be restored before it can be used."""

    def __init__(self, snapshot_id: str) -> None:
        self.snapshot_id = snapshot_id
        super().__init__(
            f"{snapshot_id} is archived and cannot be used. Nothing was changed. "
            f"Restore it first: ebsim snapshot unarchive {snapshot_id}"
        )


class VolumeInUse(Conflict):
    """A process has the volume open, or it is attached to an instance."""


class ModificationRateExceeded(Conflict):
    """A volume was modified as often as it may be within a day."""

    def __init__(self, volume_id: str, again_at_ns: int) -> None:
        self.volume_id = volume_id
        self.again_at_ns = again_at_ns
        at = datetime.fromtimestamp(again_at_ns // 10**9, UTC).isoformat()
        super().__init__(
            f"{volume_id} was modified as often as it may be within 24 hours. Nothing was "
            f"changed. It may be again at {at}."
        )


class ReadOnly(Conflict):
    """The device or export is not to be written."""


class InvalidRequest(EbsimError):
    """The caller's arguments make no sense, or none together."""


class InvalidGrantee(InvalidRequest):
    """What something was to be shared with is no account."""

    def __init__(self, grantee: str) -> None:
        self.grantee = grantee
        super().__init__(
            f"'{grantee}' is not an account's id, which has 12 digits. Nothing was changed."
        )


class UnsupportedParameter(InvalidRequest):
    """The parameter is understood and not supported: it is refused, never ignored."""


class SourceUnusable(EbsimError):
    """The image, device or stream to read cannot be used as asked."""


class TargetUnusable(EbsimError):
    """The file or device to write cannot be used as asked."""


class MissingTool(EbsimError):
    """An outside program or optional package is not installed."""

    def __init__(
        self, *, tool: str, package: str, purpose: str, installer: str = "apt-get install"
    ) -> None:
        self.tool = tool
        self.package = package
        super().__init__(
            f"{purpose} needs '{tool}', which is not installed. Nothing was changed. "
            f"Install it with '{installer} {package}'."
        )


class UnsupportedFormat(EbsimError):
    """A store, pack or row was written by a newer ebsim."""


class IntegrityError(EbsimError):
    """Stored bytes are not what was written.  Never retried."""


class ChunkCorrupt(IntegrityError):
    """A chunk's bytes no longer match the digest it is filed under."""

    def __init__(self, *, digest: bytes, pack: str, offset_bytes: int, found: str) -> None:
        self.digest = digest
        self.pack = pack
        self.offset_bytes = offset_bytes
        self.found = found
        super().__init__(
            f"chunk {digest.hex()[:16]} is damaged: pack {pack}, byte {offset_bytes}: {found}. "
            "Nothing was changed. Run 'ebsim store check --read-data --repair' to restore it "
            "from another copy."
        )


class ChunkMissing(IntegrityError):
    """A digest that something references is in no pack."""

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        super().__init__(
            f"chunk {digest.hex()[:16]} is referenced but in no pack. Nothing was changed. "
            "Run 'ebsim store check' to see what it belongs to."
        )


class MetadataCorrupt(IntegrityError):
    """A row of the metadata fails its checksum or makes no sense."""

    def __init__(self, *, where: str, found: str) -> None:
        self.where = where
        self.found = found
        super().__init__(
            f"the metadata is damaged: {where}: {found}. Nothing was changed. "
            "Run 'ebsim store rebuild' to make it anew from the packs and manifests."
        )


class StorageUnavailable(EbsimError):
    """A disk call failed in a way that a retry may cure.

    The facts are those of a failed system call, ``None`` where there was no such call.
    """

    def __init__(
        self,
        message: str,
        *,
        operation: str | None = None,
        path: str | None = None,
        error_number: int | None = None,
    ) -> None:
        self.operation = operation
        self.path = path
        self.error_number = error_number
        super().__init__(message)


class StorageFull(StorageUnavailable):
    """The device or quota has no room."""
