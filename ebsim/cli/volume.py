"""``ebsim volume``: the disks that snapshots were taken of."""

import click

from ebsim.cli.settings import Settings
from ebsim.cli.unbuilt import refuse


@click.group()
def volume() -> None:
    """See which disks have snapshots."""


@volume.command("ls")
@click.pass_obj
def list_volumes(settings: Settings) -> None:
    """List source volumes and where they come from.

    \b
    Example:
        ebsim volume ls
    """
    refuse(settings)
