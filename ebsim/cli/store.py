"""``ebsim store``: the region's packs and metadata as a whole."""

import click

from ebsim.cli.option_types import ShareType
from ebsim.cli.settings import Settings
from ebsim.cli.unbuilt import refuse


@click.group()
def store() -> None:
    """Measure, check, repair and compact."""


@store.command()
@click.pass_obj
def stats(settings: Settings) -> None:
    """Show how much is stored, and how much deduplication and compression save.

    \b
    Example:
        ebsim store stats
    """
    refuse(settings)


@store.command()
@click.option("--read-data", is_flag=True, help="Read every pack and check every byte.")
@click.option("--sample", type=ShareType(), help="With --read-data: only this share, by chance.")
@click.option("--repair", is_flag=True, help="Mend what can be mended; say what is lost.")
@click.pass_obj
def check(settings: Settings, *, read_data: bool, sample: float | None, repair: bool) -> None:
    """Compare packs, manifests, metadata and reference counts with each other.

    Ends with exit code 8 if anything is wrong and stays so.

    \b
    Examples:
        ebsim store check
        ebsim store check --read-data --sample 5%
        ebsim store check --read-data --repair
    """
    if sample is not None and not read_data:
        raise click.UsageError("--sample goes with --read-data.")
    refuse(settings, repair)


@store.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be rewritten and freed.")
@click.pass_obj
def compact(settings: Settings, *, dry_run: bool) -> None:
    """Give back space that deletions left inside packs.

    \b
    Example:
        ebsim store compact --dry-run
    """
    refuse(settings, dry_run)


@store.command()
@click.pass_obj
def rebuild(settings: Settings) -> None:
    """Make the metadata anew from the packs and manifests.

    For a store whose metadata is lost or damaged.  Every snapshot comes back, its tags
    and times included.

    \b
    Example:
        ebsim store rebuild
    """
    refuse(settings)
