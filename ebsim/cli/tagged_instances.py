"""``instance tag`` and ``instance untag``."""

from collections.abc import Mapping

import click

from ebsim.catalog.instance import Instance
from ebsim.cli.amazon_shapes import tag_list
from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import TagType, tags_by_key
from ebsim.cli.output import print_json
from ebsim.cli.settings import Settings
from ebsim.engine.instance_tags import tag_instance, untag_instance


@click.command()
@click.argument("name", metavar="INSTANCE")
@click.argument(
    "tags", nargs=-1, required=True, type=TagType(), callback=tags_by_key, metavar="KEY=VALUE..."
)
@click.pass_obj
def tag(settings: Settings, *, name: str, tags: Mapping[str, str]) -> None:
    """Set tags of the instance; a key that it has already gets the new value.

    INSTANCE is a name, an id, or the beginning of an id.

    \b
    Example:
        ebsim instance tag web backup=daily
    """
    with opened_region(settings) as region:
        _report(settings, tag_instance(region, name, tags))


@click.command()
@click.argument("name", metavar="INSTANCE")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.pass_obj
def untag(settings: Settings, *, name: str, keys: tuple[str, ...]) -> None:
    """Remove tags from the instance.

    \b
    Example:
        ebsim instance untag web backup
    """
    with opened_region(settings) as region:
        _report(settings, untag_instance(region, name, keys))


def _report(settings: Settings, instance: Instance) -> None:
    if settings.wants_json:
        tags = tag_list(instance.shown_tags)
        print_json({"InstanceId": instance.instance_id, "Tags": tags})
    else:
        click.echo(instance.instance_id)
