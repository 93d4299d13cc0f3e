"""Manifests: a completed snapshot as a small JSON object beside the packs.

Packs and manifests together are the truth; the metadata can be made again from them.  A
manifest is written durably before the transaction that completes its snapshot, and
unlinked after the one that deletes it:

    {"format": 1, "features": [], "snapshot": {...}, "volume": {...}, "checksum": "..."}

``checksum`` is BLAKE3-256, in hexadecimal, of the object without it, as JSON with sorted
keys and no spaces.
"""

import json
from typing import Any

from ebsim.backends.backend import Backend
from ebsim.catalog.snapshot import Snapshot, snapshot_from_json, snapshot_to_json
from ebsim.catalog.volume import Volume, volume_from_json, volume_to_json
from ebsim.content.digest import block_digest
from ebsim.errors import IntegrityError, UnsupportedFormat
from ebsim.ids import SnapshotId

FORMAT = 1
_SUFFIX = ".json"


class ManifestDamaged(IntegrityError):
    """A manifest is no longer what was written."""

    def __init__(self, name: str, found: str) -> None:
        self.name = name
        self.found = found
        super().__init__(
            f"manifest {name} is damaged: {found}. Nothing was changed. "
            "Run 'ebsim store check --repair' to write it again from the metadata."
        )


def manifest_name(snapshot_id: SnapshotId) -> str:
    return f"snapshots/{snapshot_id}{_SUFFIX}"


def snapshot_id_of(name: str) -> SnapshotId:
    return SnapshotId(name.removeprefix("snapshots/").removesuffix(_SUFFIX))


def encode_manifest(snapshot: Snapshot, volume: Volume) -> bytes:
    body = {
        "format": FORMAT,
        "features": [],
        "snapshot": snapshot_to_json(snapshot),
        "volume": volume_to_json(volume),
    }
    return json.dumps({**body, "checksum": _checksum(body)}, indent=1).encode() + b"\n"


def _checksum(body: dict[str, Any]) -> str:
    canonical = json.dumps(body, separators=(",", ":"), sort_keys=True)
    return block_digest(canonical.encode()).hex()


def decode_manifest(name: str, data: bytes) -> tuple[Snapshot, Volume]:
    """The snapshot and the volume of the manifest *name*.

    Raises:
        ManifestDamaged: *data* is not what was written.
        UnsupportedFormat: a newer ebsim wrote it.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestDamaged(name, "it is not JSON") from error
    if not isinstance(body, dict) or "checksum" not in body:
        raise ManifestDamaged(name, "it has no checksum")
    checksum = body.pop("checksum")
    if checksum != _checksum(body):
        raise ManifestDamaged(name, "its checksum does not fit")
    # Whitespace is not under the checksum; only the bytes that we would write are accepted.
    if data != json.dumps({**body, "checksum": checksum}, indent=1).encode() + b"\n":
        raise ManifestDamaged(name, "it was written by something else")
    if body.get("format") != FORMAT or body.get("features"):
        raise UnsupportedFormat(
            f"manifest {name} has format {body.get('format')}, features {body.get('features')}; "
            f"this ebsim reads format {FORMAT}. Nothing was changed. Use a newer ebsim."
        )
    return snapshot_from_json(body["snapshot"]), volume_from_json(body["volume"])


def write_manifest(backend: Backend, snapshot: Snapshot, volume: Volume) -> None:
    """Write the manifest of *snapshot* durably, replacing an older one whole."""
    backend.put(manifest_name(snapshot.snapshot_id), encode_manifest(snapshot, volume))


def read_manifest(backend: Backend, snapshot_id: SnapshotId) -> tuple[Snapshot, Volume]:
    """The manifest of a snapshot.

    Raises:
        ManifestDamaged: it is missing or damaged.
    """
    name = manifest_name(snapshot_id)
    size = backend.size_bytes(name)
    if size is None:
        raise ManifestDamaged(name, "it is not there")
    return decode_manifest(name, backend.read(name, 0, size))
