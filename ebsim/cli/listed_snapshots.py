"""Printing what ``snapshot ls``, ``show`` and ``diff`` find."""

from collections.abc import Iterator
from itertools import chain, islice

from ebsim.catalog.snapshot import Snapshot
from ebsim.cli.amazon_shapes import (
    SNAPSHOT_COLUMNS,
    Document,
    snapshot_document,
    snapshot_row,
)
from ebsim.cli.messages import say
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
    SnapshotPage,
    SnapshotUse,
    measure_snapshot,
    show_snapshot,
)
from ebsim.engine.region import Region
from ebsim.units import format_size

_USE_COLUMNS = (Column("unique", is_number=True), Column("shared", is_number=True))


def print_snapshots(
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


def print_snapshot(settings: Settings, region: Region, snapshot: Snapshot) -> None:
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
    print_fields(fields)


def print_differences(
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
