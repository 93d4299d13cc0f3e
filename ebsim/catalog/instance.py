"""The instance record: a name for a group of attached volumes, as a machine has them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ebsim.errors import MetadataCorrupt
from ebsim.ids import AccountId, InstanceId


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance; which volumes it has, their attachments say.

    Attributes:
        name: By which the command line finds it; the id of one that EC2's API has run.
        zone: Its availability zone; ``""`` is the region's first.
        image_id, instance_type: What it was said to be run as.
        terminate_time_ns: When it was terminated; it is shown for a while after that.
    """

    instance_id: InstanceId
    owner_id: AccountId
    name: str
    create_time_ns: int
    zone: str = ""
    image_id: str = ""
    instance_type: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    terminate_time_ns: int | None = None

    @property
    def shown_tags(self) -> dict[str, str]:
        """Its tags; the name that it was made by is its ``Name``, unless it was given another."""
        tags = dict(self.tags)
        if self.name != self.instance_id:
            tags.setdefault("Name", self.name)
        return tags


_ADDED_LATER: dict[str, Any] = {
    "zone": "",
    "image_id": "",
    "instance_type": "",
    "tags": {},
    "terminate_time_ns": None,
}
"""Fields that the first version did not have, and what they are where it left them out."""


def instance_to_json(instance: Instance) -> dict[str, Any]:
    values = asdict(instance)
    for name, nothing in _ADDED_LATER.items():
        if values[name] == nothing:
            del values[name]
    return values


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
