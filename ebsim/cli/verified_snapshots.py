"""``snapshot verify``: which blocks are damaged, snapshot by snapshot."""

from collections.abc import Sequence

import click

from ebsim.cli.messages import printable
from ebsim.cli.opened_region import opened_region
from ebsim.cli.output import print_json
from ebsim.cli.settings import Settings
from ebsim.engine.list_snapshots import show_snapshot
from ebsim.engine.region import Region
from ebsim.engine.restore_snapshot import VerifyReport, verify_snapshot
from ebsim.errors import IntegrityError


@click.command()
@click.argument("snapshot_ids", nargs=-1, required=True, metavar="SNAP...")
@click.pass_obj
def verify(settings: Settings, *, snapshot_ids: tuple[str, ...]) -> None:
    """Read every block of the snapshots and check it against its digest.

    \b
    Example:
        ebsim snapshot verify snap-0a1b2c
    """
    with opened_region(settings) as region:
        _verify_and_print(settings, region, snapshot_ids)


def _verify_and_print(settings: Settings, region: Region, names: Sequence[str]) -> None:
    """Verify each snapshot and print what was found.

    Raises:
        IntegrityError: a snapshot is damaged; all of them were looked at and printed.
    """
    # A name that is wrong is told before hours of reading.
    snapshots = [show_snapshot(region, name) for name in names]
    reports: list[VerifyReport] = []
    for snapshot in snapshots:
        with settings.watching() as progress:
            report = verify_snapshot(region, snapshot.snapshot_id, progress=progress)
        reports.append(report)
        if not settings.wants_json:
            _print_report(report)
    if settings.wants_json:
        print_json({"Snapshots": [_document(report) for report in reports]})
    damaged = [report.snapshot.snapshot_id for report in reports if report.damaged_count]
    if damaged:
        raise IntegrityError(
            f"{len(damaged)} of {len(reports)} snapshots are damaged: {', '.join(damaged)}. "
            "Nothing was changed. Run 'ebsim store check --read-data --repair'."
        )


def _print_report(report: VerifyReport) -> None:
    state = f"{report.damaged_count} damaged" if report.damaged_count else "whole"
    click.echo(f"{report.snapshot.snapshot_id}  {report.block_count} blocks  {state}")
    for block_index, reason in report.damaged:
        click.echo(f"  block {block_index}: {printable(reason)}")


def _document(report: VerifyReport) -> dict[str, object]:
    return {
        "SnapshotId": report.snapshot.snapshot_id,
        "BlockCount": report.block_count,
        "DamagedBlockCount": report.damaged_count,
        "DamagedBlocks": [
            {"BlockIndex": block_index, "Reason": reason} for block_index, reason in report.damaged
        ],
    }
