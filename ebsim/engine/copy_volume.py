"""Copying a volume: another one of the same bytes, independent from then on.

What the first still needs of the store, the second needs too: it holds the same block map.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from ebsim.catalog.volume import Volume
from ebsim.engine.add_volume import add_volume
from ebsim.engine.open_volume import OpenedVolume, local_volume, open_volume
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.tags import check_tags
from ebsim.engine.volume_status import COPY
from ebsim.errors import VolumeInUse
from ebsim.ids import VolumeId, new_volume_id
from ebsim.metadata.transactions import Transaction
from ebsim.progress import Progress, Unwatched
from ebsim.volumes.volume_copy import copy_volume_folder
from ebsim.volumes.volume_folder import NEVER_COMPARED, VolumeFolder


def copy_volume(
    region: Region,
    name: str,
    *,
    tags: Mapping[str, str],
    progress: Progress | None = None,
) -> Volume:
    """Make a volume of the same bytes as the volume *name*, which nobody may have open.

    Cost: next to nothing where the file system shares blocks between files; otherwise the
    bytes that are here are copied.

    Raises:
        VolumeNotFound: there is no such volume.
        VolumeInUse: a process has it open.
        InvalidRequest: it is a source, or a tag is none.
        StorageFull: no room for the copy; none was made.
    """
    check_tags(tags)
    source = local_volume(region, name)
    recover(region)
    with _opened(region, source.volume_id) as opened:
        opened.device.flush()
        state = opened.device.state
        # Bits of a snapshot that is being taken are not in the dirty ones any more.
        since = {source.snapshot_id, NEVER_COMPARED}
        keeps_dirty = state.dirty_since in since and not opened.folder.cuts()
        made = replace(
            opened.volume,
            volume_id=new_volume_id(region.random),
            size_bytes=state.size_bytes,
            create_time_ns=region.clock.now_ns(),
            origin=state.origin.hex() if state.origin is not None else None,
            tags=dict(tags),
            attachment=None,
        )

        def fill(folder: VolumeFolder) -> None:
            watched = progress or Unwatched()
            copy_volume_folder(opened.folder, folder, state, watched, keeps_dirty=keeps_dirty)

        add_volume(region, made, fill, _nothing_forbids)
    return made


@contextmanager
def _opened(region: Region, volume_id: VolumeId) -> Iterator[OpenedVolume]:
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(open_volume(region, volume_id, COPY, hydrates=False))
        except VolumeInUse as error:
            raise VolumeInUse(
                f"{volume_id} is open, and what is written may not be copied. No volume was "
                f"made. Snapshot it, 'ebsim snapshot create {volume_id}', and make a volume of "
                "that."
            ) from error
        yield opened


def _nothing_forbids(txn: Transaction) -> None:
    """The source is open here: nobody can have removed it, nor let go of its block map."""
    del txn
