"""``snapshot archive``, ``snapshot unarchive`` and ``snapshot tiers``."""

import click

from ebsim.catalog.snapshot import Snapshot
from ebsim.cli.amazon_shapes import snapshot_document
from ebsim.cli.opened_region import opened_region
from ebsim.cli.output import Column, print_json, print_table
from ebsim.cli.settings import Settings
from ebsim.clock import to_iso8601
from ebsim.engine.archive_snapshot import archive_snapshot
from ebsim.engine.list_snapshots import list_snapshots
from ebsim.engine.unarchive_snapshot import unarchive_snapshot
from ebsim.units import format_size

_COLUMNS = (
    Column("snapshot"),
    Column("tier"),
    Column("archived", is_number=True),
    Column("last"),
    Column("began"),
    Column("restored until"),
    Column("why it failed"),
)


@click.command()
@click.argument("snapshot_id", metavar="SNAP")
@click.pass_obj
def archive(settings: Settings, *, snapshot_id: str) -> None:
    """Store the snapshot SNAP complete by itself, and give back what only it needed.

    It cannot be used until it is restored with 'ebsim snapshot unarchive'.

    \b
    Example:
        ebsim snapshot archive snap-0a1b2c
    """
    with opened_region(settings) as region, settings.watching() as progress:
        _report(settings, archive_snapshot(region, snapshot_id, progress))


@click.command()
@click.argument("snapshot_id", metavar="SNAP")
@click.option("--days", type=int, help="Archive it again after so many days.  [default: never]")
@click.pass_obj
def unarchive(settings: Settings, *, snapshot_id: str, days: int | None) -> None:
    """Restore the archived snapshot SNAP, so that it can be used.

    For one that is restored for some days already, the days are counted anew, or it is
    kept for good.

    \b
    Example:
        ebsim snapshot unarchive snap-0a1b2c --days 3
    """
    with opened_region(settings) as region, settings.watching() as progress:
        _report(settings, unarchive_snapshot(region, snapshot_id, days, progress))


@click.command()
@click.pass_obj
def tiers(settings: Settings) -> None:
    """Show the tier of snapshots that were ever archived, and what was last done to them.

    \b
    Example:
        ebsim snapshot tiers
    """
    with opened_region(settings) as region:
        found = [one for one in list_snapshots(region).snapshots if one.tiering is not None]
    if settings.wants_json:
        print_json({"SnapshotTierStatuses": [snapshot_document(one) for one in found]})
    else:
        print_table(_COLUMNS, [_row(one) for one in found])


def _row(snapshot: Snapshot) -> list[str]:
    tiering, expiry = snapshot.tiering, snapshot.restore_expiry_time_ns
    assert tiering is not None, "it was archived at some time"
    return [
        snapshot.snapshot_id,
        snapshot.storage_tier,
        format_size(snapshot.archive.size_bytes) if snapshot.archive is not None else "",
        tiering.status,
        to_iso8601(tiering.start_time_ns),
        to_iso8601(expiry) if expiry is not None else "",
        tiering.detail,
    ]


def _report(settings: Settings, snapshot: Snapshot) -> None:
    if settings.wants_json:
        print_json(snapshot_document(snapshot))
    else:
        click.echo(snapshot.snapshot_id)
