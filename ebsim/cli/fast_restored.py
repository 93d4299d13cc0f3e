"""``fast-restore enable``, ``disable`` and ``ls``."""

import click

from ebsim.catalog.fast_restore import FastRestore
from ebsim.cli.opened_region import opened_region
from ebsim.cli.output import Column, print_json, print_table
from ebsim.cli.settings import Settings
from ebsim.clock import to_iso8601
from ebsim.engine.fast_restore import (
    advance_fast_restores,
    disable_fast_restore,
    enable_fast_restore,
    list_fast_restores,
)
from ebsim.engine.fast_restore_pool import first_zone
from ebsim.engine.list_snapshots import show_snapshot
from ebsim.engine.region import Region

_COLUMNS = (
    Column("snapshot"),
    Column("zone"),
    Column("state"),
    Column("credits", is_number=True),
    Column("ready", is_number=True),
    Column("since"),
)

zone_option = click.option(
    "--zone", metavar="NAME", help="The availability zone.  [default: the region's first]"
)


@click.command()
@click.argument("snapshot_id", metavar="SNAP")
@zone_option
@click.pass_obj
def enable(settings: Settings, *, snapshot_id: str, zone: str | None) -> None:
    """Keep a volume of the snapshot SNAP loaded, for the next who makes one.

    Returns when it is loaded.  A volume made of SNAP in the zone is then all here from its
    first read, as often as there are credits: the first comes some minutes later.

    \b
    Example:
        ebsim fast-restore enable snap-0a1b2c
    """
    with opened_region(settings) as region:
        name = show_snapshot(region, snapshot_id).snapshot_id
        enabled = enable_fast_restore(region, name, zone or first_zone(region.name))
        advance_fast_restores(region)
        _report(settings, region, enabled)


@click.command()
@click.argument("snapshot_id", metavar="SNAP")
@zone_option
@click.pass_obj
def disable(settings: Settings, *, snapshot_id: str, zone: str | None) -> None:
    """Keep no volume of the snapshot SNAP loaded.

    Volumes that were made stay.

    \b
    Example:
        ebsim fast-restore disable snap-0a1b2c
    """
    with opened_region(settings) as region:
        name = show_snapshot(region, snapshot_id).snapshot_id
        disabled = disable_fast_restore(region, name, zone or first_zone(region.name))
        advance_fast_restores(region)
        _report(settings, region, disabled)


@click.command()
@click.pass_obj
def ls(settings: Settings) -> None:
    """List what is kept loaded.

    \b
    Example:
        ebsim fast-restore ls
    """
    with opened_region(settings) as region:
        found, now_ns = list_fast_restores(region), region.clock.now_ns()
    if settings.wants_json:
        print_json({"FastSnapshotRestores": [_document(one) for one in found]})
    else:
        print_table(_COLUMNS, [_row(one, now_ns) for one in found])


def _report(settings: Settings, region: Region, asked: FastRestore) -> None:
    """Print what has become of it: its id, or all of it as JSON."""
    key = (asked.snapshot_id, asked.zone)
    found = [one for one in list_fast_restores(region) if (one.snapshot_id, one.zone) == key]
    if settings.wants_json:
        print_json({"FastSnapshotRestores": [_document(one) for one in found]})
    else:
        click.echo(asked.snapshot_id)


def _row(record: FastRestore, now_ns: int) -> list[str]:
    return [
        record.snapshot_id,
        record.zone,
        record.state.value,
        f"{record.credits_at(now_ns):.1f}",
        str(len(record.pool)),
        to_iso8601(record.times_ns[record.state.value]),
    ]


def _document(record: FastRestore) -> dict[str, object]:
    """As DescribeFastSnapshotRestores has it."""
    return {
        "SnapshotId": record.snapshot_id,
        "AvailabilityZone": record.zone,
        "State": record.state.value,
        "StateTransitionReason": record.reason,
        "OwnerId": record.owner_id,
        **{
            f"{state.capitalize()}Time": to_iso8601(time_ns)
            for state, time_ns in record.times_ns.items()
        },
    }
