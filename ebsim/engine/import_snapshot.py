"""Making snapshots of images behind, as tasks that can be looked at and cancelled.

The snapshot is pending first; then the task is written, and with it the use of the client
token.  A crash between leaves a failed snapshot that nobody was told of as a task.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ebsim.catalog.client_tokens import TokenUse, find_answer, note_answer
from ebsim.catalog.import_task import ImportTask, find_task, put_task, tasks_of
from ebsim.catalog.records import find_snapshot
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.region import Region
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.errors import Conflict, EbsimError
from ebsim.metadata.transactions import Reader, Transaction
from ebsim.progress import Unwatched


@dataclass(frozen=True, slots=True)
class Import:
    """What is to be imported.

    Attributes:
        image_format: What to read the file as: raw, vmdk or vhd.
        url, bucket, key: Where the request said that it is.
    """

    path: Path
    image_format: str
    url: str
    description: str
    tags: Mapping[str, str]
    token_use: TokenUse | None = None
    bucket: str = ""
    key: str = ""


class _Cancelling(Unwatched):
    """Watches an upload, and ends it when its task was cancelled."""

    def __init__(self, is_cancelled: Callable[[], bool]) -> None:
        self._is_cancelled = is_cancelled

    def advance(self, size_bytes: int) -> None:
        del size_bytes
        if self._is_cancelled():
            raise Conflict("the import was cancelled. No snapshot was made.")


def imported_before(region: Region, use: TokenUse | None) -> ImportTask | None:
    """The task that the request began when it came first."""

    def look(reader: Reader) -> ImportTask | None:
        answer = find_answer(reader, use) if use is not None else None
        return find_task(reader, region.account_id, answer["task_id"]) if answer else None

    return region.metadata.read(look)


def import_snapshot(
    region: Region,
    wanted: Import,
    announce: Callable[[ImportTask], None],
    is_cancelled: Callable[[str], bool],
) -> None:
    """Make a snapshot of an image; *announce* is told of the task as soon as it is one.

    Raises:
        SourceUnusable, MissingTool: the file is no image of that format, or nothing reads it.
        ClientTokenReused: the client token came with another request before.
        Conflict: it was cancelled; the snapshot stays listed, as failed.
    """
    task_id = f"import-snap-{region.random.getrandbits(68):017x}"
    begun: list[ImportTask] = []

    def on_begun(snapshots: Sequence[Snapshot]) -> None:
        task = ImportTask(
            task_id=task_id,
            owner_id=region.account_id,
            snapshot_id=snapshots[0].snapshot_id,
            description=wanted.description,
            image_format=wanted.image_format,
            url=wanted.url,
            bucket=wanted.bucket,
            key=wanted.key,
            size_bytes=wanted.path.stat().st_size,
            tags=wanted.tags,
        )
        region.metadata.run(lambda txn: _write_first(txn, region, task, wanted.token_use))
        begun.append(task)
        announce(task)

    options = SnapshotOptions(
        description=wanted.description,
        tags=wanted.tags,
        image_format=wanted.image_format.lower(),
        is_announced=True,
    )
    watching = _Cancelling(lambda: is_cancelled(task_id))
    try:
        create_snapshot(region, str(wanted.path), options, watching, on_begun=on_begun)
    except EbsimError as error:
        for task in begun:
            failed = replace(task, failure=str(error))
            region.metadata.run(lambda txn: put_task(txn, failed))  # noqa: B023 (called at once)
        raise
    done = replace(begun[0], is_done=True)
    region.metadata.run(lambda txn: put_task(txn, done))


def _write_first(txn: Transaction, region: Region, task: ImportTask, use: TokenUse | None) -> None:
    if use is not None:
        if find_answer(txn, use) is not None:
            raise Conflict("the same request is being carried out. Send it again.")
        note_answer(txn, use, {"task_id": task.task_id}, region.clock.now_ns())
    put_task(txn, task)


@dataclass(frozen=True, slots=True)
class ShownTask:
    """A task and its state: ``active``, ``completed`` or ``deleted``, and why that."""

    task: ImportTask
    status: str
    message: str = ""
    progress_percent: int = 0


def shown_tasks(region: Region) -> list[ShownTask]:
    """The account's tasks, by id."""

    def look(reader: Reader) -> list[ShownTask]:
        return [_shown(reader, task) for task in tasks_of(reader, region.account_id)]

    return region.metadata.read(look)


def _shown(reader: Reader, task: ImportTask) -> ShownTask:
    if task.is_done:
        return ShownTask(task, "completed")
    if task.failure:
        return ShownTask(task, "deleted", task.failure)
    # Of a process that was killed the snapshot tells what became of its task.
    snapshot = find_snapshot(reader, task.snapshot_id)
    if snapshot is None or snapshot.state is SnapshotState.ERROR:
        return ShownTask(task, "deleted", snapshot.state_message if snapshot else "")
    if snapshot.state is SnapshotState.COMPLETED:
        return ShownTask(task, "completed")
    return ShownTask(task, "active", progress_percent=snapshot.progress_percent)
