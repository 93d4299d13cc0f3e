"""Opening a volume, for as long as a process uses it."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ebsim.catalog.records import find_snapshot, find_volume, get_volume
from ebsim.catalog.snapshot import SnapshotState
from ebsim.catalog.volume import Volume
from ebsim.durable_files import write_atomically
from ebsim.engine.region import Region
from ebsim.engine.volume_size import note_size
from ebsim.engine.volume_stands_alone import volume_stands_alone
from ebsim.errors import Conflict, InvalidRequest, StorageUnavailable, VolumeInUse
from ebsim.ids import Digest, SnapshotId, VolumeId
from ebsim.units import MIB
from ebsim.volumes.control import Answer, ControlClient, ControlServer, NotServed
from ebsim.volumes.hydration import HydrationState, Hydrator
from ebsim.volumes.hydration_order import read_order
from ebsim.volumes.live_volume import LiveVolume
from ebsim.volumes.open_live_volume import open_live_volume
from ebsim.volumes.origin import Origin
from ebsim.volumes.volume_folder import VolumeFolder, current_boot
from ebsim.waiting import wait_until

INITIALIZE = "initialize"
"""The purpose of a process that only loads a volume, and lets others have it."""

SNAPSHOT = "snapshot"
"""The purpose of a process that has a volume for the moment in which it is cut."""

MOUNT = "mount"
"""The purpose of a process that shows a volume as a file: whoever has that open must close it."""

_LET_GO_SECONDS = 30.0
_CUT_SECONDS = 5.0


def local_volume(region: Region, name: str) -> Volume:
    """The volume of the id, or unique prefix, *name*, which has its bytes here.

    Raises:
        VolumeNotFound: there is none.
        InvalidRequest: it is one that snapshots are taken of from elsewhere.
    """
    volume = region.metadata.read(lambda reader: get_volume(reader, region.account_id, name))
    if not volume.is_local:
        raise InvalidRequest(
            f"{volume.volume_id} is a source that lies at {volume.location or 'a pipe'}, not a "
            "volume to attach. Nothing was changed. Make one of its snapshots: "
            "ebsim volume create --snapshot SNAP"
        )
    return volume


def volume_folder(region: Region, volume_id: VolumeId) -> VolumeFolder:
    """Where the volume's bytes are."""
    return VolumeFolder(region.files, region.path / "volumes" / volume_id)


@dataclass(slots=True)
class OpenedVolume:
    """A volume that this process has open.

    Attributes:
        facts: What the process says of itself: ``pid``, ``uris`` and so on.
        asked_to_stop: Set when another process asks for the volume to be let go.
    """

    volume: Volume
    folder: VolumeFolder
    device: LiveVolume
    hydrator: Hydrator | None
    facts: dict[str, Any] = field(default_factory=dict)
    asked_to_stop: threading.Event = field(default_factory=threading.Event)

    def status(self) -> Answer:
        """The figures of the volume as it is now."""
        size = self.device.block_size
        progress = self.hydrator.progress() if self.hydrator is not None else None
        rate = self.hydrator.rate if self.hydrator is not None else None
        return {
            **self.facts,
            "size_bytes": self.device.size_bytes,
            "present_bytes": min(self.device.present_count() * size, self.device.size_bytes),
            "dirty_bytes": min(self.device.dirty_count() * size, self.device.size_bytes),
            "stands_alone": self.device.origin is None,
            "hydration": progress.state.value if progress is not None else "",
            "hydration_percent": progress.percent if progress is not None else 0,
            "loaded_bytes": progress.loaded_bytes if progress is not None else 0,
            "seconds_left": progress.seconds_left if progress is not None else None,
            "failure": progress.failure if progress is not None else "",
            "mib_per_second": rate // MIB if rate is not None else None,
        }

    def let_load(self) -> None:
        """Go on with loading in the background, if there is any."""
        if self.hydrator is not None:
            self.hydrator.resume()

    def has_done_loading(self, timeout_seconds: float) -> bool:
        """Wait so long at the most until nothing is loaded in the background, for now or ever.

        All may be here, the volume be closed, or loading be paused, or wait for the store or
        for room: then ``failure`` in its status says for what.
        """
        return (
            self.hydrator is None
            or self.hydrator.wait(timeout_seconds)
            or self.hydrator.progress().state is not HydrationState.RUNNING
        )

    def publish(self, **facts: object) -> None:
        """Let others read *facts* in the volume's folder, without asking."""
        self.facts.update(facts)
        write_atomically(self.folder.files, self.folder.serving, json.dumps(self.facts).encode())


@contextmanager
def open_volume(
    region: Region,
    volume_id: VolumeId,
    purpose: str,
    *,
    hydrates: bool,
    rate: int | None = None,
    begins_paused: bool = False,
) -> Iterator[OpenedVolume]:
    """Have the volume open while the body runs; *purpose* says for what, to others.

    With *hydrates* it loads in the background, at *rate* bytes a second at the most; by
    default at the volume's own.  With *begins_paused* nothing comes that way before somebody
    lets it go on.

    Raises:
        Conflict: another process has it open.
        MetadataCorrupt: its folder is damaged.
    """
    folder = volume_folder(region, volume_id)
    with ExitStack() as stack:
        lock = _take_lock(folder)
        stack.callback(region.files.close, lock)
        volume = region.metadata.read(lambda reader: find_volume(reader, volume_id))
        if volume is None:
            raise Conflict(f"{volume_id} was removed meanwhile. Nothing was changed.")
        # A session keeps a rebuild of the metadata from starting meanwhile.
        stack.enter_context(region.session())
        device = _open_device(region, folder)
        stack.callback(device.close)
        if device.origin is None and volume.origin is not None:
            volume_stands_alone(region, volume_id)
        if device.size_bytes > volume.size_bytes:
            volume = note_size(region, volume_id, device.size_bytes)
        hydrator = None
        if hydrates and device.origin is not None:
            hydrator = Hydrator(
                device,
                read_order(folder),
                lambda: volume_stands_alone(region, volume_id),
                rate=_own_rate(volume) if rate is None else rate,
            )
        opened = OpenedVolume(volume, folder, device, hydrator)
        control = ControlServer(folder, device, _operations(opened))
        opened.publish(pid=os.getpid(), purpose=purpose)
        stack.callback(folder.discard, folder.serving)
        control.start()
        stack.callback(control.stop)
        if hydrator is not None:
            if begins_paused:
                hydrator.pause()
            hydrator.start()
            stack.callback(hydrator.stop)
        yield opened


def _take_lock(folder: VolumeFolder) -> int:
    """The volume's lock; a snapshot that is being cut has it for some milliseconds."""
    taken: list[int] = []

    def is_settled() -> bool:
        lock = folder.take_lock()
        if lock is not None:
            taken.append(lock)
        return lock is not None or serving_facts(folder).get("purpose", SNAPSHOT) != SNAPSHOT

    if not wait_until(is_settled, _CUT_SECONDS) or not taken:
        raise _in_use(folder)
    return taken[0]


def _open_device(region: Region, folder: VolumeFolder) -> LiveVolume:
    def is_completed(snapshot_id: str) -> bool:
        snapshot = region.metadata.read(
            lambda reader: find_snapshot(reader, SnapshotId(snapshot_id))
        )
        return snapshot is not None and snapshot.state is SnapshotState.COMPLETED

    def origin_of(root: Digest) -> Origin:
        return Origin(root, region.chunks)

    return open_live_volume(folder, current_boot(), is_completed, origin_of)


def _operations(opened: OpenedVolume) -> dict[str, Callable[[Answer], Answer]]:
    """What other processes may ask beside freezing and cutting."""

    def detach(message: Answer) -> Answer:
        del message
        if opened.facts["purpose"] == MOUNT:
            raise Conflict(
                f"{opened.volume.volume_id} is open as a file in a mounted directory, of process "
                f"{opened.facts['pid']}. Nothing was changed. Close it there: unmount what lies "
                "on it, or the directory."
            )
        opened.asked_to_stop.set()
        return {}

    def grow(message: Answer) -> Answer:
        opened.device.grow(int(message["size_bytes"]))
        return {}

    def pause(message: Answer) -> Answer:
        del message
        _loading(opened).pause()
        return {}

    def resume(message: Answer) -> Answer:
        del message
        _loading(opened).resume()
        return {}

    def set_rate(message: Answer) -> Answer:
        rate = message["mib_per_second"]
        _loading(opened).set_rate(_own_rate(opened.volume) if rate is None else int(rate) * MIB)
        return {}

    return {
        "status": lambda message: opened.status() | {"asked": message["op"]},
        "detach": detach,
        "grow": grow,
        "pause": pause,
        "resume": resume,
        "set_rate": set_rate,
    }


def _own_rate(volume: Volume) -> int | None:
    """What the volume is loaded with by whoever does not say otherwise, in bytes a second."""
    rate = volume.initialization_rate
    return None if rate is None else rate * MIB


def _loading(opened: OpenedVolume) -> Hydrator:
    if opened.hydrator is None:
        raise Conflict(
            f"{opened.volume.volume_id} loads nothing: all of it is here, or it is open for "
            "something else. Nothing was changed."
        )
    return opened.hydrator


def let_initializer_go(region: Region, volume_id: VolumeId) -> None:
    """If a process has the volume open only to load it, let that end, and wait until it has.

    Raises:
        Conflict: it does not end.
    """
    folder = volume_folder(region, volume_id)
    if serving_facts(folder).get("purpose") != INITIALIZE:
        return

    def has_gone() -> bool:
        # It may not listen yet when it is asked first, and may end before it has answered.
        with suppress(NotServed, StorageUnavailable), ControlClient(folder) as client:
            client.ask("detach")
        return not folder.is_open()

    if not wait_until(has_gone, _LET_GO_SECONDS):
        raise _in_use(folder)


def serving_facts(folder: VolumeFolder) -> dict[str, Any]:
    """What the process that has the volume open has published; empty if there is none."""
    try:
        text = folder.serving.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    facts: dict[str, Any] = json.loads(text)
    return facts


def _in_use(folder: VolumeFolder) -> VolumeInUse:
    facts = serving_facts(folder)
    who = f"process {facts['pid']} ({facts['purpose']})" if facts else "another process"
    how = (
        "Close it there: unmount what lies on it, or the directory."
        if facts.get("purpose") == MOUNT
        else f"End that first: ebsim volume detach {folder.path.name}"
    )
    return VolumeInUse(f"{folder.path.name} is in use by {who}. Nothing was changed. {how}")
