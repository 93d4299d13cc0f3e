"""``recycle-bin ls`` and ``recycle-bin restore``."""

import click

from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.volume import Volume
from ebsim.cli.opened_region import opened_region
from ebsim.cli.output import Column, print_json, print_table
from ebsim.cli.settings import Settings
from ebsim.clock import to_iso8601
from ebsim.engine.recycle_bin import (
    restore_snapshot_from_bin,
    restore_volume_from_bin,
    snapshots_in_bin,
    sweep_recycle_bin,
    volumes_in_bin,
)
from ebsim.units import whole_gib

_COLUMNS = (Column("id"), Column("deleted"), Column("gone for good"), Column("of"))


@click.command()
@click.pass_obj
def ls(settings: Settings) -> None:
    """List the snapshots and volumes that can be restored.

    What has been there for its time is deleted for good first.

    \b
    Example:
        ebsim recycle-bin ls
    """
    with opened_region(settings) as region:
        sweep_recycle_bin(region)
        snapshots = snapshots_in_bin(region)
        volumes = volumes_in_bin(region)
    if settings.wants_json:
        print_json(
            {
                "Snapshots": [_snapshot_document(one) for one in snapshots],
                "Volumes": [_volume_document(one) for one in volumes],
            }
        )
    else:
        rows = [[one.snapshot_id, *_times(one), one.volume_id] for one in snapshots]
        rows += [[one.volume_id, *_times(one), one.snapshot_id or ""] for one in volumes]
        print_table(_COLUMNS, rows)


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.pass_obj
def restore(settings: Settings, *, ids: tuple[str, ...]) -> None:
    """Take snapshots and volumes out of the recycle bin.

    They are what they were, tags and permissions included.

    \b
    Example:
        ebsim recycle-bin restore snap-0a1b2c3d4e5f60718
    """
    restored: list[str] = []
    with opened_region(settings) as region:
        for name in ids:
            if name.startswith("vol-"):
                restored.append(restore_volume_from_bin(region, name).volume_id)
            else:
                restored.append(restore_snapshot_from_bin(region, name).snapshot_id)
            if not settings.wants_json:
                click.echo(restored[-1])
    if settings.wants_json:
        print_json({"Restored": restored})


def _times(resource: Snapshot | Volume) -> list[str]:
    stay = resource.bin_stay
    assert stay is not None, "it was listed as in the bin"
    return [to_iso8601(stay.enter_time_ns), to_iso8601(stay.exit_time_ns)]


def _snapshot_document(snapshot: Snapshot) -> dict[str, object]:
    """As ListSnapshotsInRecycleBin has it."""
    enter, leave = _times(snapshot)
    return {
        "SnapshotId": snapshot.snapshot_id,
        "RecycleBinEnterTime": enter,
        "RecycleBinExitTime": leave,
        "Description": snapshot.description,
        "VolumeId": snapshot.volume_id,
    }


def _volume_document(volume: Volume) -> dict[str, object]:
    """As ListVolumesInRecycleBin has it."""
    enter, leave = _times(volume)
    document: dict[str, object] = {
        "VolumeId": volume.volume_id,
        "RecycleBinEnterTime": enter,
        "RecycleBinExitTime": leave,
        "Size": whole_gib(volume.size_bytes),
        "CreateTime": to_iso8601(volume.create_time_ns),
    }
    return {**document, "SnapshotId": volume.snapshot_id} if volume.snapshot_id else document
