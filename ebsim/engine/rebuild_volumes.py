"""What a rebuild brings back of volumes whose bytes are here, from the records kept with them.

the volume's folder      its row                                   what it was made from
with a whole record      the record's, as its state knows better   held while it is needed
with a damaged record    its newest manifest's, likewise           the same
the same, no manifest    none: a complaint                         unknown: nothing is freed
gone                     its newest manifest's, marked deleted     not needed
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ebsim.catalog.volume import Volume, deleted
from ebsim.durable_files import Files
from ebsim.engine.kept_records import VOLUMES, kept_volume, volume_ids
from ebsim.errors import MetadataCorrupt, UnsupportedFormat
from ebsim.ids import Digest, VolumeId
from ebsim.volumes.volume_folder import VolumeFolder


@dataclass(frozen=True, slots=True)
class KeptVolumes:
    """The rows of all volumes.

    Attributes:
        origins: The roots of the block maps that volumes still need.
        unknown: Volumes of which nothing is known but that they have a folder.
    """

    rows: list[Volume]
    origins: dict[VolumeId, Digest]
    complaints: list[str]
    unknown: list[VolumeId]


def kept_volumes(
    files: Files, region_path: Path, in_manifests: Mapping[VolumeId, Volume]
) -> KeptVolumes:
    """What is known of the region's volumes; *in_manifests* are those that snapshots name."""
    rows = {
        volume_id: deleted(volume) if volume.is_local else volume
        for volume_id, volume in in_manifests.items()
    }
    complaints, unknown = [], []
    for volume_id in volume_ids(files, region_path):
        try:
            rows[volume_id] = kept_volume(files, region_path, volume_id)
        except (MetadataCorrupt, UnsupportedFormat) as error:
            complaints.append(f"{volume_id}: {error}")
            told = _from_manifest(files, region_path, in_manifests.get(volume_id))
            if told is None:
                unknown.append(volume_id)
            else:
                rows[volume_id] = told
    origins = {
        volume_id: Digest(bytes.fromhex(volume.origin))
        for volume_id, volume in rows.items()
        if volume.origin is not None
    }
    return KeptVolumes(list(rows.values()), origins, complaints, unknown)


def _from_manifest(files: Files, region_path: Path, volume: Volume | None) -> Volume | None:
    """The volume as a manifest has it and its state knows better; not in any instance."""
    if volume is None or not volume.is_local:
        return None
    try:
        state = VolumeFolder(files, region_path / VOLUMES / volume.volume_id).load()
    except (MetadataCorrupt, UnsupportedFormat):
        return None
    origin = state.origin.hex() if state.origin is not None else None
    size_bytes = state.size_bytes
    return replace(volume, size_bytes=size_bytes, origin=origin, attachment=None, is_deleted=False)
