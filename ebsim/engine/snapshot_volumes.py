"""Snapshots of live volumes: of one, or of several at one instant.

All volumes are frozen before any is cut, and every one is cut before the first goes on,
so whatever order an application wrote in across volumes, the set holds a prefix of it.
Freezing costs a few messages; the upload runs while writes go on.

The order of things:

    1  transaction  the snapshots are pending, their bases held
    2  each volume makes the files ready that its cut needs
    3  freeze all, cut all, thaw all; a freeze that ended early fails the set
    4  upload one after the other, manifests
    5  transaction  all are completed
    6  the volumes are told, and forget their cuts

A failure before 5 marks all of them ``error``; the volumes' blocks count as dirty again.
A process that dies before 5 leaves none: recovery takes them out of the catalog.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic, sleep
from typing import Protocol, TypeVar

from ebsim.catalog.records import find_snapshot, newest_completed, put_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.volume import Volume
from ebsim.chunkstore.sessions import Session
from ebsim.engine.create_snapshot import clear_up
from ebsim.engine.cut_disk import CutDisk
from ebsim.engine.holds import drop_all_holds
from ebsim.engine.leaf_scan import FingerprintLied
from ebsim.engine.open_volume import local_volume, open_volume, volume_folder
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_steps import (
    Base,
    Registered,
    Subject,
    base_of,
    complete,
    completed_snapshot,
    end_session,
    let_go,
    register,
    upload,
    write_first_manifest,
)
from ebsim.errors import Conflict, EbsimError, InvalidRequest, StorageFull
from ebsim.metadata.transactions import Reader, Transaction
from ebsim.progress import Progress, Unwatched
from ebsim.volumes.control import ControlClient, NotServed
from ebsim.volumes.cut import CutReader
from ebsim.volumes.volume_folder import NEVER_COMPARED, VolumeFolder, VolumeState

T = TypeVar("T")

FREEZE_SECONDS = 5.0
"""How long writes in progress may take to end before the set is given up."""

_OPENING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SnapshotSet:
    """Snapshots of one instant, in the order asked for.

    Attributes:
        pause_seconds: How long writes were held up, from the first freeze to the last thaw.
    """

    snapshots: list[Snapshot]
    pause_seconds: float


class CutTarget(Protocol):
    """A live volume, in this process or in another."""

    def prepare_cut(self, snapshot_id: str, dirty_since: str | None) -> bool: ...

    def freeze(self, timeout_seconds: float) -> None: ...

    def make_cut(self, snapshot_id: str, *, dirty_only: bool) -> None: ...

    def thaw(self) -> bool: ...

    def settle_cut(self, snapshot_id: str) -> None: ...


Held = Callable[[], AbstractContextManager[None]]
"""Gives a context in which whoever writes to the volumes holds still."""


@dataclass(slots=True)
class _Member:
    """A volume of the set."""

    folder: VolumeFolder
    target: CutTarget
    started: Registered
    dirty_since: str | None
    dirty_only: bool = False
    reader: CutReader | None = None
    written: tuple[Snapshot, Volume] | None = None


def create_snapshot_set(
    region: Region,
    names: Sequence[str],
    options: SnapshotOptions | None = None,
    progress: Progress | None = None,
    *,
    freeze_seconds: float = FREEZE_SECONDS,
    held: Held = nullcontext,
) -> SnapshotSet:
    """Snapshot the local volumes *names* at one instant.

    *held* gives a context that is entered before the volumes are frozen and left when they
    have been cut: it freezes what writes to them.

    Cost: the dirty blocks are read; after an unclean end of the machine, or when the
    snapshot that they are relative to is gone, every block that is here.

    Raises:
        VolumeNotFound, InvalidRequest: a name; nothing was done.
        Conflict: a volume could not be frozen in time, another snapshot of it is being
            taken, or it could not preserve a block; all snapshots are marked ``error``.
    """
    options = options or SnapshotOptions()
    options.check()
    volumes = [local_volume(region, name) for name in names]
    _refuse_twice(volumes)
    _refuse_other_block_size(volumes, options)
    taking = _TakingSet(region, volumes, options, progress or Unwatched(), freeze_seconds)
    return taking.run(held)


def _refuse_twice(volumes: Sequence[Volume]) -> None:
    ids = [volume.volume_id for volume in volumes]
    for volume_id in ids:
        if ids.count(volume_id) > 1:
            raise InvalidRequest(f"{volume_id} is named twice. No snapshot was made.")


def _refuse_other_block_size(volumes: Sequence[Volume], options: SnapshotOptions) -> None:
    for volume in volumes:
        if options.block_size not in (None, volume.block_size):
            raise InvalidRequest(
                f"{volume.volume_id} has blocks of {volume.block_size} bytes, not "
                f"{options.block_size}. No snapshot was made. Leave --block-size out."
            )


class _TakingSet:
    """One set being taken."""

    def __init__(
        self,
        region: Region,
        volumes: Sequence[Volume],
        options: SnapshotOptions,
        progress: Progress,
        freeze_seconds: float,
    ) -> None:
        self._region = region
        self._volumes = volumes
        self._options = options
        self._progress = progress
        self._freeze_seconds = freeze_seconds
        self._members: list[_Member] = []
        self._pause_seconds = 0.0
        self._conversations = ExitStack()

    def run(self, held: Held) -> SnapshotSet:
        region = self._region
        recover(region)
        region.reserve.fill()
        try:
            with region.session() as session:
                self._cut(session, held)
                completed = self._upload(session)
                end_session(region, session, lambda: self._let_go(session))
        except BaseException as error:
            with suppress(EbsimError):
                self._mark_failed(error)
            raise
        finally:
            for member in self._members:
                with suppress(EbsimError):
                    self._settle(member)
            self._conversations.close()
        return SnapshotSet(completed, self._pause_seconds)

    # Steps 1 to 3

    def _cut(self, session: Session, held: Held) -> None:
        """Register, freeze, cut, thaw; the volumes opened for it are closed again.

        What a cut reads is protected by whoever opens the volume next, so another process
        may attach it while it is uploaded.
        """
        with ExitStack() as opened:
            targets = [self._target(volume, opened) for volume in self._volumes]
            states = [volume_folder(self._region, v.volume_id).load() for v in self._volumes]
            self._members = self._region.metadata.run(
                lambda txn: self._register(txn, session, targets, states)
            )
            for member in self._members:
                snapshot_id = member.started.snapshot.snapshot_id
                member.dirty_only = member.target.prepare_cut(snapshot_id, member.dirty_since)
            with held():
                self._cut_at_once()
            for member in self._members:
                member.reader = CutReader(member.folder, member.started.snapshot.snapshot_id)

    def _target(self, volume: Volume, opened: ExitStack) -> CutTarget:
        """Whoever has the volume open, or the volume opened here."""
        region, volume_id = self._region, volume.volume_id
        folder = volume_folder(region, volume_id)
        deadline = monotonic() + _OPENING_SECONDS
        while True:
            # A process that has the volume may not listen yet, or no more.
            with suppress(NotServed):
                client = ControlClient(folder)
                # To the end: when the conversation ends the volume settles its cut.
                self._conversations.callback(client.close)
                return client
            try:
                cutting = open_volume(region, volume_id, "snapshot", hydrates=False)
                return opened.enter_context(cutting).device
            except Conflict:
                if monotonic() > deadline:
                    raise
            sleep(0.02)

    def _register(
        self,
        txn: Transaction,
        session: Session,
        targets: Sequence[CutTarget],
        states: Sequence[VolumeState],
    ) -> list[_Member]:
        region, members = self._region, []
        for place, (volume, target, state) in enumerate(
            zip(self._volumes, targets, states, strict=True)
        ):
            base, dirty_since = _base_for(txn, volume, state)
            current = replace(volume, size_bytes=state.size_bytes)
            started = register(txn, region, session, Subject(current, base, place), self._options)
            folder = volume_folder(region, volume.volume_id)
            if self._options.rehash:
                dirty_since = None
            members.append(_Member(folder, target, started, dirty_since))
        return members

    def _cut_at_once(self) -> None:
        """Freeze all, cut all, thaw all, whatever happens."""
        members = self._members
        with ThreadPoolExecutor(len(members), "freeze") as pool:
            begun = monotonic()
            try:
                _all(pool, lambda m: m.target.freeze(self._freeze_seconds), members)
                _all(pool, _make_cut, members)
            finally:
                were_frozen = _all(pool, lambda m: m.target.thaw(), members)
                self._pause_seconds = monotonic() - begun
        if not all(were_frozen):
            raise Conflict(
                "a volume was frozen for too long and went on before all were cut. "
                "No snapshot was made. Try again."
            )

    # Steps 4 to 6

    def _upload(self, session: Session) -> list[Snapshot]:
        region = self._region
        for member in self._members:
            assert member.reader is not None, "cut before it is uploaded"
            disk = CutDisk(member.reader)
            upload_all = partial(
                upload, region, session, member.started, disk, self._options, self._progress
            )
            message = ""
            try:
                uploaded = upload_all(rehash=self._options.rehash)
            except FingerprintLied as error:
                drop_all_holds(region, member.started.snapshot.snapshot_id)
                message = f"block {error.block_index} had changed under its fingerprint."
                uploaded = upload_all(rehash=True)
            snapshot = completed_snapshot(region, member.started, disk, uploaded, message)
            member.written = (snapshot, write_first_manifest(region, member.started, snapshot))

        def complete_all(txn: Transaction) -> list[Snapshot]:
            return [complete(txn, *member.written) for member in self._members if member.written]

        return region.metadata.run(complete_all)

    def _let_go(self, session: Session) -> None:
        for member in self._members:
            snapshot, claimed = member.started.snapshot, member.started.claimed
            let_go(self._region, session, snapshot, claimed, member.written)

    def _settle(self, member: _Member) -> None:
        """Step 6: whoever has the volume now forgets the cut, or makes its blocks dirty again."""
        if member.reader is not None:
            member.reader.close()
        snapshot_id = member.started.snapshot.snapshot_id
        with suppress(NotServed):
            with ControlClient(member.folder) as client:
                client.settle_cut(snapshot_id)
            return
        # Opening it settles the cut, since nobody reads that any more.
        volume_id = member.started.volume.volume_id
        with open_volume(self._region, volume_id, "snapshot", hydrates=False):
            pass

    def _mark_failed(self, error: BaseException) -> None:
        """Mark every pending snapshot of the set ``error``, then clear up after this session."""
        ids = [member.started.snapshot.snapshot_id for member in self._members]

        def mark(txn: Transaction) -> None:
            for snapshot_id in ids:
                snapshot = find_snapshot(txn, snapshot_id)
                if snapshot is not None and snapshot.state is SnapshotState.PENDING:
                    message = str(error) or type(error).__name__
                    failed = replace(snapshot, state=SnapshotState.ERROR, state_message=message)
                    put_snapshot(txn, failed)

        self._region.reserve.use_if_full(lambda: self._region.metadata.run(mark))
        clear_up(self._region, None, is_full=isinstance(error, StorageFull))


def _base_for(
    reader: Reader, volume: Volume, state: VolumeState
) -> tuple[Base | None, str | None]:
    """What a snapshot of *volume* builds on, and since which snapshot dirty blocks tell all.

    ``None`` for the latter when every block that is here has to be compared.
    """
    newest = newest_completed(reader, volume.volume_id)
    if newest is not None and newest.snapshot_id == state.dirty_since:
        return base_of(newest), state.dirty_since
    source = find_snapshot(reader, volume.snapshot_id) if volume.snapshot_id else None
    since = state.dirty_since if state.dirty_since == volume.snapshot_id else None
    if state.origin is not None:
        source_id = source.snapshot_id if source else None
        counts = volume.origin_block_count, volume.origin_referenced_bytes
        return Base(state.origin, source_id, *counts), since
    if since is not None and source is not None and source.state is SnapshotState.COMPLETED:
        return base_of(source), since
    if newest is None and state.dirty_since == NEVER_COMPARED:
        return None, NEVER_COMPARED
    return base_of(newest), None


def _make_cut(member: _Member) -> None:
    snapshot_id = member.started.snapshot.snapshot_id
    member.target.make_cut(snapshot_id, dirty_only=member.dirty_only)


def _all(
    pool: ThreadPoolExecutor, work: Callable[[_Member], T], members: Sequence[_Member]
) -> list[T]:
    """Do *work* for all at once; wait for all, then raise what the first to fail raised."""
    futures = [pool.submit(work, member) for member in members]
    wait(futures)
    return [future.result() for future in futures]
