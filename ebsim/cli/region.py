"""``ebsim region``: make, list and remove regions."""

import click

from ebsim.cli.output import Column, print_json, print_table
from ebsim.cli.settings import Settings
from ebsim.engine.home import region_names, region_path
from ebsim.engine.regions import create_region, remove_region


@click.group()
def region() -> None:
    """Make, list and remove regions."""


@region.command()
@click.argument("name", metavar="NAME")
@click.pass_obj
def create(settings: Settings, *, name: str) -> None:
    """Make the empty region NAME.

    Snapshotting or copying into a region makes it as well.

    \b
    Example:
        ebsim region create eu-central-1
    """
    create_region(settings.home, name, settings.account_id)
    _print([name], settings)


@region.command()
@click.pass_obj
def ls(settings: Settings) -> None:
    """List the regions of the home.

    \b
    Example:
        ebsim region ls
    """
    _print(region_names(settings.home), settings)


@region.command()
@click.argument("name", metavar="NAME")
@click.pass_obj
def rm(settings: Settings, *, name: str) -> None:
    """Remove the region NAME, which must hold no snapshots and no volumes.

    \b
    Example:
        ebsim region rm eu-central-1
    """
    remove_region(settings.home, name, settings.account_id)
    _print([name], settings)


def _print(names: list[str], settings: Settings) -> None:
    if settings.wants_json:
        print_json({"Regions": [{"RegionName": name} for name in names]})
    else:
        paths = [str(region_path(settings.home, name)) for name in names]
        columns = [Column("region"), Column("where")]
        print_table(columns, [list(row) for row in zip(names, paths, strict=True)])
