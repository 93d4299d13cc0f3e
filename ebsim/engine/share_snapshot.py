"""Letting other accounts use a snapshot.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifySnapshotAttribute.html
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ebsim.catalog.account_settings import BlockPublicAccess, get_settings
from ebsim.catalog.records import get_snapshot
from ebsim.catalog.snapshot import Snapshot
from ebsim.engine.change_snapshot import change_snapshot
from ebsim.engine.region import Region
from ebsim.engine.storage_tiers import refuse_archived
from ebsim.errors import InvalidGrantee, InvalidRequest, PublicSharingBlocked
from ebsim.ids import AccountId, is_account_id
from ebsim.metadata.transactions import Reader

GRANTEES_PER_CHANGE_MAX = 500


@dataclass(frozen=True, slots=True)
class Grantees:
    """Who may use a snapshot beside its owner.

    Attributes:
        accounts: By their ids.
        everybody: The group ``all``.
    """

    accounts: frozenset[AccountId] = frozenset()
    everybody: bool = False

    @classmethod
    def of(cls, accounts: Iterable[str] = (), *, everybody: bool = False) -> "Grantees":
        """The accounts of those ids.

        Raises:
            InvalidGrantee: one of *accounts* is no account's id.
        """
        ids = frozenset(AccountId(account) for account in accounts)
        for account in sorted(ids):
            if not is_account_id(account):
                raise InvalidGrantee(account)
        return cls(ids, everybody)

    @property
    def count(self) -> int:
        return len(self.accounts) + self.everybody


def share_snapshot(region: Region, name: str, grantees: Grantees) -> Snapshot:
    """Let *grantees* use the account's snapshot; those that may already are passed over.

    Raises:
        SnapshotNotFound, InvalidRequest: a name, or more than 500 grantees at once.
        NotPermitted: another's snapshot.
        PublicSharingBlocked: it was to become public.
        SnapshotArchived: it is archived.
        SnapshotArchived: it is archived.
    """
    _check_count(grantees)

    def shared(reader: Reader) -> Snapshot:
        old = get_snapshot(reader, region.account_id, name)
        refuse_archived(region, old)
        if grantees.everybody:
            _refuse_blocked(reader, old)
        # The owner may use it anyway.
        accounts = {*old.shared_with, *grantees.accounts} - {old.owner_id}
        return replace(
            old,
            shared_with=tuple(sorted(accounts)),
            is_public=old.is_public or grantees.everybody,
        )

    return change_snapshot(region, shared)


def unshare_snapshot(region: Region, name: str, grantees: Grantees) -> Snapshot:
    """Let *grantees* use the snapshot no more; volumes that they made of it stay theirs.

    Raises:
        SnapshotNotFound, InvalidRequest: a name, or more than 500 grantees at once.
        NotPermitted: another's snapshot.
    """
    _check_count(grantees)

    def unshared(reader: Reader) -> Snapshot:
        old = get_snapshot(reader, region.account_id, name)
        return _shared_with(
            old,
            [account for account in old.shared_with if account not in grantees.accounts],
            is_public=old.is_public and not grantees.everybody,
        )

    return change_snapshot(region, unshared)


def reset_sharing(region: Region, name: str) -> Snapshot:
    """Let nobody but its owner use the snapshot.

    Raises:
        SnapshotNotFound, InvalidRequest: a name.
        NotPermitted: another's snapshot.
    """

    def reset(reader: Reader) -> Snapshot:
        old = get_snapshot(reader, region.account_id, name)
        return _shared_with(old, (), is_public=False)

    return change_snapshot(region, reset)


def shown_sharing(region: Region, name: str) -> Grantees:
    """Who may use the account's snapshot beside itself.

    Raises:
        SnapshotNotFound, InvalidRequest: a name.
        NotPermitted: another's snapshot.
    """
    snapshot = region.metadata.read(lambda reader: get_snapshot(reader, region.account_id, name))
    return Grantees(frozenset(snapshot.shared_with), snapshot.is_public)


def _shared_with(
    snapshot: Snapshot, accounts: Iterable[AccountId], *, is_public: bool
) -> Snapshot:
    """*snapshot*, shared so; tags of accounts that see it no more are dropped."""
    kept = tuple(sorted(accounts))
    tags = {
        account: tags
        for account, tags in snapshot.foreign_tags.items()
        if is_public or account in kept
    }
    return replace(snapshot, shared_with=kept, is_public=is_public, foreign_tags=tags)


def _check_count(grantees: Grantees) -> None:
    if grantees.count > GRANTEES_PER_CHANGE_MAX:
        raise InvalidRequest(
            f"Modification size must not be greater than {GRANTEES_PER_CHANGE_MAX}."
        )


def _refuse_blocked(reader: Reader, snapshot: Snapshot) -> None:
    blocked = get_settings(reader, snapshot.owner_id).block_public_access
    if blocked is not BlockPublicAccess.UNBLOCKED:
        raise PublicSharingBlocked(
            f"{snapshot.snapshot_id} cannot be made public: the account's block public access "
            f"for snapshots is '{blocked}'. Nothing was changed."
        )
