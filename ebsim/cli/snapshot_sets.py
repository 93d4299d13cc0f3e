"""Snapshots of several disks at one instant, as ``snapshot create`` takes them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

import click

from ebsim.catalog.snapshot import Snapshot
from ebsim.cli.messages import say
from ebsim.cli.settings import Settings
from ebsim.engine.freeze_commands import frozen_by
from ebsim.engine.instances import volumes_of_instance
from ebsim.engine.region import Region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.progress import Progress


class Together(NamedTuple):
    """Which disks are snapshotted together, and what holds still who writes to them."""

    instance: str | None
    exclude_boot_volume: bool
    excluded: tuple[str, ...]
    freeze_command: str | None
    thaw_command: str | None

    def check(self, sources: Sequence[str]) -> None:
        """Refuse what does not go together."""
        if self.instance is not None and sources:
            raise click.UsageError("--instance names the volumes. Give no SOURCE with it.")
        if self.instance is None and not sources:
            raise click.UsageError("Missing argument 'SOURCE...'.")
        if self.instance is None and (self.exclude_boot_volume or self.excluded):
            raise click.UsageError("--exclude-... goes with --instance.")
        if (self.freeze_command is None) != (self.thaw_command is None):
            raise click.UsageError("--freeze-command and --thaw-command go together.")
        if self.freeze_command is not None and "-" in sources:
            raise click.UsageError("Standard input holds no instant: leave '-' out of the set.")

    @property
    def held(self) -> Callable[[], AbstractContextManager[None]] | None:
        if self.freeze_command is None or self.thaw_command is None:
            return None
        return partial(frozen_by, self.freeze_command, self.thaw_command)


def take_set(
    settings: Settings,
    region: Region,
    sources: Sequence[str],
    together: Together,
    *,
    options: SnapshotOptions,
    progress: Progress,
) -> list[tuple[str, Snapshot]]:
    """Snapshot them; return each source's name with its snapshot."""
    names = list(sources)
    if together.instance is not None:
        names = [
            volume.volume_id
            for volume in volumes_of_instance(
                region,
                together.instance,
                exclude_boot=together.exclude_boot_volume,
                exclude_data=together.excluded,
            )
        ]
    taken = create_snapshot_set(region, names, options, progress, held=together.held)
    if not settings.is_quiet:
        say(f"writes were held up for {taken.pause_seconds * 1000:.1f} ms")
    return list(zip(names, taken.snapshots, strict=True))
