"""Writing a snapshot as an image file of another format."""

import tempfile
from pathlib import Path

from ebsim.catalog.records import find_volume
from ebsim.engine.diff_snapshots import completed_snapshot
from ebsim.engine.region import Region
from ebsim.engine.restore_snapshot import Restored, restore_snapshot
from ebsim.engine.restore_target import settle_target
from ebsim.errors import TargetUnusable
from ebsim.progress import Progress
from ebsim.sources.image_export import export_image, require_exporter
from ebsim.sources.image_format import ImageFormat, parse_format


def export_snapshot(
    region: Region,
    name: str,
    target_name: str,
    format_name: str,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Restored:
    """Write the disk that a snapshot holds to the image file *target_name*, durably.

    A raw image is a restored one.  For the others the disk is first restored to a sparse
    temporary file beside the target, which needs that much room; every block is proved on
    the way.  Until the image is whole the target is as it was.

    Raises:
        SnapshotNotFound, Conflict: *name*.
        InvalidRequest: *name*, or there is no such format.
        TargetUnusable, StorageFull: the target.
        MissingTool: there is no ``qemu-img``.
        ChunkCorrupt, ChunkMissing: a block is damaged: the target is not made.
    """
    image_format = parse_format(format_name)
    snapshot, _ = completed_snapshot(region, name)
    snapshot_id = snapshot.snapshot_id
    if image_format is ImageFormat.RAW:
        return restore_snapshot(region, snapshot_id, target_name, force=force, progress=progress)
    require_exporter(image_format)
    volume = region.metadata.read(lambda reader: find_volume(reader, snapshot.volume_id))
    source = volume.location if volume else ""
    target, _ = settle_target(target_name, force=force, source=source)
    if target.is_block_device():
        raise TargetUnusable(
            f"{target_name} is a block device, and an image is a file. Nothing was changed. "
            "Name a file, or write the bare disk with 'ebsim restore'."
        )
    try:
        folder = tempfile.TemporaryDirectory(prefix=".ebsim-export-", dir=target.parent)
    except OSError as error:
        raise TargetUnusable(
            f"{target_name} cannot be made: {error.strerror}. Nothing was changed."
        ) from error
    with folder:
        disk = Path(folder.name) / "disk.raw"
        restored = restore_snapshot(region, snapshot_id, str(disk), progress=progress)
        export_image(disk, target, image_format)
    return restored
