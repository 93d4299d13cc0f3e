"""``ebsim snapshot``: take, list, compare, verify and delete snapshots."""

from collections.abc import Mapping

import click

from ebsim.catalog.snapshot_filter import Filter
from ebsim.cli.deleted_snapshots import delete_and_print, print_plan
from ebsim.cli.listed_snapshots import print_differences, print_snapshot, print_snapshots
from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import (
    FilterType,
    FormatType,
    SizeType,
    TagType,
    exactly,
    tags_by_key,
)
from ebsim.cli.settings import Settings
from ebsim.cli.taken_snapshots import report, take_snapshots
from ebsim.cli.verified_snapshots import verify_and_print
from ebsim.engine.delete_snapshot import plan_deletion_of
from ebsim.engine.list_snapshots import list_snapshots, show_snapshot
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.tags import tag_snapshot, untag_snapshot

STATES = ("pending", "completed", "error")


@click.group()
def snapshot() -> None:
    """Take, list, compare, verify and delete snapshots."""


@snapshot.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--description", default="", metavar="TEXT", help="Free text to keep with it.")
@click.option(
    "--tag",
    "tags",
    type=TagType(),
    multiple=True,
    callback=tags_by_key,
    help="A tag; may be repeated.",
)
@click.option(
    "--volume", "volume_id", metavar="ID", help="The volume that standard input belongs to."
)
@click.option(
    "--block-size",
    "block_size",
    type=SizeType(),
    help="For a source's first snapshot: a power of two from 4K to 4M.  [default: 512K]",
)
@click.option(
    "--level",
    type=click.IntRange(-7, 19),
    default=SnapshotOptions().level,
    show_default=True,
    help="How hard zstd compresses.",
)
@click.option(
    "--rehash",
    is_flag=True,
    help="Compare every block by its digest, also those that seem unchanged.",
)
@click.option(
    "--format",
    "image_format",
    type=FormatType(),
    help="The format of the images.  [default: what their bytes say]",
)
@click.option(
    "--allow-backing-file",
    is_flag=True,
    help="Let an image name another file that holds part of the disk.",
)
@click.pass_obj
def create(
    settings: Settings,
    *,
    sources: tuple[str, ...],
    description: str,
    tags: Mapping[str, str],
    volume_id: str | None,
    block_size: int | None,
    level: int,
    rehash: bool,
    image_format: str | None,
    allow_backing_file: bool,
) -> None:
    """Snapshot each SOURCE: an image's path, a device, a volume's id, or - for standard input.

    Only blocks that differ from the source's previous snapshot are stored.  qcow2, VMDK,
    VHD, VHDX and VDI images are read through qemu-nbd (Debian and Ubuntu: qemu-utils).

    \b
    Examples:
        ebsim snapshot create disk.img --tag env=test
        ebsim snapshot create /dev/vg0/data --description "before the upgrade"
        zcat disk.img.gz | ebsim snapshot create - --volume vol-0a1b2c3d4e5f60718
    """
    if volume_id is not None and sources != ("-",):
        raise click.UsageError("--volume goes with the single SOURCE '-' (standard input).")
    if sources.count("-") > 1:
        raise click.UsageError("Standard input can be read once: give '-' once.")
    if "-" in sources and (image_format or "raw") != "raw":
        raise click.UsageError("Standard input is read as a raw disk; an image needs a path.")
    options = SnapshotOptions(
        description=description,
        tags=tags,
        block_size=block_size,
        level=level,
        rehash=rehash,
        image_format=image_format,
        allow_backing_file=allow_backing_file,
    )
    take_snapshots(settings, sources, options, stream_volume_id=volume_id)


@snapshot.command()
@click.option("--volume", "volume_ids", multiple=True, metavar="ID", help="Of this volume.")
@click.option("--state", type=click.Choice(STATES), help="In this state.")
@click.option("--tag", "tags", type=TagType(), multiple=True, help="With this tag.")
@click.option(
    "--filter",
    "filters",
    type=FilterType(),
    multiple=True,
    help="Name=NAME,Values=VALUE[,VALUE...] as Amazon has them; may be repeated.",
)
@click.option(
    "--unique", is_flag=True, help="Add what only this snapshot needs, and what it shares."
)
@click.option("--max-results", type=int, metavar="N", help="A page of at most N, from 1 to 1000.")
@click.option("--next-token", metavar="TOKEN", help="The page behind the one that gave TOKEN.")
@click.pass_obj
def ls(
    settings: Settings,
    *,
    volume_ids: tuple[str, ...],
    state: str | None,
    tags: tuple[tuple[str, str], ...],
    filters: tuple[Filter, ...],
    unique: bool,
    max_results: int | None,
    next_token: str | None,
) -> None:
    """List snapshots: size, bytes it added, state, progress, parent.

    Oldest first.

    \b
    Examples:
        ebsim snapshot ls --unique
        ebsim snapshot ls --filter "Name=tag:env,Values=test,prod"
    """
    asked = [*filters, *(exactly(f"tag:{key}", value) for key, value in tags)]
    if volume_ids:
        asked.append(Filter("volume-id", volume_ids))
    if state is not None:
        asked.append(exactly("status", state))
    with opened_region(settings) as region:
        page = list_snapshots(region, asked, max_results=max_results, next_token=next_token)
        print_snapshots(settings, region, page, unique=unique)


@snapshot.command()
@click.argument("snapshot_id", metavar="SNAP")
@click.pass_obj
def show(settings: Settings, *, snapshot_id: str) -> None:
    """Show everything about the snapshot SNAP.

    An id may be shortened to a prefix that no other snapshot has.

    \b
    Example:
        ebsim snapshot show snap-0a1b2c
    """
    with opened_region(settings) as region:
        print_snapshot(settings, region, show_snapshot(region, snapshot_id))


@snapshot.command()
@click.argument("first_id", metavar="A")
@click.argument("second_id", metavar="B")
@click.option("--blocks", is_flag=True, help="List every changed block instead of ranges.")
@click.pass_obj
def diff(settings: Settings, *, first_id: str, second_id: str, blocks: bool) -> None:
    """Show where the snapshots A and B differ.

    \b
    Example:
        ebsim snapshot diff snap-0a1b2c snap-0d4e5f
    """
    with opened_region(settings) as region:
        print_differences(settings, region, first_id, second_id, by_block=blocks)


@snapshot.command()
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
        report(settings, tag_snapshot(region, snapshot_id, tags))


@snapshot.command()
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
        report(settings, untag_snapshot(region, snapshot_id, keys))


@snapshot.command()
@click.argument("snapshot_ids", nargs=-1, required=True, metavar="SNAP...")
@click.option("--dry-run", is_flag=True, help="Only say exactly what would be freed.")
@click.pass_obj
def rm(settings: Settings, *, snapshot_ids: tuple[str, ...], dry_run: bool) -> None:
    """Delete snapshots and say what that freed.

    Blocks that another snapshot needs stay; every other snapshot restores as before.

    \b
    Example:
        ebsim snapshot rm snap-0a1b2c --dry-run
    """
    with opened_region(settings) as region:
        if dry_run:
            print_plan(settings, plan_deletion_of(region, snapshot_ids))
        else:
            delete_and_print(settings, region, snapshot_ids)


@snapshot.command()
@click.argument("snapshot_ids", nargs=-1, required=True, metavar="SNAP...")
@click.pass_obj
def verify(settings: Settings, *, snapshot_ids: tuple[str, ...]) -> None:
    """Read every block of the snapshots and check it against its digest.

    \b
    Example:
        ebsim snapshot verify snap-0a1b2c
    """
    with opened_region(settings) as region:
        verify_and_print(settings, region, snapshot_ids)
