"""What an account has set for a region as a whole."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from ebsim.errors import MetadataCorrupt
from ebsim.ids import AccountId
from ebsim.metadata.transactions import Reader, Table, Transaction


class BlockPublicAccess(StrEnum):
    """Whether the account's snapshots may be public.

    Source: https://docs.aws.amazon.com/ebs/latest/userguide/block-public-access-snapshots.html
    """

    UNBLOCKED = "unblocked"
    BLOCK_NEW_SHARING = "block-new-sharing"
    BLOCK_ALL_SHARING = "block-all-sharing"


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """The settings of *account_id*.

    Attributes:
        default_key_id: The KMS key that EBS takes; empty for Amazon's.
    """

    account_id: AccountId
    block_public_access: BlockPublicAccess = BlockPublicAccess.UNBLOCKED
    default_key_id: str = ""


def settings_to_json(settings: AccountSettings) -> dict[str, Any]:
    values = asdict(settings)
    if not settings.default_key_id:
        del values["default_key_id"]
    return values


def settings_from_json(values: Mapping[str, Any]) -> AccountSettings:
    """The settings that ``settings_to_json`` wrote.

    Raises:
        MetadataCorrupt: a field is missing, unknown or of another type.
    """
    try:
        blocked = BlockPublicAccess(values["block_public_access"])
        return AccountSettings(**{**values, "block_public_access": blocked})
    except (KeyError, TypeError, ValueError) as error:
        raise MetadataCorrupt(where="an account's settings", found=repr(error)) from error


def get_settings(reader: Reader, account_id: AccountId) -> AccountSettings:
    """The account's settings; those that it never set have their defaults."""
    (row,) = reader.get_many(Table.ACCOUNT_SETTINGS, [account_id.encode()])
    return AccountSettings(account_id) if row is None else settings_from_json(json.loads(row))


def put_settings(txn: Transaction, settings: AccountSettings) -> None:
    row = json.dumps(settings_to_json(settings), separators=(",", ":")).encode()
    txn.put_many(Table.ACCOUNT_SETTINGS, [(settings.account_id.encode(), row)])


def all_settings(reader: Reader) -> list[AccountSettings]:
    """The settings of every account that has set any."""
    rows = reader.scan(Table.ACCOUNT_SETTINGS, limit=1 << 16)
    return [settings_from_json(json.loads(row)) for _, row in rows]
