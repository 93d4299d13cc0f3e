"""Cutting live volumes: freeze all, then cut each, wherever they are open."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Protocol, TypeVar

from ebsim.catalog.records import find_snapshot, newest_completed
from ebsim.catalog.volume import Volume
from ebsim.engine.open_volume import SNAPSHOT, open_volume, volume_folder
from ebsim.engine.region import Region
from ebsim.engine.snapshot_steps import Base, base_of
from ebsim.errors import VolumeInUse
from ebsim.ids import SnapshotId
from ebsim.metadata.transactions import Reader
from ebsim.volumes.control import ControlClient, NotServed
from ebsim.volumes.cut import CutReader
from ebsim.volumes.live_volume import LiveVolume
from ebsim.volumes.volume_folder import NEVER_COMPARED, VolumeFolder, VolumeState
from ebsim.waiting import wait_until

T = TypeVar("T")

_OPENING_SECONDS = 5.0


class CutTarget(Protocol):
    """A live volume, in this process or in another."""

    def prepare_cut(self, snapshot_id: str, dirty_since: str | None) -> bool: ...

    def freeze(self, timeout_seconds: float) -> None: ...

    def make_cut(self, snapshot_id: str, *, dirty_only: bool) -> None:
        """Cut it, and let its writes go on.

        Raises:
            Conflict: it was not frozen any more.
        """

    def thaw(self) -> bool: ...


class _OwnVolume:
    """A volume that this process has open; others may ask it for a snapshot all the same."""

    def __init__(self, device: LiveVolume) -> None:
        self._device = device
        self._holds_freeze = False

    def prepare_cut(self, snapshot_id: str, dirty_since: str | None) -> bool:
        return self._device.prepare_cut(snapshot_id, dirty_since)

    def freeze(self, timeout_seconds: float) -> None:
        self._device.freeze(timeout_seconds)
        self._holds_freeze = True

    def make_cut(self, snapshot_id: str, *, dirty_only: bool) -> None:
        assert self._holds_freeze, "frozen by this snapshot before it is cut"
        self._device.make_cut(snapshot_id, dirty_only=dirty_only)
        self.thaw()

    def thaw(self) -> bool:
        # What another snapshot froze is that one's to thaw.
        held, self._holds_freeze = self._holds_freeze, False
        return held and self._device.thaw()


@dataclass(slots=True)
class LiveCut:
    """One volume to be cut.

    Attributes:
        dirty_since: The snapshot since which its dirty blocks tell the difference to what
            the new one builds on; ``None`` where every block has to be compared.
    """

    volume: Volume
    folder: VolumeFolder
    target: CutTarget
    dirty_since: str | None = None
    snapshot_id: SnapshotId | None = None
    dirty_only: bool = False

    def prepare(self, snapshot_id: SnapshotId) -> None:
        """Make its files ready; what could fail for want of room fails now."""
        self.snapshot_id = snapshot_id
        self.dirty_only = self.target.prepare_cut(snapshot_id, self.dirty_since)

    def make(self) -> None:
        """Cut it and let its writes go on, once all are frozen."""
        assert self.snapshot_id is not None, "prepared before it is cut"
        self.target.make_cut(self.snapshot_id, dirty_only=self.dirty_only)

    def reader(self) -> CutReader:
        """What was cut, to read."""
        assert self.snapshot_id is not None, "cut before it is read"
        return CutReader(self.folder, self.snapshot_id)


def find_target(
    region: Region, volume: Volume, opened: ExitStack, conversations: ExitStack
) -> LiveCut:
    """Whoever has the volume open, or the volume opened here until *opened* is closed.

    *conversations* is closed when the snapshot is done: a volume settles its cut when
    the conversation about it ends.

    Raises:
        Conflict: a process has it open and does not answer.
    """
    folder = volume_folder(region, volume.volume_id)
    found: list[CutTarget] = []

    def is_found() -> bool:
        # A process that has the volume may not listen yet, or no more.
        with suppress(NotServed):
            client = ControlClient(folder)
            conversations.callback(client.close)
            found.append(client)
        if not found:
            with suppress(VolumeInUse):
                cutting = open_volume(region, volume.volume_id, SNAPSHOT, hydrates=False)
                found.append(_OwnVolume(opened.enter_context(cutting).device))
        return bool(found)

    if not wait_until(is_found, _OPENING_SECONDS):
        raise VolumeInUse(
            f"{volume.volume_id} is open in a process that does not answer. "
            "No snapshot was made. See 'ebsim volume status'."
        )
    return LiveCut(volume, folder, found[0])


def base_for(reader: Reader, volume: Volume, state: VolumeState) -> tuple[Base | None, str | None]:
    """What a snapshot of *volume* builds on, and since which snapshot dirty blocks tell all.

    ``None`` for the latter when every block that is here has to be compared.
    """
    newest = newest_completed(reader, volume.volume_id)
    if newest is not None and newest.snapshot_id == state.dirty_since:
        return base_of(newest), state.dirty_since
    source = find_snapshot(reader, volume.snapshot_id) if volume.snapshot_id else None
    since = state.dirty_since if state.dirty_since == volume.snapshot_id else None
    if state.origin is not None:
        # Not the newest snapshot: blocks that are not here are the origin's, and after an
        # unclean end of the machine that may be news to a snapshot taken before.
        source_id = source.snapshot_id if source else None
        counts = volume.origin_block_count, volume.origin_referenced_bytes
        return Base(state.origin, source_id, *counts), since
    if since is not None and source is not None and source.is_readable:
        return base_of(source), since
    if newest is None and state.dirty_since == NEVER_COMPARED:
        return None, NEVER_COMPARED
    return base_of(newest), None


def cut_at_once(cuts: Sequence[LiveCut], freeze_seconds: float) -> float:
    """Freeze all, then cut each, which lets it go on; return for how long writes were held up.

    A volume that goes on before another is cut harms nothing.  That one is frozen still: a
    write to it that waits for what the first took after its cut comes after its own.

    Raises:
        Conflict: one could not be frozen in time, or went on before it was cut.
    """
    if not cuts:
        return 0.0
    with ThreadPoolExecutor(len(cuts), "freeze") as pool:
        begun = monotonic()
        try:
            _all(pool, lambda cut: cut.target.freeze(freeze_seconds), cuts)
            _all(pool, LiveCut.make, cuts)
            return monotonic() - begun
        except BaseException:
            _all(pool, lambda cut: cut.target.thaw(), cuts)
            raise


def settle(region: Region, cut: LiveCut) -> None:
    """Whoever has the volume now forgets the cut, or makes its blocks dirty again."""
    with suppress(NotServed):
        with ControlClient(cut.folder) as client:
            client.settle_cut(str(cut.snapshot_id))
        return
    # Opening it settles the cut, since nobody reads that any more.
    with open_volume(region, cut.volume.volume_id, SNAPSHOT, hydrates=False):
        pass


def _all(
    pool: ThreadPoolExecutor, work: Callable[[LiveCut], T], cuts: Sequence[LiveCut]
) -> list[T]:
    """Do *work* for all at once; wait for all, then raise what the first to fail raised."""
    futures = [pool.submit(work, cut) for cut in cuts]
    wait(futures)
    return [future.result() for future in futures]
