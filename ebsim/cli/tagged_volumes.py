"""``volume tag`` and ``volume untag``."""

from collections.abc import Mapping

import click

from ebsim.catalog.volume import Volume
from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import TagType, tags_by_key
from ebsim.cli.output import print_json
from ebsim.cli.settings import Settings
from ebsim.engine.volume_tags import tag_volume, untag_volume


@click.command()
@click.argument("volume_id", metavar="VOL")
@click.argument(
    "tags", nargs=-1, required=True, type=TagType(), callback=tags_by_key, metavar="KEY=VALUE..."
)
@click.pass_obj
def tag(settings: Settings, *, volume_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of the volume or source VOL; a key that it has already gets the new value.

    \b
    Example:
        ebsim volume tag vol-0a1b2c backup=daily
    """
    with opened_region(settings) as region:
        _report(settings, tag_volume(region, volume_id, tags))


@click.command()
@click.argument("volume_id", metavar="VOL")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.pass_obj
def untag(settings: Settings, *, volume_id: str, keys: tuple[str, ...]) -> None:
    """Remove tags from the volume or source VOL.

    \b
    Example:
        ebsim volume untag vol-0a1b2c backup
    """
    with opened_region(settings) as region:
        _report(settings, untag_volume(region, volume_id, keys))


def _report(settings: Settings, volume: Volume) -> None:
    """Print the volume that a command changed: its id, or that and its tags as JSON."""
    if settings.wants_json:
        tags = [{"Key": key, "Value": volume.tags[key]} for key in sorted(volume.tags)]
        print_json({"VolumeId": volume.volume_id, "Tags": tags})
    else:
        click.echo(volume.volume_id)
