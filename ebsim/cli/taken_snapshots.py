"""``snapshot create``, and what ``import`` has of it: a snapshot of each source, and which."""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from io import FileIO
from typing import Any

import click

from ebsim.catalog.snapshot import Snapshot
from ebsim.cli.amazon_shapes import snapshot_document
from ebsim.cli.messages import counted, say
from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import FormatType, SizeType, TagType, tags_by_key
from ebsim.cli.output import print_json
from ebsim.cli.settings import Settings
from ebsim.engine.bin_overdue import overdue_in_bin
from ebsim.engine.create_snapshot import create_snapshot, create_snapshot_of_stream
from ebsim.engine.home import region_path
from ebsim.engine.region import Region
from ebsim.engine.snapshot_options import SnapshotOptions, check_first_snapshot
from ebsim.engine.source_volume import is_local_volume
from ebsim.errors import SourceUnusable
from ebsim.progress import Progress
from ebsim.sources.standard_input import StandardInput
from ebsim.units import format_size


@click.command()
@click.argument("sources", nargs=-1, metavar="SOURCE...")
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
@click.option(
    "--instance",
    metavar="I-ID",
    help="Snapshot the volumes attached to this instance, at one instant.",
)
@click.option(
    "--exclude-boot-volume", is_flag=True, help="With --instance: leave the boot volume out."
)
@click.option(
    "--exclude-data-volume",
    "excluded",
    multiple=True,
    metavar="VOL",
    help="With --instance: leave this volume out; may be repeated.",
)
@click.option(
    "--freeze-command",
    metavar="COMMAND",
    help="Run before the instant; makes images that others write part of one set.",
)
@click.option("--thaw-command", metavar="COMMAND", help="Run after it, whatever happens.")
@click.pass_obj
def create(
    settings: Settings,
    /,
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
    **together: Any,
) -> None:
    """Snapshot each SOURCE: an image's path, a device, a volume's id, or - for standard input.

    Only blocks that differ from the source's previous snapshot are stored.  Volumes made
    with 'ebsim volume create' are cut at one instant, attached and being written or not:
    writes are held up for some milliseconds.  qcow2, VMDK, VHD, VHDX and VDI images are
    read through qemu-nbd (Debian and Ubuntu: qemu-utils).

    \b
    Examples:
        ebsim snapshot create disk.img --tag env=test
        ebsim snapshot create /dev/vg0/data --description "before the upgrade"
        zcat disk.img.gz | ebsim snapshot create - --volume vol-0a1b2c3d4e5f60718
    """
    _check_together(sources, together)
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
    if together["instance"] is not None or together["freeze_command"] is not None:
        _take_set(settings, sources, together, options)
    else:
        take_snapshots(settings, sources, options, stream_volume_id=volume_id)


def _check_together(sources: Sequence[str], together: Mapping[str, Any]) -> None:
    """Refuse what does not go together; sets are loaded only where one may be wanted."""
    if any(together.values()):
        _sets().Together(**together).check(sources)
    elif not sources:
        raise click.UsageError("Missing argument 'SOURCE...'.")


def _sets() -> Any:
    # Loaded here: a snapshot of an image has no use for live volumes.
    return import_module("ebsim.cli.snapshot_sets")


def _take_set(
    settings: Settings,
    sources: Sequence[str],
    together: Mapping[str, Any],
    options: SnapshotOptions,
) -> None:
    with opened_region(settings) as region, settings.watching() as progress:
        asked = _sets().Together(**together)
        taken = _sets().take_set(
            settings, region, sources, asked, options=options, progress=progress
        )
    for source, snapshot in taken:
        _tell(settings, source, snapshot)
    _print(settings, [snapshot for _, snapshot in taken], one=False)


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
            if overdue_in_bin(region):
                # Loaded here: the bin is nearly always empty, and deleting needs much.
                import_module("ebsim.engine.recycle_bin").sweep_recycle_bin(region)
            live = [source for source in sources if is_local_volume(region, source)]
            if live:
                alone = _sets().Together(None, False, (), None, None)
                for source, snapshot in _sets().take_set(
                    settings, region, live, alone, options=options, progress=progress
                ):
                    taken.append(snapshot)
                    _tell(settings, source, snapshot)
            for source in sources:
                if source in live:
                    continue
                if source == "-":
                    snapshot = _snapshot_of_input(region, stream_volume_id, options, progress)
                else:
                    snapshot = create_snapshot(region, source, options, progress)
                taken.append(snapshot)
                _tell(settings, source, snapshot)
    finally:
        _print(settings, taken, one=len(sources) == 1)


def _print(settings: Settings, taken: Sequence[Snapshot], *, one: bool) -> None:
    """The snapshots as JSON, if that is wanted; *one* is what a single SOURCE gets."""
    if settings.wants_json and one:
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
