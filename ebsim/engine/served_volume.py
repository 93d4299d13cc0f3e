"""What can be asked of the process that has a volume open."""

from typing import Any

from ebsim.catalog.volume import Volume
from ebsim.engine.instances import detach_from_instance
from ebsim.engine.open_volume import local_volume, volume_folder
from ebsim.engine.region import Region
from ebsim.errors import Conflict, StorageUnavailable
from ebsim.ids import VolumeId
from ebsim.volumes.control import ControlClient, NotServed
from ebsim.volumes.volume_folder import VolumeFolder
from ebsim.waiting import wait_until

_LET_GO_SECONDS = 60.0


def detach_volume(region: Region, name: str) -> Volume:
    """Let the process that has the volume finish, flush and end, then give up its place.

    Returns once that process has let go and the volume is in no instance any more.

    Raises:
        VolumeNotFound: there is no such volume.
        Conflict: nobody has it open and it is in no instance, or whoever has it takes more
            than a minute; it keeps its place then.
    """
    volume = local_volume(region, name)
    folder = volume_folder(region, volume.volume_id)
    was_served = let_go(folder)
    if not was_served and volume.attachment is None:
        raise Conflict(
            f"{volume.volume_id} is not attached: it is 'available'. Nothing was changed."
        )
    detached = detach_from_instance(region, volume.volume_id)
    if not was_served:
        # A process may have been about to open it.
        let_go(folder)
    return detached


def let_go(folder: VolumeFolder) -> bool:
    """Let whoever has the volume open end, and wait for that; ``False`` if nobody has.

    Raises:
        Conflict: it takes more than a minute, or what has it open cannot be ended from here.
    """
    try:
        with ControlClient(folder) as client:
            client.ask("detach")
    except NotServed:
        return False
    except StorageUnavailable:
        pass  # it ended before it had answered, or never will
    if not wait_until(lambda: not folder.is_open(), _LET_GO_SECONDS):
        raise Conflict(
            f"{folder.path.name} is still being flushed by the process that serves it, which "
            "lets go when that is done. See 'ebsim volume status'."
        )
    return True


def ask_to_load(region: Region, volume_id: VolumeId, mib_per_second: int | None) -> bool:
    """Let whoever has the volume open go on loading it; ``False`` if nobody has it open.

    *mib_per_second* is its new limit, ``None`` for the volume's own, or none.
    """
    folder = volume_folder(region, volume_id)
    try:
        with ControlClient(folder) as client:
            if not client.status()["stands_alone"]:
                client.ask("set_rate", mib_per_second=mib_per_second)
                client.ask("resume")
    except NotServed:
        return False
    return True


def pause_loading(region: Region, name: str) -> dict[str, Any]:
    """Let the process that has the volume load nothing more behind; its status then.

    Raises:
        NotServed: nobody has it open, so nobody loads it.
        Conflict: there is nothing left to load.
    """
    return _ask(region, name, "pause")


def resume_loading(region: Region, name: str) -> dict[str, Any]:
    """Let the process that has the volume go on loading; its status then.

    Raises:
        As :func:`pause_loading`.
    """
    return _ask(region, name, "resume")


def loading_status(folder: VolumeFolder) -> dict[str, Any]:
    """What the process that loads the volume says of it.

    Raises:
        Conflict: it has ended before all was loaded.
    """
    try:
        with ControlClient(folder) as client:
            return client.status()
    except NotServed as error:
        raise Conflict(
            f"{folder.path.name} was detached before all of it was here. It loads on when it is "
            "attached, or initialized, again."
        ) from error


def wait_until_loaded(region: Region, volume_id: VolumeId) -> None:
    """Wait until the process that has the volume has loaded all of it.

    Raises:
        Conflict: it has ended before.
    """
    folder = volume_folder(region, volume_id)
    while not wait_until(lambda: bool(loading_status(folder)["stands_alone"]), 3600.0):
        pass


def _ask(region: Region, name: str, operation: str) -> dict[str, Any]:
    folder = volume_folder(region, local_volume(region, name).volume_id)
    with ControlClient(folder) as client:
        client.ask(operation)
        return client.status()
