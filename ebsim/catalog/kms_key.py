"""Keys of KMS, as far as EBS has to name them, and the aliases that lead to them.

    table       key                       value
    KMS_KEYS    owner id, key id          the key and its aliases, JSON

An account's keys are of one region, as its snapshots are.  There is no secret behind a
key: ebsim encrypts nothing.  Each account has one more, Amazon's for EBS, which has no row: it
is always there, and its id follows from the account's and the region's name.
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ebsim.errors import MetadataCorrupt
from ebsim.ids import AccountId
from ebsim.metadata.transactions import Reader, Table, Transaction

EBS_ALIAS = "alias/aws/ebs"
ALIASES_MAX = 50
"""As many as Amazon lets lead to one key."""

_ROWS_PER_SCAN = 256


class Alias(NamedTuple):
    """A name, beginning ``alias/``, that leads to the key that has it.

    Attributes:
        create_time_ns: ``None`` of Amazon's own.
    """

    name: str
    create_time_ns: int | None


@dataclass(frozen=True, slots=True)
class KmsKey:
    """A key.

    Attributes:
        key_id: A UUID.
        create_time_ns: ``None`` of Amazon's own.
    """

    key_id: str
    owner_id: AccountId
    description: str = ""
    create_time_ns: int | None = None
    aliases: tuple[Alias, ...] = ()

    @property
    def is_amazons(self) -> bool:
        """Whether it is the key that every account has."""
        return any(alias.name == EBS_ALIAS for alias in self.aliases)


def amazons_key(region_name: str, account_id: AccountId) -> KmsKey:
    """The key that EBS takes for the account where it chose no other."""
    name = uuid.uuid5(uuid.NAMESPACE_URL, alias_arn(region_name, account_id, EBS_ALIAS))
    return KmsKey(
        key_id=str(name),
        owner_id=account_id,
        description="Default key that protects my EBS volumes when no other key is defined",
        aliases=(Alias(EBS_ALIAS, None),),
    )


def key_arn(region_name: str, account_id: AccountId, key_id: str) -> str:
    return f"arn:aws:kms:{region_name}:{account_id}:key/{key_id}"


def alias_arn(region_name: str, account_id: AccountId, alias_name: str) -> str:
    return f"arn:aws:kms:{region_name}:{account_id}:{alias_name}"


def key_to_json(key: KmsKey) -> dict[str, Any]:
    return asdict(key)


def key_from_json(values: Mapping[str, Any]) -> KmsKey:
    """The key that ``key_to_json`` wrote.

    Raises:
        MetadataCorrupt: a field is missing, unknown or of another type.
    """
    try:
        aliases = tuple(Alias(str(name), int(time_ns)) for name, time_ns in values["aliases"])
        return KmsKey(**{**values, "aliases": aliases})
    except (KeyError, TypeError, ValueError) as error:
        raise MetadataCorrupt(where="a key's record", found=repr(error)) from error


def key_row(owner_id: AccountId, key_id: str) -> bytes:
    """The row of a key."""
    return f"{owner_id}{key_id}".encode()


def put_key(txn: Transaction, key: KmsKey) -> None:
    row = json.dumps(key_to_json(key), separators=(",", ":")).encode()
    txn.put_many(Table.KMS_KEYS, [(key_row(key.owner_id, key.key_id), row)])


def find_key(reader: Reader, owner_id: AccountId, key_id: str) -> KmsKey | None:
    (row,) = reader.get_many(Table.KMS_KEYS, [key_row(owner_id, key_id)])
    return None if row is None else key_from_json(json.loads(row))


def keys_of(reader: Reader, owner_id: AccountId) -> Iterator[KmsKey]:
    """The keys that the account made, by id."""
    start, stop = owner_id.encode(), owner_id.encode() + b"\xff"
    while rows := reader.scan(Table.KMS_KEYS, start, stop, limit=_ROWS_PER_SCAN):
        yield from (key_from_json(json.loads(row)) for _, row in rows)
        start = rows[-1][0] + b"\0"
