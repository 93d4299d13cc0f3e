"""Who may see and use a snapshot, and which of them a listing asks for.

The owner may do everything.  An account that it is shared with, and everybody where it is
public, may list it, read it, make volumes from it and copy it, and tag it for itself.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSnapshots.html
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from ebsim.catalog.account_settings import BlockPublicAccess, get_settings
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.snapshot_index import PUBLIC, Stream, of_owner, shared_with
from ebsim.ids import AccountId
from ebsim.metadata.transactions import Reader

SELF = "self"


def is_seen_as_public(reader: Reader, snapshot: Snapshot) -> bool:
    """Whether everybody may use it: public, and its owner's settings do not hide that."""
    if not snapshot.is_public or snapshot.bin_stay is not None:
        return False
    blocked = get_settings(reader, snapshot.owner_id).block_public_access
    return blocked is not BlockPublicAccess.BLOCK_ALL_SHARING


def may_use(reader: Reader, snapshot: Snapshot, account_id: AccountId) -> bool:
    """Whether *account_id* may see *snapshot* and read what it holds."""
    if snapshot.bin_stay is not None:
        return False
    if account_id == snapshot.owner_id or account_id in snapshot.shared_with:
        return True
    return is_seen_as_public(reader, snapshot)


@dataclass(frozen=True, slots=True)
class Audience:
    """Which of the snapshots that *account_id* may use a listing shows.

    Attributes:
        owners: Only those of these accounts; empty for any.
        restorable_by: Only those that one of these may use: the account itself (its own,
            and those shared with it by name), another one (the account's own that are
            shared with that one), or :data:`PUBLIC`; empty for any.
    """

    account_id: AccountId
    owners: frozenset[str] = frozenset()
    restorable_by: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        account_id: AccountId,
        *,
        owners: Iterable[str] = (),
        restorable_by: Iterable[str] = (),
    ) -> Self:
        """The audience that an account names, :data:`SELF` being the account."""

        def resolved(names: Iterable[str]) -> frozenset[str]:
            return frozenset(account_id if name == SELF else name for name in names)

        return cls(account_id, resolved(owners), resolved(restorable_by))

    def streams(self) -> list[Stream]:
        """Index streams that hold all that it shows, and little else."""
        me = self.account_id
        if self.owners == {me} and self.restorable_by <= {me}:
            return [of_owner(me)]
        if not self.restorable_by:
            shared = [shared_with(me), shared_with(PUBLIC)]
            return shared if self.owners and me not in self.owners else [of_owner(me), *shared]
        streams = [shared_with(who) for who in sorted(self.restorable_by)]
        return [of_owner(me), *streams] if me in self.restorable_by else streams

    def shows(self, reader: Reader, snapshot: Snapshot) -> bool:
        """Whether *snapshot* is one of those."""
        if self.owners and snapshot.owner_id not in self.owners:
            return False
        if not may_use(reader, snapshot, self.account_id):
            return False
        return not self.restorable_by or any(
            self._restorable(reader, snapshot, who) for who in self.restorable_by
        )

    def _restorable(self, reader: Reader, snapshot: Snapshot, who: str) -> bool:
        if who == PUBLIC:
            return is_seen_as_public(reader, snapshot)
        is_mine = snapshot.owner_id == self.account_id
        if who == self.account_id:
            return is_mine or who in snapshot.shared_with
        # What others have shared with third parties is nobody's business.
        return is_mine and who in snapshot.shared_with
