"""``ebsim import`` and ``ebsim export``: disk images in other programs' formats."""

from collections.abc import Mapping

import click

from ebsim.cli.messages import say
from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import FormatType, TagType, tags_by_key
from ebsim.cli.output import print_json
from ebsim.cli.settings import Settings
from ebsim.cli.taken_snapshots import take_snapshots
from ebsim.engine.export_snapshot import export_snapshot
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.units import format_size


@click.command("import")
@click.argument("image", type=click.Path())
@click.option(
    "--format",
    "image_format",
    type=FormatType(),
    help="The image's format.  [default: what its bytes say]",
)
@click.option(
    "--allow-backing-file",
    is_flag=True,
    help="Let the image name another file that holds part of the disk.",
)
@click.option("--description", default="", metavar="TEXT", help="Free text to keep with it.")
@click.option(
    "--tag",
    "tags",
    type=TagType(),
    multiple=True,
    callback=tags_by_key,
    help="A tag; may be repeated.",
)
@click.pass_obj
def import_image(
    settings: Settings,
    *,
    image: str,
    image_format: str | None,
    allow_backing_file: bool,
    description: str,
    tags: Mapping[str, str],
) -> None:
    """Snapshot a qcow2, VMDK, VHD, VHDX or VDI image.

    Needs qemu-nbd (Debian and Ubuntu: qemu-utils).

    \b
    Example:
        ebsim import debian-12.qcow2 --tag os=debian
    """
    if image == "-":
        raise click.UsageError("An image is read in any order, which standard input cannot be.")
    options = SnapshotOptions(
        description=description,
        tags=tags,
        image_format=image_format,
        allow_backing_file=allow_backing_file,
    )
    take_snapshots(settings, [image], options)


@click.command("export")
@click.argument("snapshot_id", metavar="SNAP")
@click.argument("target")
@click.option(
    "--format",
    "image_format",
    type=FormatType(),
    required=True,
    help="The format to write.",
)
@click.option("--force", is_flag=True, help="Replace TARGET if it exists.")
@click.pass_obj
def export_image(
    settings: Settings, *, snapshot_id: str, target: str, image_format: str, force: bool
) -> None:
    """Write a snapshot to a qcow2, VMDK or other image.

    Needs qemu-img (Debian and Ubuntu: qemu-utils), and room beside TARGET for the disk's
    data.  Formats other than raw count in sectors: a disk of another length is filled up
    with zeros to the next one.

    \b
    Example:
        ebsim export snap-0a1b2c disk.qcow2 --format qcow2
    """
    if target == "-":
        raise click.UsageError("An image is written in any order, which a pipe cannot be.")
    with opened_region(settings) as region, settings.watching() as progress:
        exported = export_snapshot(
            region, snapshot_id, target, image_format, force=force, progress=progress
        )
    if settings.wants_json:
        print_json(
            {
                "SnapshotId": exported.snapshot.snapshot_id,
                "Target": target,
                "Format": image_format,
                "SizeBytes": exported.size_bytes,
                "DataBytes": exported.data_bytes,
            }
        )
    elif not settings.is_quiet:
        say(f"{target}: {image_format}, {format_size(exported.size_bytes)}")
