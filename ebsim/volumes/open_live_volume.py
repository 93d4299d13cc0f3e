"""Opening a volume's folder as a device."""

from collections.abc import Callable

from ebsim.ids import Digest
from ebsim.volumes.access_log import AccessLog
from ebsim.volumes.live_volume import LiveVolume
from ebsim.volumes.origin import Origin
from ebsim.volumes.overlay import IsCompleted, Overlay
from ebsim.volumes.volume_folder import VolumeFolder


def open_live_volume(
    folder: VolumeFolder,
    boot: str,
    is_completed: IsCompleted,
    origin_of: Callable[[Digest], Origin],
) -> LiveVolume:
    """The volume in *folder*, whose lock the caller holds; nothing stays open if it fails.

    Args:
        boot: Which boot of the machine this is.
        is_completed: Asked about snapshots that were being taken when it was last closed.
        origin_of: Gives the blocks below a root, if the volume needs them still.

    Raises:
        MetadataCorrupt: the state or a file is missing or damaged.
        StorageUnavailable: a file could not be opened.
    """
    overlay = Overlay(folder, boot, is_completed)
    try:
        root = overlay.state.origin
        origin = origin_of(root) if root is not None else None
        access = AccessLog(folder)
    except BaseException:
        # As after a kill: what the bits say is believed within this boot.
        overlay.abandon()
        raise
    return LiveVolume(overlay, origin, access)
