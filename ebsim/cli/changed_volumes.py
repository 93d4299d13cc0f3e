"""``volume copy``, ``resize`` and ``rm``."""

from collections.abc import Mapping

import click

from ebsim.cli.messages import say
from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import TagType, tags_by_key
from ebsim.cli.output import print_json
from ebsim.cli.settings import Settings
from ebsim.cli.volume_shapes import SeenVolume, modification_document, volume_document
from ebsim.clock import to_iso8601
from ebsim.engine.copy_volume import copy_volume
from ebsim.engine.list_volumes import show_volume
from ebsim.engine.open_volume import local_volume
from ebsim.engine.recycle_bin import sweep_recycle_bin
from ebsim.engine.remove_volume import remove_volume
from ebsim.engine.resize_volume import resize_volume


@click.command()
@click.argument("name", metavar="VOL")
@click.option(
    "--tag",
    "tags",
    type=TagType(),
    multiple=True,
    callback=tags_by_key,
    help="A tag of the copy; may be repeated.",
)
@click.pass_obj
def copy(settings: Settings, *, name: str, tags: Mapping[str, str]) -> None:
    """Make another volume of the same bytes as VOL, which nobody may have open.

    Where the file system shares blocks between files (xfs, btrfs) that takes no room.

    \b
    Example:
        ebsim volume copy vol-0a1b2c3d4e5f60718 --tag for=trial
    """
    with opened_region(settings) as region, settings.watching() as progress:
        made = copy_volume(region, name, tags=tags, progress=progress)
    if settings.wants_json:
        print_json({"Volumes": [volume_document(SeenVolume(made))]})
    else:
        click.echo(made.volume_id)


@click.command()
@click.argument("name", metavar="VOL")
@click.option("--size", "size_gib", type=int, required=True, metavar="GIB", help="Its new size.")
@click.pass_obj
def resize(settings: Settings, *, name: str, size_gib: int) -> None:
    """Make the volume VOL larger, attached or not.

    What is added is zeros.  NBD clients see the new size when they connect again.
    Volumes do not shrink.

    \b
    Example:
        ebsim volume resize vol-0a1b2c3d4e5f60718 --size 200
    """
    with opened_region(settings) as region:
        before = show_volume(region, name)
        after = resize_volume(region, before.volume_id, size_gib)
    if settings.wants_json:
        print_json({"VolumeModification": modification_document(before, after)})
    else:
        click.echo(after.volume_id)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="VOL...")
@click.pass_obj
def rm(settings: Settings, *, names: tuple[str, ...]) -> None:
    """Remove volumes and their bytes; their snapshots stay.

    A volume that is attached is refused: detach it first.  Where a rule of the recycle bin
    matches, a volume is kept there for its time.

    \b
    Example:
        ebsim volume rm vol-0a1b2c3d4e5f60718
    """
    removed: list[str] = []
    try:
        with opened_region(settings) as region:
            sweep_recycle_bin(region)
            # A name that is wrong is told before anything is removed.
            for volume_id in dict.fromkeys(local_volume(region, n).volume_id for n in names):
                kept = remove_volume(region, volume_id).bin_stay
                removed.append(volume_id)
                if not settings.wants_json:
                    click.echo(volume_id)
                if kept is not None and not settings.is_quiet:
                    until = to_iso8601(kept.exit_time_ns)
                    say(f"{volume_id} is in the recycle bin until {until}")
    finally:
        if settings.wants_json and removed:
            print_json({"Volumes": [{"VolumeId": volume_id} for volume_id in removed]})
