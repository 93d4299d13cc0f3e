"""``volume create``."""

from collections.abc import Mapping

import click

from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import RangeType, SizeType, TagType, tags_by_key
from ebsim.cli.output import print_json
from ebsim.cli.settings import Settings
from ebsim.cli.volume_shapes import SeenVolume, volume_document
from ebsim.engine.create_volume import VolumeOptions, create_volume


@click.command()
@click.option("--snapshot", metavar="SNAP", help="Make it from this snapshot.")
@click.option(
    "--size",
    "size_gib",
    type=int,
    metavar="GIB",
    help="Its size.  [default: the snapshot's exact length]",
)
@click.option(
    "--block-size",
    type=SizeType(),
    help="Of an empty volume: a power of two from 4K to 4M.  [default: 512K]",
)
@click.option(
    "--hydrate-first",
    "first",
    type=RangeType(),
    multiple=True,
    help="A range of bytes to load before the others, such as 0-64M; may be repeated.",
)
@click.option(
    "--hydrate-like",
    "like",
    metavar="VOL",
    help="Load in the order in which VOL, of the same snapshot, was first read.",
)
@click.option(
    "--initialization-rate",
    "rate",
    type=click.IntRange(min=1),
    metavar="MIB_PER_S",
    help="With --snapshot: load no more than this, unless whoever attaches it says otherwise.",
)
@click.option(
    "--tag",
    "tags",
    type=TagType(),
    multiple=True,
    callback=tags_by_key,
    help="A tag; may be repeated.",
)
@click.pass_obj
def create(
    settings: Settings,
    *,
    snapshot: str | None,
    size_gib: int | None,
    block_size: int | None,
    first: tuple[tuple[int, int], ...],
    like: str | None,
    rate: int | None,
    tags: Mapping[str, str],
) -> None:
    """Make a volume from a snapshot, usable at once, or an empty one.

    Nothing is copied: blocks come from the store when they are needed, and in the
    background once the volume is attached.  The snapshot may be deleted at once.

    \b
    Examples:
        ebsim volume create --snapshot snap-0a1b2c3d4e5f60718
        ebsim volume create --snapshot snap-0a1b2c3d4e5f60718 --initialization-rate 200
        ebsim volume create --size 100 --tag role=database
    """
    options = VolumeOptions(
        snapshot=snapshot,
        size_gib=size_gib,
        block_size=block_size,
        tags=tags,
        first=first,
        like=like,
        initialization_rate=rate,
    )
    with opened_region(settings, create=snapshot is None) as region:
        volume = create_volume(region, options)
    if settings.wants_json:
        print_json(volume_document(SeenVolume(volume)))
    else:
        click.echo(volume.volume_id)
