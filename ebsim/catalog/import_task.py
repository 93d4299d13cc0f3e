"""Tasks that make a snapshot of an image, as ImportSnapshot has them.

IMPORT_TASKS   account id, task id   the task, JSON
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from ebsim.ids import AccountId, SnapshotId
from ebsim.metadata.transactions import Reader, Table, Transaction


@dataclass(frozen=True, slots=True)
class ImportTask:
    """A task; how far it is, its snapshot says.

    Attributes:
        image_format: As the request named it.
        url: As the request named it; ``""`` where that was by *bucket* and *key*.
        failure: Why it ended without a snapshot; ``""`` while it goes on, and when it went well.
        is_done: It went well, whatever became of the snapshot later.
    """

    task_id: str
    owner_id: AccountId
    snapshot_id: SnapshotId
    description: str
    image_format: str
    url: str
    size_bytes: int
    tags: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""
    is_done: bool = False
    bucket: str = ""
    key: str = ""


def _key(owner_id: AccountId, task_id: str) -> bytes:
    return f"{owner_id}{task_id}".encode()


def put_task(txn: Transaction, task: ImportTask) -> None:
    """Write *task*, new or changed."""
    row = json.dumps(asdict(task)).encode()
    txn.put_many(Table.IMPORT_TASKS, [(_key(task.owner_id, task.task_id), row)])


def find_task(reader: Reader, owner_id: AccountId, task_id: str) -> ImportTask | None:
    (row,) = reader.get_many(Table.IMPORT_TASKS, [_key(owner_id, task_id)])
    return None if row is None else ImportTask(**json.loads(row))


def tasks_of(reader: Reader, owner_id: AccountId) -> list[ImportTask]:
    """The account's tasks, by id."""
    start = owner_id.encode()
    rows = reader.scan(Table.IMPORT_TASKS, start, start + b"\xff", limit=1 << 16)
    return [ImportTask(**json.loads(row)) for _, row in rows]
