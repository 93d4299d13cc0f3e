"""What can be told of a volume: how much of it is here, what was written, who has it open.

The process that has a volume open is asked; where none has, its folder is looked at.  That
takes no lock, so the figures of a volume that is opened at this moment are of nearly one
moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ebsim.catalog.volume import Volume
from ebsim.durable_files import Files
from ebsim.engine.open_volume import INITIALIZE, SNAPSHOT, serving_facts, volume_folder
from ebsim.engine.region import Region
from ebsim.engine.resize_volume import RESIZE
from ebsim.errors import StorageUnavailable
from ebsim.ids import VolumeId
from ebsim.volumes.block_bitmap import BlockBitmap, bitmap_bytes
from ebsim.volumes.control import Answer, ControlClient, NotServed
from ebsim.volumes.sparse_file import segment_paths
from ebsim.volumes.volume_folder import VolumeFolder, VolumeState, current_boot

COPY = "copy"
"""The purpose of a process that has a volume for as long as it copies it."""

_PASSING = frozenset({INITIALIZE, SNAPSHOT, COPY})
"""What a process may have a volume open for without it being in use, as EBS means that."""


@dataclass(frozen=True, slots=True)
class VolumeStatus:
    """A local volume as it is now.

    Attributes:
        volume: Its record, with the size that it has.
        present_bytes: Of the blocks that are here; all of them once it stands alone.
        dirty_bytes: Of the blocks written since its last snapshot.
        allocated_bytes: What its bytes take on the disk.
        pid: The process that has it open, ``None`` if none has.
        purpose: What that process has it open for.
        uris: Where that process serves it.
        hydration: How loading in the background goes on: a state, ``""`` without any.
        loaded_percent: How much of what it was made from is here; while nobody loads it, how
            much of the volume.
        seconds_left: Until all is here, as far as that is known.
        failure: Why some of it could not be loaded.
        mib_per_second: What loading in the background is limited to, ``None`` for no limit.
    """

    volume: Volume
    present_bytes: int
    dirty_bytes: int
    allocated_bytes: int
    stands_alone: bool
    pid: int | None = None
    purpose: str = ""
    uris: tuple[str, ...] = ()
    hydration: str = ""
    loaded_percent: int = 100
    seconds_left: float | None = None
    failure: str = ""
    mib_per_second: int | None = None

    @property
    def state(self) -> str:
        """Amazon's word: ``available`` or ``in-use``."""
        is_served = self.pid is not None and self.purpose not in _PASSING
        return "in-use" if is_served or self.volume.attachment is not None else "available"

    @property
    def present_percent(self) -> int:
        """100 only when all is here."""
        return self.present_bytes * 100 // self.volume.size_bytes


def is_in_use(region: Region, volume: Volume) -> bool:
    """Whether a volume is attached, or a process has it open for more than the moment.

    Cost: a look at one small file.
    """
    if volume.attachment is not None:
        return True
    if not volume.is_local:
        return False
    folder = volume_folder(region, volume.volume_id)
    purpose = serving_facts(folder).get("purpose")
    return purpose is not None and purpose not in _PASSING and folder.is_open()


def is_had_in_passing(region: Region, volume_id: VolumeId) -> bool:
    """Whether whoever has, or had, a volume open lets go of it by itself."""
    facts = serving_facts(volume_folder(region, volume_id))
    return facts.get("purpose", RESIZE) in {*_PASSING, RESIZE}


def volume_status(region: Region, volume: Volume) -> VolumeStatus:
    """The status of a local volume.

    Cost: a message to the process that has it open; else a look at two bits for each block.

    Raises:
        MetadataCorrupt: the volume's folder is damaged.
        StorageUnavailable: the process that has it open does not answer.
    """
    assert volume.is_local, "a source has no status"
    folder = volume_folder(region, volume.volume_id)
    try:
        return _as_told(folder, volume)
    except NotServed:
        pass
    except StorageUnavailable:
        # It may have been about to end when it was asked; then its socket is gone.
        if folder.files.status(folder.control_socket) is not None:
            raise
    return _as_found(folder, volume)


def _as_told(folder: VolumeFolder, volume: Volume) -> VolumeStatus:
    with ControlClient(folder) as client:
        told = client.status()
    volume = replace(volume, size_bytes=told["size_bytes"])
    return VolumeStatus(
        volume,
        present_bytes=told["present_bytes"],
        dirty_bytes=told["dirty_bytes"],
        allocated_bytes=_allocated_bytes(folder, volume.size_bytes),
        stands_alone=told["stands_alone"],
        pid=told["pid"],
        purpose=told["purpose"],
        uris=tuple(told.get("uris", ())),
        hydration=told["hydration"],
        loaded_percent=_loaded_percent(told),
        seconds_left=told["seconds_left"],
        failure=told["failure"],
        mib_per_second=told["mib_per_second"],
    )


def _loaded_percent(told: Answer) -> int:
    if told["stands_alone"]:
        return 100
    if told["hydration"]:
        return int(told["hydration_percent"])
    return int(told["present_bytes"]) * 100 // int(told["size_bytes"])


def _as_found(folder: VolumeFolder, volume: Volume) -> VolumeStatus:
    state = folder.load()
    size = state.size_bytes
    is_of_this_boot = state.boot in (None, current_boot())
    present = state.block_count
    if state.origin is not None:
        # The bits of now are believed within one boot; those that are durable, always.
        is_live = state.boot is not None and is_of_this_boot
        present = _count(folder.files, folder.live_present if is_live else folder.present, state)
    dirty = state.block_count
    if is_of_this_boot:
        dirty = _count(folder.files, folder.dirty, state)
    return VolumeStatus(
        replace(volume, size_bytes=size),
        present_bytes=min(present * state.block_size, size),
        dirty_bytes=min(dirty * state.block_size, size),
        allocated_bytes=_allocated_bytes(folder, size),
        stands_alone=state.origin is None,
        loaded_percent=present * 100 // state.block_count,
    )


def _count(files: Files, path: Path, state: VolumeState) -> int:
    """How many bits are set in a bitmap's file; none where there is no file yet."""
    try:
        descriptor = files.open_to_read(path)
    except FileNotFoundError:
        return 0
    try:
        size = bitmap_bytes(state.block_count)
        bits = files.read(descriptor, 0, size)
    finally:
        files.close(descriptor)
    return BlockBitmap(bytearray(bits.ljust(size, b"\0")), state.block_count).count()


def _allocated_bytes(folder: VolumeFolder, size_bytes: int) -> int:
    statuses = map(folder.files.status, segment_paths(folder.data, size_bytes))
    return sum(status.st_blocks * 512 for status in statuses if status is not None)


def local_volume_bytes(region: Region, volumes: Sequence[Volume]) -> int:
    """What the bytes of local *volumes* take on the disk."""
    return sum(
        _allocated_bytes(volume_folder(region, volume.volume_id), volume.size_bytes)
        for volume in volumes
        if volume.is_local
    )
