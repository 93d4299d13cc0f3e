"""Records of volumes and instances kept as files, for the day on which the metadata is lost.

    volumes/VOL/volume.json     {"checksum": "...", "format": 1, "volume": {...}}
    instances/I-ID.json         {"checksum": "...", "format": 1, "instance": {...}}

``checksum`` is XXH3-64, in hexadecimal, of the object without it, as JSON with sorted keys.

The metadata is what counts while it is there: a file is written after the transaction
that it follows, and recovery writes those again that a crash left behind.  Of what a
volume is when its file and its state differ, the state is right.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ebsim.catalog.instance import Instance, instance_from_json, instance_to_json
from ebsim.catalog.records import find_volume, scan_instances
from ebsim.catalog.volume import Volume, volume_from_json, volume_to_json
from ebsim.content.fingerprint import checksum
from ebsim.durable_files import Files, write_atomically
from ebsim.engine.region import Region
from ebsim.errors import MetadataCorrupt, UnsupportedFormat
from ebsim.ids import InstanceId, VolumeId, is_whole_id
from ebsim.volumes.volume_folder import VolumeFolder

VOLUMES = "volumes"
INSTANCES = "instances"
RECORD = "volume.json"
FORMAT = 1
_SIZE_MAX = 1 << 20
_SUFFIX = ".json"


def volume_ids(files: Files, region_path: Path) -> list[VolumeId]:
    """The volumes that have a folder of their final name."""
    names = files.folder_names(region_path / VOLUMES)
    return [VolumeId(name) for name in sorted(names) if is_whole_id(name, "vol")]


def write_record(files: Files, folder: Path, volume: Volume) -> None:
    """Keep the volume's record with its bytes, durably.

    Raises:
        FileNotFoundError: the folder is not there.
    """
    write_atomically(files, folder / RECORD, encode_record("volume", volume_to_json(volume)))


def read_record(files: Files, folder: Path) -> Volume:
    """The record that ``write_record`` wrote.

    Raises:
        MetadataCorrupt: it is missing or damaged.
        UnsupportedFormat: a newer ebsim wrote it.
    """
    return volume_from_json(read_kept(files, folder / RECORD, "volume"))


def kept_volume(files: Files, region_path: Path, volume_id: VolumeId) -> Volume:
    """What the folder says of a volume: its record, as far as its state does not know better.

    Raises:
        MetadataCorrupt: either is missing, damaged, or another volume's.
        UnsupportedFormat: a newer ebsim wrote them.
    """
    path = region_path / VOLUMES / volume_id
    volume = read_record(files, path)
    if volume.volume_id != volume_id:
        raise MetadataCorrupt(where=str(path / RECORD), found=f"the record of {volume.volume_id}")
    state = VolumeFolder(files, path).load()
    origin = state.origin.hex() if state.origin is not None else None
    return replace(volume, size_bytes=state.size_bytes, origin=origin, is_deleted=False)


def write_current_record(region: Region, volume_id: VolumeId) -> None:
    """Make the kept record what the metadata says, whoever changes that meanwhile.

    Nothing is written for a volume that is elsewhere, or gone.
    """
    written = None
    folder = region.path / VOLUMES / volume_id
    while True:
        current = region.metadata.read(lambda reader: find_volume(reader, volume_id))
        if current is None or current == written or not current.is_local or current.is_deleted:
            return
        if region.files.status(folder) is None:
            return
        write_record(region.files, folder, current)
        written = current


def settle_kept_records(region: Region) -> None:
    """Write again the records that are not what the metadata says, and drop those of nothing."""
    for volume_id in volume_ids(region.files, region.path):
        if _differs(region, volume_id):
            write_current_record(region, volume_id)
    kept = {one.instance_id: one for one in kept_instances(region.files, region.path)[0]}
    wanted = {one.instance_id: one for one in region.metadata.read(scan_instances)}
    for instance_id in kept.keys() - wanted.keys():
        forget_instance(region, instance_id)
    for instance_id, instance in wanted.items():
        if kept.get(instance_id) != instance:
            keep_instance(region, instance)


def _differs(region: Region, volume_id: VolumeId) -> bool:
    try:
        kept = read_record(region.files, region.path / VOLUMES / volume_id)
    except MetadataCorrupt:
        return True
    except UnsupportedFormat:
        return False
    return kept != region.metadata.read(lambda reader: find_volume(reader, volume_id))


def keep_instance(region: Region, instance: Instance) -> None:
    """Keep the instance's record, durably."""
    folder = region.path / INSTANCES
    region.files.make_directories(folder)
    record = encode_record("instance", instance_to_json(instance))
    write_atomically(region.files, folder / f"{instance.instance_id}{_SUFFIX}", record)


def write_current_instance(region: Region, instance_id: InstanceId) -> None:
    """Make the kept record what the metadata says, whoever changes that meanwhile."""
    written = None
    while True:
        live = region.metadata.read(scan_instances)
        current = next((one for one in live if one.instance_id == instance_id), None)
        if current is None or current == written:
            break
        keep_instance(region, current)
        written = current
    if current is None and written is not None:
        # It was terminated, and its record forgotten, while it was written here.
        forget_instance(region, instance_id)


def forget_instance(region: Region, instance_id: InstanceId) -> None:
    """Remove the instance's record, durably."""
    folder = region.path / INSTANCES
    with suppress(FileNotFoundError):
        region.files.unlink(folder / f"{instance_id}{_SUFFIX}")
    region.files.sync_directory(folder)


def kept_instances(files: Files, region_path: Path) -> tuple[list[Instance], list[str]]:
    """The instances that have a whole record, and what is wrong with the others."""
    folder = region_path / INSTANCES
    found, complaints = [], []
    for name in sorted(files.file_names(folder)):
        if not is_whole_id(name.removesuffix(_SUFFIX), "i"):
            continue
        try:
            found.append(instance_from_json(read_kept(files, folder / name, "instance")))
        except (MetadataCorrupt, UnsupportedFormat) as error:
            complaints.append(f"{INSTANCES}/{name}: {error}")
    return found, complaints


def encode_record(kind: str, values: Mapping[str, Any]) -> bytes:
    """*values* under *kind*, with the format and a checksum."""
    body = {"format": FORMAT, kind: values}
    return json.dumps({**body, "checksum": _checksum(body)}).encode()


def _checksum(body: Mapping[str, Any]) -> str:
    return checksum(json.dumps(body, sort_keys=True).encode()).hex()


def read_kept(files: Files, path: Path, kind: str) -> Mapping[str, Any]:
    """What ``encode_record`` made, read from *path*.

    Raises:
        MetadataCorrupt: it is missing or damaged.
        UnsupportedFormat: a newer ebsim wrote it.
    """
    try:
        descriptor = files.open_to_read(path)
    except FileNotFoundError as error:
        raise MetadataCorrupt(where=str(path), found="it is missing") from error
    try:
        text = files.read(descriptor, 0, _SIZE_MAX)
    finally:
        files.close(descriptor)
    try:
        body = json.loads(text)
        if body.pop("checksum") != _checksum(body):
            raise MetadataCorrupt(where=str(path), found="a checksum that does not fit")
        if body["format"] != FORMAT:
            raise UnsupportedFormat(
                f"{path} was written by a newer ebsim. Nothing was changed. Use that one."
            )
        values: Mapping[str, Any] = body[kind]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MetadataCorrupt(where=str(path), found=repr(error)) from error
    return values
