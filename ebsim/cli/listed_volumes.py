"""``volume ls``."""

import click

from ebsim.cli.amazon_shapes import VOLUME_COLUMNS, volume_document, volume_row
from ebsim.cli.opened_region import opened_region
from ebsim.cli.output import print_json, print_table
from ebsim.cli.settings import Settings
from ebsim.engine.list_volumes import list_volumes


@click.command()
@click.pass_obj
def ls(settings: Settings) -> None:
    """List volumes: sources, and those made here.

    \b
    Example:
        ebsim volume ls
    """
    with opened_region(settings) as region:
        volumes = list_volumes(region)
    if settings.wants_json:
        print_json({"Volumes": [volume_document(volume) for volume in volumes]})
    else:
        print_table(VOLUME_COLUMNS, [volume_row(volume) for volume in volumes])
