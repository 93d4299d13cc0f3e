"""``snapshot ls``, ``show`` and ``diff``."""

from collections.abc import Iterator
from itertools import chain, islice

import click

from ebsim.catalog.audience import Audience
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.snapshot_filter import Filter
from ebsim.cli.amazon_shapes import (
    SNAPSHOT_COLUMNS,
    Document,
    snapshot_document,
    snapshot_row,
)
from ebsim.cli.messages import say
from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import FilterType, TagType, exactly
from ebsim.cli.output import (
    Column,
    print_fields,
    print_json,
    print_json_stream,
    print_stream,
    print_table,
)
from ebsim.cli.settings import Settings
from ebsim.engine.diff_snapshots import diff_snapshots, ranges_of
from ebsim.engine.list_snapshots import (
    SnapshotUse,
    list_snapshots,
    measure_snapshot,
    show_snapshot,
)
from ebsim.engine.region import Region
from ebsim.engine.snapshot_pages import SnapshotPage
from ebsim.units import format_size

STATES = ("pending", "completed", "error")

_USE_COLUMNS = (Column("unique", is_number=True), Column("shared", is_number=True))


@click.command()
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
@click.option(
    "--shared", is_flag=True, help="Of other accounts too: shared with this one, or public."
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
    shared: bool,
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
        page = list_snapshots(
            region,
            asked,
            audience=Audience.of(region.account_id) if shared else None,
            max_results=max_results,
            next_token=next_token,
        )
        _print_snapshots(settings, region, page, unique=unique)


@click.command()
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
        _print_snapshot(settings, region, show_snapshot(region, snapshot_id))


@click.command()
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
        _print_differences(settings, region, first_id, second_id, by_block=blocks)


def _print_snapshots(
    settings: Settings, region: Region, page: SnapshotPage, *, unique: bool
) -> None:
    """Print a listing, with what each holds by itself if *unique*."""
    uses = [measure_snapshot(region, snapshot) if unique else None for snapshot in page.snapshots]
    listed = list(zip(page.snapshots, uses, strict=True))
    if settings.wants_json:
        document: Document = {"Snapshots": [_document(snapshot, use) for snapshot, use in listed]}
        if page.next_token is not None:
            document["NextToken"] = page.next_token
        print_json(document)
        return
    # The description, free text, stays last.
    columns = [*SNAPSHOT_COLUMNS[:-1], *(_USE_COLUMNS if unique else ()), SNAPSHOT_COLUMNS[-1]]
    rows = [
        [*row[:-1], *_use_cells(use), row[-1]]
        for row, use in ((snapshot_row(snapshot), use) for snapshot, use in listed)
    ]
    print_table(columns, rows)
    if page.next_token is not None:
        say(f"There are more: --next-token {page.next_token}")


def _print_snapshot(settings: Settings, region: Region, snapshot: Snapshot) -> None:
    """Print everything about one snapshot."""
    use = measure_snapshot(region, snapshot)
    if settings.wants_json:
        print_json(_document(snapshot, use))
        return
    row = snapshot_row(snapshot)
    fields = {column.header: cell for column, cell in zip(SNAPSHOT_COLUMNS, row, strict=True)}
    fields |= {
        "unique": format_size(use.unique_bytes),
        "shared": format_size(use.shared_bytes),
        "blocks": f"{snapshot.block_count} of {format_size(snapshot.block_size)}",
        "changed": str(snapshot.changed_block_count),
        "owner": snapshot.owner_id,
        "tags": ", ".join(f"{key}={snapshot.tags[key]}" for key in sorted(snapshot.tags)),
        "message": snapshot.state_message,
    }
    if snapshot.owner_id == region.account_id:
        # Whom else a snapshot is shared with is its owner's business.
        public = ["everybody"] if snapshot.is_public else []
        fields["shared with"] = ", ".join([*public, *snapshot.shared_with])
    print_fields(fields)


def _print_differences(
    settings: Settings, region: Region, first_id: str, second_id: str, *, by_block: bool
) -> None:
    """Print where two snapshots differ, a range or a block a line, as they are found."""
    first, second = show_snapshot(region, first_id), show_snapshot(region, second_id)
    if by_block:
        name, columns = "ChangedBlocks", ["BlockIndex"]
        found = _changed_blocks(region, first, second)
    else:
        name, columns = "ChangedRanges", ["OffsetBytes", "SizeBytes"]
        found = _changed_ranges(region, first, second)
    # What cannot be compared is refused before anything is printed.
    found = chain(list(islice(found, 1)), found)
    if settings.wants_json:
        head = {
            "FirstSnapshotId": first.snapshot_id,
            "SecondSnapshotId": second.snapshot_id,
            "BlockSize": first.block_size,
        }
        print_json_stream(head, name, found)
    else:
        print_stream(
            [Column(column, is_number=True) for column in columns],
            ([str(value) for value in item.values()] for item in found),
        )


def _changed_blocks(region: Region, first: Snapshot, second: Snapshot) -> Iterator[Document]:
    for difference in diff_snapshots(region, first.snapshot_id, second.snapshot_id):
        yield {"BlockIndex": difference.block_index}


def _changed_ranges(region: Region, first: Snapshot, second: Snapshot) -> Iterator[Document]:
    differences = diff_snapshots(region, first.snapshot_id, second.snapshot_id)
    size_bytes = max(first.size_bytes, second.size_bytes)
    for place in ranges_of(differences, first.block_size, size_bytes):
        yield {"OffsetBytes": place.start, "SizeBytes": place.stop - place.start}


def _document(snapshot: Snapshot, use: SnapshotUse | None) -> Document:
    document = snapshot_document(snapshot)
    if use is not None:
        document |= {"UniqueBytes": use.unique_bytes, "SharedBytes": use.shared_bytes}
    return document


def _use_cells(use: SnapshotUse | None) -> list[str]:
    return [] if use is None else [format_size(use.unique_bytes), format_size(use.shared_bytes)]
