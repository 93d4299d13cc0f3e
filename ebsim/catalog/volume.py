"""The volume record: a source that was snapshotted, under an id of its own."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ebsim.errors import MetadataCorrupt
from ebsim.ids import AccountId, VolumeId


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume.

    Attributes:
        location: The real path of the file or device it is read from; for one fed from
            standard input ``""``.
        size_bytes: Its length when it was last read.
        block_size: Bytes; fixed by its first snapshot.
    """

    volume_id: VolumeId
    owner_id: AccountId
    location: str
    size_bytes: int
    block_size: int
    create_time_ns: int


def volume_to_json(volume: Volume) -> dict[str, Any]:
    return asdict(volume)


def volume_from_json(values: Mapping[str, Any]) -> Volume:
    """The volume that ``volume_to_json`` wrote.

    Raises:
        MetadataCorrupt: a field is missing or unknown.
    """
    try:
        return Volume(**values)
    except TypeError as error:
        raise MetadataCorrupt(where="a volume record", found=repr(error)) from error


def encode_volume(volume: Volume) -> bytes:
    return json.dumps(volume_to_json(volume), separators=(",", ":")).encode()


def decode_volume(row: bytes) -> Volume:
    return volume_from_json(json.loads(row))
