"""``snapshot share`` and ``snapshot unshare``."""

import click

from ebsim.catalog.snapshot import Snapshot
from ebsim.cli.opened_region import opened_region
from ebsim.cli.output import print_json
from ebsim.cli.settings import Settings
from ebsim.engine.share_snapshot import Grantees, reset_sharing, share_snapshot, unshare_snapshot


@click.command()
@click.argument("snapshot_id", metavar="SNAP")
@click.argument("accounts", nargs=-1, metavar="[ACCOUNT...]")
@click.option("--public", is_flag=True, help="Let every account use it.")
@click.pass_obj
def share(
    settings: Settings, *, snapshot_id: str, accounts: tuple[str, ...], public: bool
) -> None:
    """Let other accounts use the snapshot SNAP: list, read, copy it, make volumes of it.

    They cannot change or delete it, and have tags of their own on it.

    \b
    Example:
        ebsim snapshot share snap-0a1b2c 999999999999
    """
    if not accounts and not public:
        raise click.UsageError("Name an account, or --public.")
    with opened_region(settings) as region:
        grantees = Grantees.of(accounts, everybody=public)
        _report(settings, share_snapshot(region, snapshot_id, grantees))


@click.command()
@click.argument("snapshot_id", metavar="SNAP")
@click.argument("accounts", nargs=-1, metavar="[ACCOUNT...]")
@click.option("--public", is_flag=True, help="Those may go on that were named when sharing it.")
@click.option("--all", "from_all", is_flag=True, help="Nobody but its owner may go on.")
@click.pass_obj
def unshare(
    settings: Settings,
    *,
    snapshot_id: str,
    accounts: tuple[str, ...],
    public: bool,
    from_all: bool,
) -> None:
    """Let accounts use the snapshot SNAP no more; volumes that they made stay theirs.

    \b
    Example:
        ebsim snapshot unshare snap-0a1b2c --all
    """
    if from_all == bool(accounts or public):
        raise click.UsageError("Name an account, or --public; or --all by itself.")
    with opened_region(settings) as region:
        if from_all:
            _report(settings, reset_sharing(region, snapshot_id))
        else:
            grantees = Grantees.of(accounts, everybody=public)
            _report(settings, unshare_snapshot(region, snapshot_id, grantees))


def _report(settings: Settings, snapshot: Snapshot) -> None:
    """Print who may use the snapshot now: its id, or the permissions as Amazon has them."""
    if not settings.wants_json:
        click.echo(snapshot.snapshot_id)
        return
    permissions: list[dict[str, str]] = [{"UserId": account} for account in snapshot.shared_with]
    if snapshot.is_public:
        permissions.append({"Group": "all"})
    print_json({"SnapshotId": snapshot.snapshot_id, "CreateVolumePermissions": permissions})
