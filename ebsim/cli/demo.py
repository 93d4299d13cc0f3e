"""``ebsim demo``: the main job on a small disk, from snapshot to proven restore."""

import click

from ebsim.cli.settings import Settings
from ebsim.cli.unbuilt import refuse


@click.command()
@click.pass_obj
def demo(settings: Settings) -> None:
    """Show the main job on a small disk.

    Makes a disk image, takes three snapshots with changes between, compares two, deletes
    the first, restores the last and proves it byte for byte.  Uses a store of its own
    in a temporary directory, which is gone afterwards.

    \b
    Example:
        ebsim demo
    """
    refuse(settings)
