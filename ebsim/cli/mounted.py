"""``ebsim mount``: snapshots and volumes as files, ready for ``mount -o loop``."""

import os
import zlib
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import click

from ebsim.attach.fuse_mount import mount_shelf
from ebsim.attach.fuse_shelf import BlockDevice, Image
from ebsim.catalog.snapshot import SnapshotState
from ebsim.catalog.snapshot_filter import Filter
from ebsim.catalog.volume import Volume
from ebsim.cli.messages import say
from ebsim.cli.opened_region import opened_region
from ebsim.cli.serving import start_in_background
from ebsim.cli.settings import Settings
from ebsim.engine.list_snapshots import list_snapshots, show_snapshot
from ebsim.engine.list_volumes import list_volumes
from ebsim.engine.open_snapshot import open_snapshot
from ebsim.engine.open_volume import (
    MOUNT,
    let_initializer_go,
    local_volume,
    open_volume,
    volume_folder,
)
from ebsim.engine.region import Region
from ebsim.errors import EbsimError, InvalidRequest, NotFound
from ebsim.ids import VolumeId

_SNAPSHOTS = "snapshots"
_VOLUMES = "volumes"


class RegionShelf:
    """The :class:`~ebsim.attach.fuse_shelf.Shelf` of a region: what its catalog has now.

    Args:
        only: Show this volume alone, in the mount itself.
    """

    def __init__(self, region: Region, only: VolumeId | None = None) -> None:
        self._region = region
        self._only = only
        # Nobody opens or releases two at once: ``OpenImages`` sees to that.
        self._open: dict[tuple[str, str], ExitStack] = {}

    @property
    def folders(self) -> tuple[str, ...]:
        return () if self._only is not None else (_SNAPSHOTS, _VOLUMES)

    def names(self, folder: str) -> Iterable[str]:
        if self._only is not None:
            return [self._only]
        if folder == _SNAPSHOTS:
            completed = [Filter("status", (SnapshotState.COMPLETED.value,))]
            shown = list_snapshots(self._region, completed).snapshots
            return [snapshot.snapshot_id for snapshot in shown if snapshot.is_readable]
        return [volume.volume_id for volume in list_volumes(self._region) if volume.is_local]

    def find(self, folder: str, name: str) -> Image | None:
        try:
            if folder == _SNAPSHOTS:
                snapshot = show_snapshot(self._region, name)
                is_there = snapshot.is_readable
                image = Image(snapshot.size_bytes, snapshot.start_time_ns, False)
                return image if is_there and snapshot.snapshot_id == name else None
            volume = local_volume(self._region, name)
        except (NotFound, InvalidRequest):
            return None
        if volume.volume_id != name or self._only not in (None, name):
            return None
        return Image(volume.size_bytes, self._modified_at_ns(volume), True)

    def open(self, folder: str, name: str) -> BlockDevice:
        device: BlockDevice
        with ExitStack() as stack:
            if folder == _SNAPSHOTS:
                device = stack.enter_context(open_snapshot(self._region, name)).device
            else:
                volume_id = local_volume(self._region, name).volume_id
                let_initializer_go(self._region, volume_id)
                device = stack.enter_context(
                    open_volume(self._region, volume_id, MOUNT, hydrates=True)
                ).device
            self._open[folder, name] = stack.pop_all()
        return device

    def release(self, folder: str, name: str, _device: BlockDevice) -> None:
        self._open.pop((folder, name)).close()

    def _modified_at_ns(self, volume: Volume) -> int:
        """When its local bytes last changed: copying programs pass over what looks unchanged."""
        data = volume_folder(self._region, volume.volume_id).data
        times = [path.stat().st_mtime_ns for path in data.parent.glob(f"{data.name}.*")]
        return max(times, default=volume.create_time_ns)


@click.command()
@click.argument("mount_point", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--volume", "volume_name", metavar="VOL", help="Show this volume alone, in DIR.")
@click.option(
    "--detach-process",
    is_flag=True,
    help="Serve in a process of its own, and return once it does.",
)
@click.pass_obj
def mount(
    settings: Settings, *, mount_point: Path, volume_name: str | None, detach_process: bool
) -> None:
    """Show snapshots and volumes as files in DIR until it is unmounted.

    DIR is an empty directory.  Snapshots are snapshots/ID.img and cannot be written,
    volumes are volumes/ID.img.  What is open keeps its volume in use.  Interrupt it, or
    run 'fusermount3 -u DIR', to end it.  Needs the packages fuse3 and ebsim[fuse].

    \b
    Examples:
        ebsim mount disks
        ebsim mount disks --volume vol-0a1b2c3d4e5f60718 --detach-process
        mount -o loop,ro disks/snapshots/snap-0a1b2c3d4e5f60718.img /mnt
    """
    mount_point = mount_point.absolute()
    with opened_region(settings) as region:
        only = local_volume(region, volume_name).volume_id if volume_name is not None else None
        if not detach_process:
            mount_shelf(
                RegionShelf(region, only),
                mount_point,
                on_ready=lambda: click.echo(mount_point),
                on_still_used=lambda: say(
                    f"{mount_point} is out of sight, and something still uses a disk in it: that "
                    "is served until it is closed. Interrupt again to give it up."
                ),
                on_failure=_Failures().tell,
                home=settings.home,
            )
            return
    arguments = ["mount", str(mount_point)]
    if only is not None:
        arguments += ["--volume", only]
    name = f"mount-{zlib.crc32(os.fsencode(mount_point)):08x}"
    click.echo(start_in_background(settings, arguments, name))


class _Failures:
    """Tells why a user of the mount got an error: once, however often it is tried again."""

    def __init__(self) -> None:
        self._told = ""

    def tell(self, error: EbsimError) -> None:
        """Called from many threads; two that fail at once may both be told twice."""
        message = " ".join(str(error).split())
        if message != self._told:
            self._told = message
            say(f"ebsim: {message}")
