"""``volume ls``, ``show`` and ``status``."""

import click

from ebsim.catalog.volume import Volume
from ebsim.cli.messages import say
from ebsim.cli.opened_region import opened_region
from ebsim.cli.output import print_fields, print_json, print_table
from ebsim.cli.settings import Settings
from ebsim.cli.volume_shapes import (
    STATUS_COLUMNS,
    VOLUME_COLUMNS,
    SeenVolume,
    status_document,
    status_row,
    volume_document,
    volume_fields,
    volume_row,
)
from ebsim.engine.list_volumes import list_volumes, show_volume
from ebsim.engine.open_volume import local_volume
from ebsim.engine.region import Region
from ebsim.engine.volume_status import volume_status
from ebsim.errors import IntegrityError, NotFound, StorageUnavailable


@click.command()
@click.pass_obj
def ls(settings: Settings) -> None:
    """List volumes: sources, and those made here.

    Present is what can be read without the store, dirty what was written since the last
    snapshot.

    \b
    Example:
        ebsim volume ls
    """
    with opened_region(settings) as region:
        seen = [_look_at(region, volume) for volume in list_volumes(region)]
    if settings.wants_json:
        print_json({"Volumes": [volume_document(one) for one in seen]})
        return
    print_table(VOLUME_COLUMNS, [volume_row(one) for one in seen])
    for one in seen:
        if one.failure is not None:
            say(f"ebsim: warning: {one.volume.volume_id}: {one.failure}")


@click.command()
@click.argument("name", metavar="VOL")
@click.pass_obj
def show(settings: Settings, *, name: str) -> None:
    """Show everything about the volume VOL.

    An id may be shortened to a prefix that no other volume has.

    \b
    Example:
        ebsim volume show vol-0a1b2c
    """
    with opened_region(settings) as region:
        seen = _look_at(region, show_volume(region, name))
    if seen.failure is not None:
        raise seen.failure
    if settings.wants_json:
        print_json(volume_document(seen))
    else:
        print_fields(volume_fields(seen))


@click.command()
@click.argument("names", nargs=-1, metavar="[VOL...]")
@click.pass_obj
def status(settings: Settings, *, names: tuple[str, ...]) -> None:
    """Tell whether volumes are well, and how far they are loaded.

    Without VOL, of every volume that was made here.

    \b
    Example:
        ebsim volume status vol-0a1b2c3d4e5f60718
    """
    with opened_region(settings) as region:
        volumes = [local_volume(region, name) for name in names]
        if not names:
            volumes = [volume for volume in list_volumes(region) if volume.is_local]
        seen = [_look_at(region, volume) for volume in volumes]
    if settings.wants_json:
        print_json({"VolumeStatuses": [status_document(one) for one in seen]})
    else:
        print_table(STATUS_COLUMNS, [status_row(one) for one in seen])


def _look_at(region: Region, volume: Volume) -> SeenVolume:
    """What can be learned of a volume; one that cannot be asked must not hide the others."""
    if not volume.is_local:
        return SeenVolume(volume)
    try:
        return SeenVolume(volume, volume_status(region, volume))
    except (IntegrityError, StorageUnavailable, NotFound) as error:
        return SeenVolume(volume, failure=error)
