"""``ebsim import`` and ``ebsim export``: disk images in other programs' formats."""

from collections.abc import Mapping

import click

from ebsim.cli.option_types import TagType, tags_by_key
from ebsim.cli.settings import Settings
from ebsim.cli.taken_snapshots import take_snapshots
from ebsim.cli.unbuilt import refuse
from ebsim.engine.create_snapshot import SnapshotOptions

FORMATS = ("raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi")


@click.command("import")
@click.argument("image", type=click.Path())
@click.option(
    "--format",
    "image_format",
    type=click.Choice(FORMATS),
    help="The image's format.  [default: what its first bytes say]",
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
@click.argument("target", type=click.Path())
@click.option(
    "--format",
    "image_format",
    type=click.Choice(FORMATS),
    required=True,
    help="The format to write.",
)
@click.option("--force", is_flag=True, help="Replace TARGET if it exists.")
@click.pass_obj
def export_image(
    settings: Settings, *, snapshot_id: str, target: str, image_format: str, force: bool
) -> None:
    """Write a snapshot to a qcow2, VMDK or other image.

    Needs qemu-img (Debian and Ubuntu: qemu-utils).

    \b
    Example:
        ebsim export snap-0a1b2c disk.qcow2 --format qcow2
    """
    refuse(settings, snapshot_id, target, image_format, force)
