"""Snapshots of live volumes: of one, or of several at one instant.

All volumes are frozen before any is cut, and each goes on when it is cut itself, so
whatever order an application wrote in across volumes, the set holds a prefix of it.
Freezing costs a few messages; the upload runs while writes go on.

The order of things:

    1  transaction  the snapshots are pending, their bases held
    2  each volume makes the files ready that its cut needs
    3  freeze all, then cut and thaw each; a freeze that ended early fails the set
    4  upload one after the other, manifests
    5  transaction  all are completed
    6  the volumes are told, and forget their cuts

A failure before 5 marks all of them ``error``; the volumes' blocks count as dirty again.
A process that dies before 5 leaves none: recovery takes them out of the catalog.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial

from ebsim.catalog.records import find_snapshot, newest_completed, put_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.volume import Volume
from ebsim.chunkstore.sessions import Session
from ebsim.engine.create_snapshot import OnBegun, clear_up
from ebsim.engine.cut_disk import CutDisk
from ebsim.engine.disk import Disk, SeekableDisk
from ebsim.engine.holds import drop_all_holds
from ebsim.engine.leaf_scan import FingerprintLied
from ebsim.engine.live_cuts import LiveCut, base_for, cut_at_once, find_target, settle
from ebsim.engine.open_volume import local_volume
from ebsim.engine.record_access_events import lock_failed
from ebsim.engine.record_events import snapshot_created, snapshots_created
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_steps import (
    Registered,
    Subject,
    base_of,
    complete_one,
    complete_set,
    completed_snapshot,
    end_session,
    let_go,
    register,
    upload,
    write_first_manifest,
)
from ebsim.engine.source_volume import (
    agreed_block_size,
    find_source_volume,
    is_local_volume,
    refuse_store_as_source,
    register_volume,
    source_path,
)
from ebsim.errors import EbsimError, InvalidRequest, StorageFull
from ebsim.ids import VolumeId
from ebsim.metadata.transactions import Transaction
from ebsim.progress import Progress, Unwatched
from ebsim.sources.open_source import open_source
from ebsim.sources.raw_file import RawFile
from ebsim.sources.source import Source
from ebsim.volumes.volume_folder import VolumeState

FREEZE_SECONDS = 5.0
"""How long writes in progress may take to end before the set is given up."""

Held = Callable[[], AbstractContextManager[None]]
"""Gives a context in which whoever writes to the disks holds still."""


@dataclass(frozen=True, slots=True)
class SnapshotSet:
    """Snapshots of one instant, in the order asked for.

    Attributes:
        pause_seconds: How long volumes' writes were held up, from the first freeze to the
            last thaw.
    """

    snapshots: list[Snapshot]
    pause_seconds: float


@dataclass(slots=True)
class _Image:
    """A disk image that somebody holds still."""

    source: Source
    volume_id: VolumeId | None


@dataclass(slots=True)
class _Part:
    """One snapshot of the set."""

    subject: LiveCut | _Image
    started: Registered
    disk: Disk | None = None
    written: tuple[Snapshot, Volume] | None = None


def create_snapshot_set(
    region: Region,
    names: Sequence[str],
    options: SnapshotOptions | None = None,
    progress: Progress | None = None,
    *,
    held: Held | None = None,
    freeze_seconds: float = FREEZE_SECONDS,
    on_begun: OnBegun | None = None,
) -> SnapshotSet:
    """Snapshot what *names* name at one instant: local volumes, and images if they are *held*.

    *on_begun* is told of them when all are cut, before the first is uploaded.

    *held* is left as soon as nothing that is still to be read can change.

    Cost: the dirty blocks are read; after an unclean end of the machine, or when the
    snapshot that they are relative to is gone, every block that is here.  Of an image,
    what ``create_snapshot`` reads; if its file system cannot clone it, while it is held.

    Raises:
        VolumeNotFound, InvalidRequest: a name; nothing was done.
        SourceUnusable: an image; nothing was done.
        Conflict: a volume could not be frozen in time, another snapshot of it is being
            taken, or it could not preserve a block; all snapshots are marked ``error``.
    """
    options = options or SnapshotOptions()
    options.check()
    volumes = [local_volume(region, n) if is_local_volume(region, n) else n for n in names]
    _refuse_twice(volumes)
    for volume in volumes:
        if isinstance(volume, Volume):
            agreed_block_size(volume, options.block_size)
        elif held is None:
            raise InvalidRequest(
                f"{volume} is written by somebody who cannot be frozen from here, so it cannot "
                "be in a set. No snapshot was made. Give --freeze-command and --thaw-command."
            )
    taking = _TakingSet(region, options, progress or Unwatched(), on_begun)
    return taking.run(volumes, held, freeze_seconds)


def _refuse_twice(volumes: Sequence[Volume | str]) -> None:
    names = [v.volume_id if isinstance(v, Volume) else v for v in volumes]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f"{name} is named twice. No snapshot was made.")


class _TakingSet:
    """One set being taken."""

    def __init__(
        self,
        region: Region,
        options: SnapshotOptions,
        progress: Progress,
        on_begun: OnBegun | None,
    ) -> None:
        self._region = region
        self._options = options
        self._progress = progress
        self._on_begun = on_begun
        self._parts: list[_Part] = []
        # What is needed to the end: readers, images, conversations with other processes.
        self._resources = ExitStack()

    def run(
        self, volumes: Sequence[Volume | str], held: Held | None, freeze_seconds: float
    ) -> SnapshotSet:
        region = self._region
        recover(region)
        region.reserve.fill()
        try:
            with region.session() as session, ExitStack() as holding:
                if held is not None:
                    holding.enter_context(held())
                pause = self._cut(session, volumes, freeze_seconds)
                if self._on_begun is not None:
                    self._on_begun([part.started.snapshot for part in self._parts])
                if all(_holds_still(part) for part in self._parts):
                    holding.close()
                completed = self._upload(session)
                end_session(region, session, lambda: self._let_go(session))
        except BaseException as error:
            with suppress(EbsimError):
                self._mark_failed(error)
            raise
        finally:
            self._settle()
        return SnapshotSet(completed, pause)

    # Steps 1 to 3

    def _cut(
        self, session: Session, volumes: Sequence[Volume | str], freeze_seconds: float
    ) -> float:
        """Register, freeze, cut, thaw; volumes opened for it are closed again.

        What a cut reads is protected by whoever opens the volume next, so another process
        may attach it while it is uploaded.
        """
        region = self._region
        with ExitStack() as opened:
            subjects: list[LiveCut | _Image] = [
                find_target(region, volume, opened, self._resources)
                if isinstance(volume, Volume)
                else self._open_image(volume)
                for volume in volumes
            ]
            states = [s.folder.load() if isinstance(s, LiveCut) else None for s in subjects]
            self._parts = region.metadata.run(
                lambda txn: [
                    self._register(txn, session, subject, place, states[place])
                    for place, subject in enumerate(subjects)
                ]
            )
            cuts = []
            for part in self._parts:
                if isinstance(part.subject, LiveCut):
                    part.subject.prepare(part.started.snapshot.snapshot_id)
                    cuts.append(part.subject)
            pause = cut_at_once(cuts, freeze_seconds)
            for part in self._parts:
                part.disk = self._disk(part.subject)
        return pause

    def _open_image(self, name: str) -> _Image:
        path, volume = source_path(self._region, name)
        options = self._options
        source = open_source(
            path, format=options.image_format, allow_backing_file=options.allow_backing_file
        )
        self._resources.callback(source.close)
        refuse_store_as_source(source.location)
        return _Image(source, volume.volume_id if volume else None)

    def _disk(self, subject: LiveCut | _Image) -> Disk:
        if isinstance(subject, _Image):
            return SeekableDisk(subject.source)
        reader = subject.reader()
        self._resources.callback(reader.close)
        return CutDisk(reader)

    def _register(
        self,
        txn: Transaction,
        session: Session,
        subject: LiveCut | _Image,
        place: int,
        state: VolumeState | None,
    ) -> _Part:
        region, options = self._region, self._options
        if isinstance(subject, LiveCut) and state is not None:
            volume, size_bytes = subject.volume, state.size_bytes
            base, since = base_for(txn, volume, state)
            subject.dirty_since = None if options.rehash else since
        else:
            assert isinstance(subject, _Image), "a volume has a state"
            source = subject.source
            found = find_source_volume(txn, region, source.location, subject.volume_id)
            block_size = agreed_block_size(found, options.block_size)
            volume = register_volume(txn, region, found, source.location, block_size)
            base, size_bytes = base_of(newest_completed(txn, volume.volume_id)), source.size_bytes
        registered = Subject(replace(volume, size_bytes=size_bytes), base, place)
        return _Part(subject, register(txn, region, session, registered, options))

    # Steps 4 to 6

    def _upload(self, session: Session) -> list[Snapshot]:
        region = self._region
        for part in self._parts:
            disk = part.disk
            assert disk is not None, "cut before it is uploaded"
            upload_all = partial(
                upload,
                region,
                session,
                part.started,
                disk,
                options=self._options,
                progress=self._progress,
            )
            message = ""
            try:
                uploaded = upload_all(rehash=self._options.rehash)
            except FingerprintLied as error:
                drop_all_holds(region, part.started.snapshot.snapshot_id)
                message = (
                    f"block {error.block_index} had changed under the fingerprint it had "
                    "before; every block that was read was compared by digest."
                )
                uploaded = upload_all(rehash=True)
            snapshot = completed_snapshot(region, part.started, disk, uploaded, message)
            part.written = (snapshot, write_first_manifest(region, part.started, snapshot))

        def complete_all(txn: Transaction) -> list[Snapshot]:
            written = [part.written for part in self._parts if part.written]
            if len(written) == 1:
                return [complete_one(txn, region, *written[0])]
            return complete_set(txn, region, written)

        return region.metadata.run(complete_all)

    def _let_go(self, session: Session) -> None:
        for part in self._parts:
            snapshot, claimed = part.started.snapshot, part.started.claimed
            let_go(self._region, session, snapshot, claimed, part.written)

    def _settle(self) -> None:
        """Step 6, and everything that was needed until then."""
        self._resources.close()
        for part in self._parts:
            if isinstance(part.subject, LiveCut):
                # A volume that cannot be told now finds out when it is opened next.
                with suppress(EbsimError):
                    settle(self._region, part.subject)

    def _mark_failed(self, error: BaseException) -> None:
        """Mark every pending snapshot of the set ``error``, then clear up after this session."""
        ids = [part.started.snapshot.snapshot_id for part in self._parts]

        message = str(error) or type(error).__name__

        def mark(txn: Transaction) -> None:
            failed = []
            for snapshot_id in ids:
                snapshot = find_snapshot(txn, snapshot_id)
                if snapshot is not None and snapshot.state is SnapshotState.PENDING:
                    failed.append(
                        replace(snapshot, state=SnapshotState.ERROR, state_message=message)
                    )
                    put_snapshot(txn, failed[-1])
                    lock_failed(txn, self._region, failed[-1])
            if len(failed) == 1:
                snapshot_created(txn, self._region, failed[0], message)
            elif failed:
                cause = f"Snapshot {failed[0].snapshot_id} is in status error"
                snapshots_created(txn, self._region, failed, cause)

        self._region.reserve.use_if_full(lambda: self._region.metadata.run(mark))
        clear_up(self._region, None, is_full=isinstance(error, StorageFull))


def _holds_still(part: _Part) -> bool:
    """Whether what is still to be read of it cannot change any more."""
    if isinstance(part.subject, LiveCut):
        return True
    source = part.subject.source
    return isinstance(source, RawFile) and source.is_point_in_time
