"""``ebsim store``: the region's packs and metadata as a whole."""

import click

from ebsim.cli.checked_store import print_check, print_rebuild
from ebsim.cli.measured_store import print_compaction, print_stats
from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import ShareType
from ebsim.cli.settings import Settings
from ebsim.engine.check_store import check_store
from ebsim.engine.compact_store import compact_store
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.store_stats import store_stats


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
    with opened_region(settings) as region:
        print_stats(settings, store_stats(region))


@store.command()
@click.option("--read-data", is_flag=True, help="Read every pack and check every byte.")
@click.option("--sample", type=ShareType(), help="With --read-data: only this share, by chance.")
@click.option("--repair", is_flag=True, help="Mend what can be mended; say what is lost.")
@click.pass_obj
def check(settings: Settings, *, read_data: bool, sample: float | None, repair: bool) -> None:
    """Compare packs, manifests, metadata and reference counts with each other.

    Ends with exit code 8 if anything is wrong and stays so.  Without --repair nothing is
    changed but what an interrupted command left.

    \b
    Examples:
        ebsim store check
        ebsim store check --read-data --sample 5%
        ebsim store check --read-data --repair
    """
    if sample is not None and not read_data:
        raise click.UsageError("--sample goes with --read-data.")
    with opened_region(settings) as region, settings.watching() as progress:
        report = check_store(
            region, read_data=read_data, sample=sample, repair=repair, progress=progress
        )
    print_check(settings, report)


@store.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be rewritten and freed.")
@click.pass_obj
def compact(settings: Settings, *, dry_run: bool) -> None:
    """Give back space that deletions left inside packs.

    \b
    Example:
        ebsim store compact --dry-run
    """
    with opened_region(settings) as region, settings.watching() as progress:
        report = compact_store(region, dry_run=dry_run, progress=progress)
    print_compaction(settings, report)


@store.command()
@click.pass_obj
def rebuild(settings: Settings) -> None:
    """Make the metadata anew from the packs and manifests.

    For a store whose metadata is lost or damaged.  Every snapshot comes back, its tags
    and times included.  The old metadata is put aside, not deleted.

    \b
    Example:
        ebsim store rebuild
    """
    with settings.watching() as progress:
        report = rebuild_store(settings.home, settings.region_name, progress=progress)
    print_rebuild(settings, report)
