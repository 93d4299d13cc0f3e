"""``snapshot copy``."""

from collections.abc import Mapping
from contextlib import closing

import click

from ebsim.cli.amazon_shapes import snapshot_document
from ebsim.cli.messages import counted, say
from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import TagType, tags_by_key
from ebsim.cli.output import print_json
from ebsim.cli.settings import Settings
from ebsim.engine.copy_snapshot import CopyOptions, copy_snapshot
from ebsim.engine.list_snapshots import show_snapshot
from ebsim.engine.region import open_region
from ebsim.units import format_size


@click.command()
@click.argument("snapshot_id", metavar="SNAP")
@click.option(
    "--to-region",
    "to_region",
    metavar="NAME",
    help="Where the copy is to be.  [default: the region that SNAP is in]",
)
@click.option("--description", default="", metavar="TEXT", help="Free text to keep with it.")
@click.option(
    "--tag",
    "tags",
    type=TagType(),
    multiple=True,
    callback=tags_by_key,
    help="A tag of the copy; may be repeated.",
)
@click.option(
    "--completion-duration",
    "minutes",
    type=int,
    metavar="MINUTES",
    help="Ask for a time-based copy: 15 to 2880, in steps of 15.",
)
@click.pass_obj
def copy(
    settings: Settings,
    *,
    snapshot_id: str,
    to_region: str | None,
    description: str,
    tags: Mapping[str, str],
    minutes: int | None,
) -> None:
    """Copy the snapshot SNAP to another region; only what that has not travels.

    Prints the copy's id.  Tags are not copied.  A copy that broke off is gone on from by
    the next one of the same snapshot.

    \b
    Example:
        ebsim snapshot copy snap-0a1b2c --to-region eu-central-1
    """
    options = CopyOptions(description=description, tags=tags, completion_duration_minutes=minutes)
    options.check()
    with opened_region(settings) as source:
        # Before the other region is made.
        snapshot_id = show_snapshot(source, snapshot_id).snapshot_id
        name = to_region or settings.region_name
        with (
            closing(open_region(settings.home, name, settings.account_id)) as region,
            settings.watching() as progress,
        ):
            done = copy_snapshot(region, source, snapshot_id, options, progress)
    if settings.wants_json:
        print_json(snapshot_document(done.snapshot))
        return
    click.echo(done.snapshot.snapshot_id)
    if not settings.is_quiet:
        blocks = counted(done.sent_count, "block")
        say(f"{blocks} sent to {name}, {format_size(done.sent_bytes)}")
