"""``snapshot tag`` and ``snapshot untag``."""

from collections.abc import Mapping

import click

from ebsim.catalog.snapshot import Snapshot
from ebsim.cli.amazon_shapes import snapshot_document
from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import TagType, tags_by_key
from ebsim.cli.output import print_json
from ebsim.cli.settings import Settings
from ebsim.engine.tags import tag_snapshot, untag_snapshot


@click.command()
@click.argument("snapshot_id", metavar="SNAP")
@click.argument(
    "tags", nargs=-1, required=True, type=TagType(), callback=tags_by_key, metavar="KEY=VALUE..."
)
@click.pass_obj
def tag(settings: Settings, *, snapshot_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of the snapshot SNAP; a key that it has already gets the new value.

    \b
    Example:
        ebsim snapshot tag snap-0a1b2c env=test keep=yes
    """
    with opened_region(settings) as region:
        _report(settings, tag_snapshot(region, snapshot_id, tags))


@click.command()
@click.argument("snapshot_id", metavar="SNAP")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.pass_obj
def untag(settings: Settings, *, snapshot_id: str, keys: tuple[str, ...]) -> None:
    """Remove tags from the snapshot SNAP.

    \b
    Example:
        ebsim snapshot untag snap-0a1b2c env keep
    """
    with opened_region(settings) as region:
        _report(settings, untag_snapshot(region, snapshot_id, keys))


def _report(settings: Settings, snapshot: Snapshot) -> None:
    """Print the snapshot that a command changed: its id, or the whole of it as JSON."""
    if settings.wants_json:
        print_json(snapshot_document(snapshot))
    else:
        click.echo(snapshot.snapshot_id)
