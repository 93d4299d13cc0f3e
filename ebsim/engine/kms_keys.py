"""Making keys and aliases, finding keys by their names, and choosing the one that EBS takes.

A key is named by its id, its ARN, an alias or an alias's ARN.  A key in another account's
ARN is refused in the same words whether it is there or not.

Source: https://docs.aws.amazon.com/kms/latest/APIReference/API_Operations.html
"""

import re
import uuid
from dataclasses import replace

from ebsim.catalog.account_settings import get_settings, put_settings
from ebsim.catalog.kms_key import (
    ALIASES_MAX,
    EBS_ALIAS,
    Alias,
    KmsKey,
    alias_arn,
    amazons_key,
    find_key,
    key_arn,
    key_row,
    keys_of,
    put_key,
)
from ebsim.engine.kept_settings import write_current_row
from ebsim.engine.region import Region
from ebsim.errors import Conflict, InvalidRequest, NotFound, NotPermitted, QuotaExceeded
from ebsim.metadata.transactions import Reader, Table, Transaction

AMAZONS_ALIASES = "alias/aws/"
_ALIASES = "alias/"
_ARN = re.compile(r"arn:aws:kms:([^:/]+):([0-9]{12}):(?:key/(.+)|(alias/.+))")
_KEY_ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class KeyNotFound(NotFound):
    """A name leads to no key of the account in this region."""


class KeyOfOthers(NotPermitted):
    """An ARN names another account's key."""


class KeyArnMalformed(InvalidRequest):
    """What begins as an ARN is none of a key or an alias."""


class AliasNameRefused(InvalidRequest):
    """No alias can be called so."""


class AliasIncomplete(AliasNameRefused):
    """``alias/`` and nothing behind it."""


class AliasReserved(NotPermitted):
    """Only Amazon makes aliases called so."""


class AliasExists(Conflict):
    """The account has an alias of that name in this region."""


def create_key(region: Region, description: str = "") -> KmsKey:
    """Make a key of the account's."""
    key = KmsKey(
        key_id=str(uuid.UUID(int=region.random.getrandbits(128), version=4)),
        owner_id=region.account_id,
        description=description,
        create_time_ns=region.clock.now_ns(),
    )
    with region.session():
        region.metadata.run(lambda txn: put_key(txn, key))
        write_current_row(region, Table.KMS_KEYS, key_row(key.owner_id, key.key_id))
    return key


def create_alias(region: Region, alias_name: str, key_name: str) -> None:
    """Have *alias_name* lead to the account's key *key_name*, its id or ARN.

    Raises:
        AliasNameRefused, AliasReserved: it cannot be called so.
        AliasExists: it leads somewhere already.
        InvalidRequest: *key_name* is an alias.
        KeyNotFound, KeyOfOthers, KeyArnMalformed: as :func:`show_key`.
        QuotaExceeded: the key has 50.
    """
    _check_alias(alias_name)
    account_id = region.account_id

    def put(txn: Transaction) -> KmsKey:
        if _alias_in(region, key_name) is not None:
            raise InvalidRequest("Aliases must refer to keys. Not aliases")
        key = _key_named(txn, region, key_name)
        if any(
            alias.name == alias_name for one in keys_of(txn, account_id) for alias in one.aliases
        ):
            arn = alias_arn(region.name, account_id, alias_name)
            raise AliasExists(f"An alias with the name {arn} already exists")
        if key.is_amazons:
            raise AliasReserved(f"The key {key.key_id} is Amazon's: no other alias leads to it.")
        if len(key.aliases) >= ALIASES_MAX:
            raise QuotaExceeded(
                f"{ALIASES_MAX} aliases lead to the key {key.key_id}, which is as many as may. "
                "Nothing was changed."
            )
        aliases = (*key.aliases, Alias(alias_name, region.clock.now_ns()))
        changed = replace(key, aliases=aliases)
        put_key(txn, changed)
        return changed

    with region.session():
        key = region.metadata.run(put)
        write_current_row(region, Table.KMS_KEYS, key_row(account_id, key.key_id))


def _check_alias(alias_name: str) -> None:
    if not alias_name.startswith(_ALIASES):
        raise AliasNameRefused(
            f'Alias must start with the prefix "{_ALIASES}". Please see '
            "https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html"
        )
    if alias_name == _ALIASES:
        raise AliasIncomplete(f"'{alias_name}' names no alias: something must follow it.")
    if ":" in alias_name:
        raise AliasNameRefused(f"{alias_name} contains invalid characters for an alias")
    if alias_name.startswith(AMAZONS_ALIASES):
        raise AliasReserved(f"{alias_name}: aliases that begin {AMAZONS_ALIASES} are Amazon's.")


def show_key(region: Region, name: str) -> KmsKey:
    """The account's key of that id, ARN, alias or alias's ARN.

    Raises:
        KeyNotFound: there is none in this region.
        KeyOfOthers: the ARN is another account's.
        KeyArnMalformed: it begins as an ARN and is none.
    """
    return region.metadata.read(lambda reader: _key_named(reader, region, name))


def list_aliases(region: Region, key_name: str | None = None) -> list[tuple[Alias, KmsKey]]:
    """The account's aliases, or those that lead to one key, by name; each with its key.

    Raises:
        InvalidRequest: *key_name* is an alias.
        KeyNotFound, KeyOfOthers, KeyArnMalformed: as :func:`show_key`.
    """

    def look(reader: Reader) -> list[KmsKey]:
        if key_name is None:
            return _all_keys(reader, region)
        if _alias_in(region, key_name) is not None:
            raise InvalidRequest(f"{key_name} is an alias. Name its key by id or ARN.")
        return [_key_named(reader, region, key_name)]

    keys = region.metadata.read(look)
    found = [(alias, key) for key in keys for alias in key.aliases]
    return sorted(found, key=lambda row: row[0].name)


def default_key(region: Region) -> str:
    """The id of the key that EBS takes for the account in this region."""
    settings = region.metadata.read(lambda reader: get_settings(reader, region.account_id))
    return settings.default_key_id or amazons_key(region.name, region.account_id).key_id


def choose_default_key(region: Region, name: str) -> str:
    """Have EBS take the account's key *name* from now on, and return its id.

    Raises:
        KeyNotFound, KeyOfOthers, KeyArnMalformed: as :func:`show_key`.
    """

    def put(txn: Transaction) -> str:
        key = _key_named(txn, region, name)
        settings = get_settings(txn, region.account_id)
        chosen = "" if key.is_amazons else key.key_id
        if settings.default_key_id != chosen:
            put_settings(txn, replace(settings, default_key_id=chosen))
        return key.key_id

    with region.session():
        key_id = region.metadata.run(put)
        write_current_row(region, Table.ACCOUNT_SETTINGS, region.account_id.encode())
    return key_id


def reset_default_key(region: Region) -> str:
    """Have EBS take Amazon's key again, and return its id."""
    return choose_default_key(region, EBS_ALIAS)


def _all_keys(reader: Reader, region: Region) -> list[KmsKey]:
    account_id = region.account_id
    return [*keys_of(reader, account_id), amazons_key(region.name, account_id)]


def _key_named(reader: Reader, region: Region, name: str) -> KmsKey:
    account_id = region.account_id
    alias_name = _alias_in(region, name)
    if alias_name is not None:
        for key in _all_keys(reader, region):
            if any(alias.name == alias_name for alias in key.aliases):
                return key
        arn = alias_arn(region.name, account_id, alias_name)
        raise KeyNotFound(f"Alias {arn} is not found.")
    key_id = _local_name(region, name)
    if not _KEY_ID.fullmatch(key_id):
        raise KeyNotFound(f"Invalid keyId {key_id}")
    amazons = amazons_key(region.name, account_id)
    found = amazons if key_id == amazons.key_id else find_key(reader, account_id, key_id)
    if found is None:
        raise KeyNotFound(f"Key '{key_arn(region.name, account_id, key_id)}' does not exist")
    return found


def _alias_in(region: Region, name: str) -> str | None:
    """The alias that *name* is, or is the ARN of; ``None`` for a key's name."""
    is_alias = name.startswith(_ALIASES) if not name.startswith("arn:") else f":{_ALIASES}" in name
    return _local_name(region, name) if is_alias else None


def _local_name(region: Region, name: str) -> str:
    """The alias or key id that *name* is, or is the ARN of, in this account and region."""
    if not name.startswith("arn:"):
        return name
    match = _ARN.fullmatch(name)
    if match is None:
        raise KeyArnMalformed(f"Invalid arn {name}")
    region_name, owner_id, key_id, alias_name = match.groups()
    if region_name != region.name:
        raise KeyNotFound(f"Invalid arn {region_name}")
    if owner_id != region.account_id:
        raise KeyOfOthers(
            f"User: arn:aws:iam::{region.account_id}:root is not authorized to perform this on "
            f"resource: {name} because the resource does not exist in this Region, no "
            "resource-based policies allow access, or a resource-based policy explicitly denies "
            "access"
        )
    found: str = key_id or alias_name
    return found
