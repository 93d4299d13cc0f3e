"""Having a volume's folder to oneself, while nobody uses the volume."""

from collections.abc import Iterator
from contextlib import contextmanager

from ebsim.engine.open_volume import serving_facts
from ebsim.errors import VolumeInUse, VolumeNotFound
from ebsim.volumes.cut import held_unread
from ebsim.volumes.volume_folder import VolumeFolder


@contextmanager
def idle_volume(folder: VolumeFolder) -> Iterator[None]:
    """Let nobody open the volume while the body runs.

    Raises:
        VolumeNotFound: it was removed meanwhile.
        VolumeInUse: a process has it open, or takes a snapshot of it.
    """
    volume_id = folder.path.name
    try:
        lock = folder.take_lock()
    except FileNotFoundError as error:
        raise VolumeNotFound(volume_id) from error
    if lock is None:
        facts = serving_facts(folder)
        who = f"process {facts['pid']} ({facts['purpose']})" if facts else "another process"
        raise VolumeInUse(
            f"{volume_id} is in use by {who}. Nothing was changed. "
            f"End that first: ebsim volume detach {volume_id}"
        )
    try:
        _refuse_while_read(folder)
        yield
    finally:
        folder.files.close(lock)


def _refuse_while_read(folder: VolumeFolder) -> None:
    """Refuse a volume whose blocks, as they were at a cut, are being read."""
    for snapshot_id in folder.cuts():
        with held_unread(folder, snapshot_id) as is_unread:
            if not is_unread:
                raise VolumeInUse(
                    f"{snapshot_id} is being taken of {folder.path.name}. Nothing was changed. "
                    "Try again when it is done."
                )
