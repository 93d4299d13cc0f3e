"""Growing a volume, whether a process has it open or not.

The volume's own state grows first and the catalog follows: if a crash comes between, the
state is what counts (``volume_size.py``).
"""

from ebsim.catalog.volume import Volume
from ebsim.engine.open_volume import local_volume, open_volume, volume_folder
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.volume_size import note_size
from ebsim.errors import InvalidRequest, UnsupportedParameter
from ebsim.ids import VolumeId
from ebsim.sources.source import SIZE_BYTES_MAX
from ebsim.units import GIB, format_size
from ebsim.volumes.control import ControlClient, NotServed

RESIZE = "resize"


def resize_volume(region: Region, name: str, size_gib: int) -> Volume:
    """Make the volume *name* larger; the new bytes are zeros.  Harmless at that size already.

    NBD clients see the new size when they connect again.

    Raises:
        VolumeNotFound: there is no such volume.
        UnsupportedParameter: it is larger than that: volumes do not shrink.
        InvalidRequest: it is a source, or the size is none that a volume can have.
        Conflict: a snapshot of it is being taken.
    """
    volume, size_bytes = check_growth(region, name, size_gib)
    recover(region)
    with region.session():
        grow(region, volume.volume_id, size_bytes)
        return note_size(region, volume.volume_id, size_bytes)


def check_growth(region: Region, name: str, size_gib: int) -> tuple[Volume, int]:
    """The volume *name*, and the size in bytes that it is to have; nothing is changed.

    Raises:
        VolumeNotFound, UnsupportedParameter, InvalidRequest: as :func:`resize_volume`.
    """
    volume = local_volume(region, name)
    size_bytes = size_gib * GIB
    if not GIB <= size_bytes <= SIZE_BYTES_MAX:
        raise InvalidRequest(
            f"a volume of {size_gib} GiB cannot be made: from 1 to {SIZE_BYTES_MAX // GIB} GiB "
            f"can. {volume.volume_id} is unchanged."
        )
    _refuse_shrinking(
        volume.volume_id, volume_folder(region, volume.volume_id).load().size_bytes, size_bytes
    )
    return volume, size_bytes


def grow(region: Region, volume_id: VolumeId, size_bytes: int) -> None:
    """Make the volume's own state larger, in a session of the caller's, who notes it then.

    Raises:
        Conflict: a snapshot of it is being taken.
    """
    try:
        with ControlClient(volume_folder(region, volume_id)) as client:
            client.grow(size_bytes)
    except NotServed:
        with open_volume(region, volume_id, RESIZE, hydrates=False) as opened:
            opened.device.grow(size_bytes)


def _refuse_shrinking(volume_id: VolumeId, size_bytes: int, wanted_bytes: int) -> None:
    if wanted_bytes < size_bytes:
        raise UnsupportedParameter(
            f"{volume_id} has {format_size(size_bytes)} and cannot shrink to "
            f"{format_size(wanted_bytes)}. Nothing was changed. Copy what is on it to a new "
            "volume of that size."
        )
