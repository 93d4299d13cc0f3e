"""Taking one snapshot a source, for ``snapshot create`` and ``import``, and saying which."""

import sys
from collections.abc import Sequence
from io import FileIO

import click

from ebsim.catalog.snapshot import Snapshot
from ebsim.cli.amazon_shapes import snapshot_document
from ebsim.cli.messages import counted, say
from ebsim.cli.opened_region import opened_region
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


def report(settings: Settings, snapshot: Snapshot) -> None:
    """Print the snapshot that a command changed: its id, or the whole of it as JSON."""
    if settings.wants_json:
        print_json(snapshot_document(snapshot))
    else:
        click.echo(snapshot.snapshot_id)


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
