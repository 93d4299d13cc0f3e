"""The instance record: a name for a group of attached volumes, as a machine has them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ebsim.errors import MetadataCorrupt
from ebsim.ids import AccountId, InstanceId


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance; which volumes it has, their attachments say."""

    instance_id: InstanceId
    owner_id: AccountId
    name: str
    create_time_ns: int


def instance_to_json(instance: Instance) -> dict[str, Any]:
    return asdict(instance)


def instance_from_json(values: Mapping[str, Any]) -> Instance:
    """The instance that ``instance_to_json`` wrote.

    Raises:
        MetadataCorrupt: a field is missing or unknown.
    """
    try:
        return Instance(**values)
    except TypeError as error:
        raise MetadataCorrupt(where="an instance record", found=repr(error)) from error


def encode_instance(instance: Instance) -> bytes:
    return json.dumps(instance_to_json(instance), separators=(",", ":")).encode()


def decode_instance(row: bytes) -> Instance:
    return instance_from_json(json.loads(row))
