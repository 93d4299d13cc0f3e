"""``ebsim restore``: a snapshot back to a file, a device or standard output."""

import sys

import click

from ebsim.cli.messages import say
from ebsim.cli.opened_region import opened_region
from ebsim.cli.output import print_json
from ebsim.cli.settings import Settings
from ebsim.engine.restore_snapshot import restore_snapshot, stream_snapshot
from ebsim.errors import TargetUnusable
from ebsim.units import format_size


@click.command()
@click.argument("snapshot_id", metavar="SNAP")
@click.argument("target")
@click.option("--force", is_flag=True, help="Overwrite TARGET if it exists or holds data.")
@click.option("--verify", is_flag=True, help="Read TARGET back and compare every block.")
@click.pass_obj
def restore(
    settings: Settings, *, snapshot_id: str, target: str, force: bool, verify: bool
) -> None:
    """Write a snapshot to a file or device.

    TARGET is a new file (blocks of zeros become holes), a block device, or - for standard
    output.  It becomes exactly as long as the disk was.

    \b
    Examples:
        ebsim restore snap-0a1b2c disk.img --verify
        ebsim restore snap-0a1b2c - | gzip > disk.img.gz
    """
    if verify and target == "-":
        raise click.UsageError("--verify reads TARGET back, which standard output cannot do.")
    if target == "-" and sys.stdout.isatty():
        raise TargetUnusable(
            "standard output is a terminal, not a place for a disk. Nothing was written. "
            "Name a file, or pipe it on: ebsim restore SNAP - | gzip > disk.img.gz"
        )
    with opened_region(settings) as region, settings.watching() as progress:
        if target == "-":
            # Buffered on purpose: an unbuffered write may stop short.
            restored = stream_snapshot(region, snapshot_id, sys.stdout.buffer, progress=progress)
        else:
            restored = restore_snapshot(
                region, snapshot_id, target, force=force, verify=verify, progress=progress
            )
    if settings.wants_json and target != "-":
        print_json(
            {
                "SnapshotId": restored.snapshot.snapshot_id,
                "Target": target,
                "SizeBytes": restored.size_bytes,
                "DataBytes": restored.data_bytes,
                "Verified": verify,
            }
        )
    elif not settings.is_quiet:
        verified = ", read back and verified" if verify else ""
        say(
            f"{target}: {format_size(restored.size_bytes)}, "
            f"{format_size(restored.data_bytes)} of it data{verified}"
        )
