"""Printing what ``store check`` found and what ``store rebuild`` brought back."""

from collections.abc import Sequence

import click

from ebsim.cli.messages import counted, printable, say
from ebsim.cli.output import print_fields, print_json
from ebsim.cli.settings import Settings
from ebsim.engine.check_report import AffectedSnapshot, CheckReport, Finding
from ebsim.engine.rebuild_store import RebuildReport
from ebsim.errors import IntegrityError
from ebsim.units import format_size


def print_check(settings: Settings, report: CheckReport) -> None:
    """Print what a check found, and what a repair did.

    Raises:
        IntegrityError: something is wrong and stays so.
    """
    left = [finding for finding in report.findings if not finding.is_mended]
    if settings.wants_json:
        print_json(_check_document(report))
    else:
        _print_check_table(report)
    if not settings.is_quiet:
        for note in report.notes:
            say(note)
    if left:
        lost = f", and blocks of {counted(len(report.lost), 'snapshot')}" if report.lost else ""
        raise IntegrityError(
            f"damaged: {counted(len(left), 'fault')} in the region {settings.region_name} of "
            f"{settings.home}{lost}. Run 'ebsim store check --read-data --repair', and "
            "'ebsim store rebuild' if it is the metadata that cannot be read."
        )


def print_rebuild(settings: Settings, report: RebuildReport) -> None:
    """Print what a rebuild brought back.

    Raises:
        IntegrityError: something did not come back.
    """
    if settings.wants_json:
        print_json(
            {
                "SnapshotCount": report.snapshot_count,
                "VolumeCount": report.volume_count,
                "PackCount": report.pack_count,
                "ChunkCount": report.chunk_count,
                "FreedChunkCount": report.freed_count,
                "OldMetadata": None if report.set_aside is None else str(report.set_aside),
                "Complaints": list(report.complaints),
                "Lost": _affected_list(report.lost),
            }
        )
    else:
        packs, chunks = counted(report.pack_count, "pack"), counted(report.chunk_count, "chunk")
        snapshots = counted(report.snapshot_count, "snapshot")
        volumes = counted(report.volume_count, "volume")
        print_fields(
            {
                "brought back": f"{snapshots}, {volumes}" if report.volume_count else snapshots,
                "from": f"{packs}, {chunks}",
                "freed": counted(report.freed_count, "chunk"),
                "old metadata": "" if report.set_aside is None else str(report.set_aside),
            }
        )
        for complaint in report.complaints:
            click.echo(f"wrong: {printable(complaint)}")
        for affected in report.lost:
            click.echo(f"lost: {affected}")
    if report.lost or report.complaints:
        raise IntegrityError(
            f"damaged: {counted(len(report.complaints), 'fault')} in packs and manifests, "
            f"{counted(len(report.lost), 'snapshot')} affected. Everything else is back. "
            "Run 'ebsim store check --read-data --repair'."
        )


def _print_check_table(report: CheckReport) -> None:
    checked = report.checked
    print_fields(
        {
            "checked": ", ".join(
                counted(count, noun)
                for count, noun in (
                    (checked.snapshot_count, "snapshot"),
                    (checked.pack_count, "pack"),
                    (checked.chunk_count, "chunk"),
                    (checked.node_count, "node"),
                    (checked.reference_count, "reference"),
                )
            ),
            "read": format_size(checked.read_bytes),
            "found": counted(len(report.findings), "fault") if report.findings else "all is whole",
        }
    )
    for finding in report.findings:
        mended = " (mended)" if finding.is_mended else ""
        click.echo(
            f"{finding.kind}: {printable(finding.where)}: {printable(finding.what)}{mended}"
        )
        for affected in finding.affects:
            click.echo(f"  affects {affected}")
    for repair in report.repairs:
        click.echo(f"repair: {printable(repair)}")
    for affected in report.lost:
        click.echo(f"lost: {affected}")


def _check_document(report: CheckReport) -> dict[str, object]:
    checked = report.checked
    return {
        "SnapshotCount": checked.snapshot_count,
        "PackCount": checked.pack_count,
        "ChunkCount": checked.chunk_count,
        "NodeCount": checked.node_count,
        "ReferenceCount": checked.reference_count,
        "ReadBytes": checked.read_bytes,
        "Damaged": report.has_damage_left,
        "Findings": [_finding_document(finding) for finding in report.findings],
        "Notes": list(report.notes),
        "Repairs": list(report.repairs),
        "Lost": _affected_list(report.lost),
    }


def _finding_document(finding: Finding) -> dict[str, object]:
    return {
        "Kind": finding.kind.value,
        "Where": finding.where,
        "What": finding.what,
        "Mended": finding.is_mended,
        "Affects": _affected_list(finding.affects),
    }


def _affected_list(affected: Sequence[AffectedSnapshot]) -> list[dict[str, object]]:
    """Snapshots and their blocks; ``Stop`` is the first block that is not affected."""
    return [
        {
            "SnapshotId": one.snapshot_id,
            "Whole": one.is_whole,
            "BlockRanges": [{"Start": blocks.start, "Stop": blocks.stop} for blocks in one.ranges],
        }
        for one in affected
    ]
