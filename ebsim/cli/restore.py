"""``ebsim restore``: a snapshot back to a file, a device or standard output."""

import click

from ebsim.cli.settings import Settings
from ebsim.cli.unbuilt import refuse


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
    refuse(settings, snapshot_id, force)
