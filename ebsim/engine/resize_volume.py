"""Growing a volume, whether a process has it open or not.

The volume's own state grows first and the catalog follows: if a crash comes between, the
state is what counts, and the catalog says so when the volume is resized or snapshotted
next.
"""

from dataclasses import replace

from ebsim.catalog.records import find_volume, put_volume
from ebsim.catalog.volume import Volume
from ebsim.engine.kept_records import write_current_record
from ebsim.engine.open_volume import local_volume, open_volume, volume_folder
from ebsim.engine.record_events import volume_modified
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.errors import InvalidRequest, UnsupportedParameter, VolumeNotFound
from ebsim.ids import VolumeId
from ebsim.metadata.transactions import Transaction
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
        return _note(region, volume.volume_id, size_bytes)


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


def _note(region: Region, volume_id: VolumeId, size_bytes: int) -> Volume:
    def note(txn: Transaction) -> Volume:
        volume = find_volume(txn, volume_id)
        if volume is None or volume.is_deleted:
            raise VolumeNotFound(volume_id)
        grown = replace(volume, size_bytes=max(size_bytes, volume.size_bytes))
        put_volume(txn, grown)
        if grown != volume:
            # What is seen of a modification on the real service; there is nothing to wait for.
            volume_modified(txn, region, grown, "optimizing")
            volume_modified(txn, region, grown, "completed")
        return grown

    volume = region.metadata.run(note)
    write_current_record(region, volume_id)
    return volume
