"""``snapshot lock`` and ``snapshot unlock``."""

from datetime import datetime

import click

from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.snapshot_lock import LockMode, SnapshotLock
from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import DateTimeType
from ebsim.cli.output import print_json
from ebsim.cli.settings import Settings
from ebsim.clock import to_iso8601
from ebsim.engine.lock_snapshot import LockRequest, lock_snapshot, unlock_snapshot


@click.command()
@click.argument("snapshot_id", metavar="SNAP")
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in LockMode]),
    required=True,
    help="governance: can be unlocked; compliance: by nobody, once its cool-off is over.",
)
@click.option("--days", type=int, metavar="N", help="For 1 to 36500 days from now.")
@click.option("--until", type=DateTimeType(), help="Until this time.")
@click.option(
    "--cool-off", type=int, metavar="HOURS", help="Of compliance: changeable for 1 to 72 hours."
)
@click.pass_obj
def lock(
    settings: Settings,
    *,
    snapshot_id: str,
    mode: str,
    days: int | None,
    until: datetime | None,
    cool_off: int | None,
) -> None:
    """Lock the snapshot SNAP, so that nothing can delete it for a time.

    A lock in governance mode, or in its cool-off, can be changed in any way by locking
    again; one in compliance mode can then only be made longer.

    \b
    Example:
        ebsim snapshot lock snap-0a1b2c --mode governance --days 30
    """
    request = LockRequest(
        LockMode(mode),
        duration_days=days,
        expires_time_ns=None if until is None else round(until.timestamp() * 1000) * 10**6,
        cool_off_hours=cool_off,
    )
    with opened_region(settings) as region:
        snapshot = lock_snapshot(region, snapshot_id, request)
        assert snapshot.lock is not None, "it was locked just now"
        state = snapshot.lock.state_at(region.clock.now_ns())
    if settings.wants_json:
        document = {"SnapshotId": snapshot.snapshot_id, "LockState": state.value}
        print_json({**document, **_lock_fields(snapshot.lock)})
    else:
        click.echo(snapshot.snapshot_id)


@click.command()
@click.argument("snapshot_id", metavar="SNAP")
@click.pass_obj
def unlock(settings: Settings, *, snapshot_id: str) -> None:
    """Take the lock off the snapshot SNAP, unless it is in compliance mode.

    \b
    Example:
        ebsim snapshot unlock snap-0a1b2c
    """
    with opened_region(settings) as region:
        _report(settings, unlock_snapshot(region, snapshot_id))


def _report(settings: Settings, snapshot: Snapshot) -> None:
    if settings.wants_json:
        print_json({"SnapshotId": snapshot.snapshot_id})
    else:
        click.echo(snapshot.snapshot_id)


def _lock_fields(lock: SnapshotLock) -> dict[str, object]:
    """The lock as LockSnapshot tells of it; what is not known is left out."""
    times = {
        "CoolOffPeriodExpiresOn": lock.cool_off_expires_time_ns,
        "LockCreatedOn": lock.created_time_ns,
        "LockExpiresOn": lock.expires_time_ns,
        "LockDurationStartTime": lock.start_time_ns,
    }
    fields: dict[str, object] = {"LockDuration": lock.duration_days}
    if lock.cool_off_hours is not None:
        fields["CoolOffPeriod"] = lock.cool_off_hours
    known = {name: to_iso8601(time_ns) for name, time_ns in times.items() if time_ns is not None}
    return {**fields, **known}
