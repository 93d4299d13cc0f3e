"""The volume record: a disk under an id of its own.

Either a source that was snapshotted and lies somewhere else, or a local volume, whose
bytes are in a folder of the region.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ebsim.catalog.bin_stay import BinStay
from ebsim.catalog.volume_settings import VolumeSettings, settings_from_json
from ebsim.errors import MetadataCorrupt
from ebsim.ids import AccountId, SnapshotId, VolumeId


@dataclass(frozen=True, slots=True)
class Attachment:
    """A volume's place in an instance.

    Attributes:
        device: The name that the instance knows it by, such as ``/dev/sdf``.
    """

    instance_id: str
    device: str
    attach_time_ns: int


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume.

    Attributes:
        location: The real path of the file or device it is read from; ``""`` for one fed
            from standard input, and for a local volume.
        size_bytes: Its length when it was last read; of a local volume its size.
        block_size: Bytes; fixed by its first snapshot.
        is_local: Its bytes are in a folder of the region, and it can be attached.
        snapshot_id: What a local volume was made from; that may be deleted since.
        origin: The root of the block map, in hex, that a local volume holds because some
            of its blocks are not here yet; ``None`` once it stands alone.
        origin_block_count: Blocks present in that map.
        origin_referenced_bytes: Their records, each as often as it occurs.
        is_deleted: Nothing is left of a local volume but the snapshots that name it; the
            row goes with the last of them.
        bin_stay: A local volume that was deleted, and is kept whole in the recycle bin.
        pooled_zone: Nobody has it yet: fast restore in that zone keeps it for the next who
            makes a volume of its snapshot.
        fast_restored: It comes from there, and was all here when it was made.
        lineage: Of the snapshot that it was made from, which its own snapshots carry on;
            ``""`` for one that was made from none.
        settings: Its type, speed and zone, as EBS has them.
        initialization_rate: MiB a second that it is loaded with at the most, by whoever does
            not say otherwise; ``None`` for as fast as it goes.
    """

    volume_id: VolumeId
    owner_id: AccountId
    location: str
    size_bytes: int
    block_size: int
    create_time_ns: int
    is_local: bool = False
    snapshot_id: SnapshotId | None = None
    origin: str | None = None
    origin_block_count: int = 0
    origin_referenced_bytes: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    attachment: Attachment | None = None
    is_deleted: bool = False
    bin_stay: BinStay | None = None
    lineage: str = ""
    settings: VolumeSettings = field(default_factory=VolumeSettings)
    pooled_zone: str | None = None
    fast_restored: bool = False
    initialization_rate: int | None = None


_ADDED_LATER: dict[str, Any] = {
    "bin_stay": None,
    "lineage": "",
    "settings": asdict(VolumeSettings()),
    "pooled_zone": None,
    "fast_restored": False,
    "initialization_rate": None,
}
"""Fields that the first version did not have, and what they are where it left them out."""

UNKNOWN_VOLUME = Volume(
    volume_id=VolumeId("vol-ffffffff"),
    owner_id=AccountId("000000000000"),
    location="",
    size_bytes=0,
    block_size=0,
    create_time_ns=0,
    is_deleted=True,
)
"""What Amazon names as the volume of a snapshot that was not taken of one, such as a copy.

One row for all of them in a region; it goes with the last, as that of a deleted volume.
"""


def deleted(volume: Volume) -> Volume:
    """What stays of a volume for the sake of its snapshots."""
    return replace(
        volume, origin=None, attachment=None, is_deleted=True, bin_stay=None, pooled_zone=None
    )


def volume_to_json(volume: Volume) -> dict[str, Any]:
    values = asdict(volume)
    for name, nothing in _ADDED_LATER.items():
        if values[name] == nothing:
            del values[name]
    return values


def volume_from_json(values: Mapping[str, Any]) -> Volume:
    """The volume that ``volume_to_json`` wrote.

    Raises:
        MetadataCorrupt: a field is missing or unknown.
    """
    try:
        known = dict(values)
        if known.get("attachment") is not None:
            known["attachment"] = Attachment(**known["attachment"])
        if "bin_stay" in known:
            known["bin_stay"] = BinStay(**known["bin_stay"])
        if "settings" in known:
            known["settings"] = settings_from_json(known["settings"])
        return Volume(**known)
    except (KeyError, TypeError, ValueError) as error:
        raise MetadataCorrupt(where="a volume record", found=repr(error)) from error


def encode_volume(volume: Volume) -> bytes:
    return json.dumps(volume_to_json(volume), separators=(",", ":")).encode()


def decode_volume(row: bytes) -> Volume:
    return volume_from_json(json.loads(row))
