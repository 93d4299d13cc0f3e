"""``snapshot create``, and what ``import`` has of it: a snapshot of each source, and which."""

import sys
from collections.abc import Mapping, Sequence
from io import FileIO

import click

from ebsim.catalog.snapshot import Snapshot
from ebsim.cli.amazon_shapes import snapshot_document
from ebsim.cli.messages import counted, say
from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import FormatType, SizeType, TagType, tags_by_key
from ebsim.cli.output import print_json
from ebsim.cli.settings import Settings
from ebsim.engine.create_snapshot import create_snapshot, create_snapshot_of_stream
from ebsim.engine.home import region_path
from ebsim.engine.region import Region
from ebsim.engine.snapshot_options import SnapshotOptions, check_first_snapshot
from ebsim.errors import SourceUnusable
from ebsim.progress import Progress
from ebsim.sources.standard_input import StandardInput
from ebsim.units import format_size


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--description", default="", metavar="TEXT", help="Free text to keep with it.")
@click.option(
    "--tag",
    "tags",
    type=TagType(),
    multiple=True,
    callback=tags_by_key,
    help="A tag; may be repeated.",
)
@click.option(
    "--volume", "volume_id", metavar="ID", help="The volume that standard input belongs to."
)
@click.option(
    "--block-size",
    "block_size",
    type=SizeType(),
    help="For a source's first snapshot: a power of two from 4K to 4M.  [default: 512K]",
)
@click.option(
    "--level",
    type=click.IntRange(-7, 19),
    default=SnapshotOptions().level,
    show_default=True,
    help="How hard zstd compresses.",
)
@click.option(
    "--rehash",
    is_flag=True,
    help="Compare every block by its digest, also those that seem unchanged.",
)
@click.option(
    "--format",
    "image_format",
    type=FormatType(),
    help="The format of the images.  [default: what their bytes say]",
)
@click.option(
    "--allow-backing-file",
    is_flag=True,
    help="Let an image name another file that holds part of the disk.",
)
@click.pass_obj
def create(
    settings: Settings,
    *,
    sources: tuple[str, ...],
    description: str,
    tags: Mapping[str, str],
    volume_id: str | None,
    block_size: int | None,
    level: int,
    rehash: bool,
    image_format: str | None,
    allow_backing_file: bool,
) -> None:
    """Snapshot each SOURCE: an image's path, a device, a volume's id, or - for standard input.

    Only blocks that differ from the source's previous snapshot are stored.  qcow2, VMDK,
    VHD, VHDX and VDI images are read through qemu-nbd (Debian and Ubuntu: qemu-utils).

    \b
    Examples:
        ebsim snapshot create disk.img --tag env=test
        ebsim snapshot create /dev/vg0/data --description "before the upgrade"
        zcat disk.img.gz | ebsim snapshot create - --volume vol-0a1b2c3d4e5f60718
    """
    if volume_id is not None and sources != ("-",):
        raise click.UsageError("--volume goes with the single SOURCE '-' (standard input).")
    if sources.count("-") > 1:
        raise click.UsageError("Standard input can be read once: give '-' once.")
    if "-" in sources and (image_format or "raw") != "raw":
        raise click.UsageError("Standard input is read as a raw disk; an image needs a path.")
    options = SnapshotOptions(
        description=description,
        tags=tags,
        block_size=block_size,
        level=level,
        rehash=rehash,
        image_format=image_format,
        allow_backing_file=allow_backing_file,
    )
    take_snapshots(settings, sources, options, stream_volume_id=volume_id)


def take_snapshots(
    settings: Settings,
    sources: Sequence[str],
    options: SnapshotOptions,
    *,
    stream_volume_id: str | None = None,
) -> None:
    """Snapshot each of *sources* and print the new snapshots.

    A source that fails ends the command; the snapshots taken before it are kept and
    printed.
    """
    _check_before_a_store_is_made(settings, sources[0], options)
    taken: list[Snapshot] = []
    try:
        with opened_region(settings, create=True) as region, settings.watching() as progress:
            for source in sources:
                if source == "-":
                    snapshot = _snapshot_of_input(region, stream_volume_id, options, progress)
                else:
                    snapshot = create_snapshot(region, source, options, progress)
                taken.append(snapshot)
                _tell(settings, source, snapshot)
    finally:
        if settings.wants_json and len(sources) == 1:
            for snapshot in taken:
                print_json(snapshot_document(snapshot))
        elif settings.wants_json and taken:
            print_json({"Snapshots": [snapshot_document(snapshot) for snapshot in taken]})


def _check_before_a_store_is_made(
    settings: Settings, source: str, options: SnapshotOptions
) -> None:
    """A slip in the first command of all must not leave an empty store."""
    if region_path(settings.home, settings.region_name).is_dir():
        return
    if source == "-":
        options.check()
        _refuse_terminal()
    else:
        check_first_snapshot(source, options)


def _tell(settings: Settings, source: str, snapshot: Snapshot) -> None:
    """The id on standard output, the figures beside it, warnings always."""
    if not settings.wants_json:
        click.echo(snapshot.snapshot_id)
    if not settings.is_quiet:
        say(
            f"{source}: {format_size(snapshot.size_bytes)}, "
            f"{counted(snapshot.changed_block_count, 'block')} changed, "
            f"{format_size(snapshot.stored_bytes)} added to the store"
        )
    if snapshot.state_message:
        say(f"ebsim: warning: {source}: {snapshot.state_message}")


def _snapshot_of_input(
    region: Region, volume_id: str | None, options: SnapshotOptions, progress: Progress
) -> Snapshot:
    _refuse_terminal()
    # Unbuffered: blocks are larger than any buffer.
    stream = StandardInput(FileIO(sys.stdin.fileno(), closefd=False))
    return create_snapshot_of_stream(region, stream, volume_id, options, progress)


def _refuse_terminal() -> None:
    if sys.stdin is None or sys.stdin.isatty():
        raise SourceUnusable(
            "standard input is a terminal, not a disk. No snapshot was made. Pipe one in: "
            "zcat disk.img.gz | ebsim snapshot create -"
        )
