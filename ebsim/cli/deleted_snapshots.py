"""``snapshot rm``: what a deletion frees, beforehand and afterwards."""

from collections.abc import Sequence
from typing import Protocol

import click

from ebsim.catalog.snapshot import Snapshot
from ebsim.cli.messages import counted, say
from ebsim.cli.opened_region import opened_region
from ebsim.cli.output import print_fields, print_json
from ebsim.cli.settings import Settings
from ebsim.clock import to_iso8601
from ebsim.engine.delete_snapshot import delete_snapshots, plan_deletion_of
from ebsim.engine.recycle_bin import sweep_recycle_bin
from ebsim.engine.region import Region
from ebsim.units import format_size


@click.command()
@click.argument("snapshot_ids", nargs=-1, required=True, metavar="SNAP...")
@click.option("--dry-run", is_flag=True, help="Only say exactly what would be freed.")
@click.pass_obj
def rm(settings: Settings, *, snapshot_ids: tuple[str, ...], dry_run: bool) -> None:
    """Delete snapshots and say what that freed.

    Blocks that another snapshot needs stay; every other snapshot restores as before.
    Where a rule of the recycle bin matches, a snapshot is kept there for its time.

    \b
    Example:
        ebsim snapshot rm snap-0a1b2c --dry-run
    """
    with opened_region(settings) as region:
        sweep_recycle_bin(region)
        if dry_run:
            _print_plan(settings, plan_deletion_of(region, snapshot_ids))
        else:
            _delete_and_print(settings, region, snapshot_ids)


class _Freed(Protocol):
    """What a plan and a deletion both tell."""

    @property
    def chunk_count(self) -> int: ...

    @property
    def freed_bytes(self) -> int: ...


def _print_plan(settings: Settings, plan: _Freed) -> None:
    """Print what a deletion would free."""
    if settings.wants_json:
        print_json(
            {"DryRun": True, "FreedBytes": plan.freed_bytes, "ChunkCount": plan.chunk_count}
        )
    else:
        print_fields(
            {"would free": format_size(plan.freed_bytes), "chunks": str(plan.chunk_count)}
        )


def _delete_and_print(settings: Settings, region: Region, names: Sequence[str]) -> None:
    """Delete snapshots, print each as soon as it is gone, and what that freed."""
    deleted: dict[str, Snapshot] = {}

    def acknowledge(snapshot: Snapshot) -> None:
        # On a full disk the engine may begin again and tell of one twice.
        if snapshot.snapshot_id not in deleted and not settings.wants_json:
            click.echo(snapshot.snapshot_id)
            if snapshot.bin_stay is not None and not settings.is_quiet:
                until = to_iso8601(snapshot.bin_stay.exit_time_ns)
                say(f"{snapshot.snapshot_id} is in the recycle bin until {until}")
        deleted[snapshot.snapshot_id] = snapshot

    freed = delete_snapshots(region, names, acknowledge)
    if settings.wants_json:
        print_json(
            {
                "Snapshots": [_deleted_document(snapshot) for snapshot in deleted.values()],
                "FreedBytes": freed.freed_bytes,
                "ChunkCount": freed.chunk_count,
            }
        )
    elif not settings.is_quiet:
        say(f"freed {format_size(freed.freed_bytes)}, {counted(freed.chunk_count, 'chunk')}")


def _deleted_document(snapshot: Snapshot) -> dict[str, str]:
    document: dict[str, str] = {"SnapshotId": snapshot.snapshot_id}
    if snapshot.bin_stay is not None:
        document["RecycleBinExitTime"] = to_iso8601(snapshot.bin_stay.exit_time_ns)
    return document
