"""A volume that the test's own process serves, and that can be killed."""

from ebsim.catalog.records import find_snapshot
from ebsim.catalog.snapshot import SnapshotState
from ebsim.chunkstore.sessions import Session
from ebsim.engine.open_volume import volume_folder
from ebsim.engine.region import Region
from ebsim.engine.volume_stands_alone import volume_stands_alone
from ebsim.ids import SnapshotId, VolumeId
from ebsim.volumes.control import ControlServer
from ebsim.volumes.hydration import Hydrator
from ebsim.volumes.hydration_order import HydrationOrder
from ebsim.volumes.live_volume import LiveVolume
from ebsim.volumes.open_live_volume import open_live_volume
from ebsim.volumes.origin import Origin
from tests.volumes.volume_stores import PATIENCE, abandon


class KillableVolume:
    """``open_volume``, taken apart so that its end may be left out.

    Attributes:
        boot: Which boot of the machine this is; another one is one that ended uncleanly.
    """

    device: LiveVolume
    _lock: int
    _session: Session
    _control: ControlServer

    def __init__(self, region: Region, volume_id: VolumeId) -> None:
        self._region = region
        self._volume_id = volume_id
        self.folder = volume_folder(region, volume_id)
        self.boot = "boot 1"
        self.open()

    def open(self) -> None:
        region = self._region
        lock = self.folder.take_lock()
        assert lock is not None, "nobody has it"
        self._lock = lock
        self._session = region.open_session()
        self.device = open_live_volume(
            self.folder, self.boot, self._is_completed, lambda root: Origin(root, region.chunks)
        )
        self._control = ControlServer(self.folder, self.device, {})
        self._control.start()

    def close(self) -> None:
        self._control.stop()
        self.device.close()
        self._session.close()
        self.folder.files.close(self._lock)

    def kill(self) -> None:
        """End as a killed process does."""
        self._control.stop()
        abandon(self.device)
        self._session.abandon()
        self.folder.files.close(self._lock)

    def load_all(self) -> None:
        """Load it in the background until it stands alone."""
        hydrator = Hydrator(
            self.device,
            HydrationOrder(),
            lambda: volume_stands_alone(self._region, self._volume_id),
        )
        hydrator.start()
        try:
            assert hydrator.wait(PATIENCE)
        finally:
            hydrator.stop()
        assert hydrator.progress().failure == ""
        assert self.device.origin is None

    def _is_completed(self, snapshot_id: str) -> bool:
        snapshot = self._region.metadata.read(
            lambda reader: find_snapshot(reader, SnapshotId(snapshot_id))
        )
        return snapshot is not None and snapshot.state is SnapshotState.COMPLETED
