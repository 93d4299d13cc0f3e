"""Copying a volume: another one of the same bytes, independent from then on.

What the first still needs of the store, the second needs too: it holds the same block map.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from ebsim.catalog.client_tokens import TokenUse
from ebsim.catalog.volume import Volume
from ebsim.catalog.volume_settings import VolumeSettings
from ebsim.engine.add_volume import add_volume
from ebsim.engine.made_once import made_once, note_made
from ebsim.engine.open_volume import (
    OpenedVolume,
    let_initializer_go,
    local_volume,
    open_volume,
)
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.tags import check_tags
from ebsim.engine.volume_status import COPY
from ebsim.errors import VolumeInUse
from ebsim.ids import VolumeId, new_volume_id
from ebsim.progress import Progress, Unwatched
from ebsim.volumes.volume_copy import copy_volume_folder
from ebsim.volumes.volume_folder import NEVER_COMPARED, VolumeFolder


def copy_volume(
    region: Region,
    name: str,
    *,
    tags: Mapping[str, str],
    settings: VolumeSettings | None = None,
    token_use: TokenUse | None = None,
    progress: Progress | None = None,
) -> Volume:
    """Make a volume of the same bytes as the volume *name*, which nobody may have open.

    It has the settings of that one unless *settings* are given, and no initialization rate,
    which on the real service no copy has.  With the same client token
    it is made once.

    Cost: next to nothing where the file system shares blocks between files; otherwise the
    bytes that are here are copied.

    Raises:
        VolumeNotFound: there is no such volume.
        VolumeInUse: a process has it open.
        InvalidRequest: it is a source, or a tag is none.
        StorageFull: no room for the copy; none was made.
        ClientTokenReused: the client token came with another request before.
    """
    check_tags(tags)
    source = local_volume(region, name)
    recover(region)
    copying = _Copying(region, source, dict(tags), settings, token_use, progress or Unwatched())
    return made_once(region, token_use, copying.run)


@dataclass(frozen=True, slots=True)
class _Copying:
    """One copy being made."""

    region: Region
    source: Volume
    tags: dict[str, str]
    settings: VolumeSettings | None
    token_use: TokenUse | None
    progress: Progress

    def run(self) -> Volume:
        region, source = self.region, self.source
        with _opened(region, source.volume_id) as opened:
            opened.device.flush()
            state = opened.device.state
            # Bits of a snapshot that is being taken are not in the dirty ones any more.
            since = {source.snapshot_id, NEVER_COMPARED}
            keeps_dirty = state.dirty_since in since and not opened.folder.cuts()
            made = self._planned(opened)

            def fill(folder: VolumeFolder) -> None:
                copy_volume_folder(
                    opened.folder, folder, state, self.progress, keeps_dirty=keeps_dirty
                )

            # The source is open here: nobody can have removed it, nor let go of its block map.
            add_volume(
                region,
                made,
                fill,
                lambda txn: note_made(txn, region, self.token_use, made.volume_id),
            )
        return made

    def _planned(self, opened: OpenedVolume) -> Volume:
        state = opened.device.state
        return replace(
            opened.volume,
            volume_id=new_volume_id(self.region.random),
            size_bytes=state.size_bytes,
            create_time_ns=self.region.clock.now_ns(),
            origin=state.origin.hex() if state.origin is not None else None,
            tags=self.tags,
            attachment=None,
            initialization_rate=None,
            settings=replace(
                self.settings or opened.volume.settings,
                source_volume_id=self.source.volume_id,
                delete_on_termination=False,
                modifications=(),
            ),
        )


@contextmanager
def _opened(region: Region, volume_id: VolumeId) -> Iterator[OpenedVolume]:
    let_initializer_go(region, volume_id)
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
