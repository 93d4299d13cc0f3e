"""Importing snapshots from disk images that lie in the folder that the server was given."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.ec2.matching import matching
from ebsim.api.ec2.pages import page_of
from ebsim.api.ec2.shapes import filters_in, specified_tags, tag_list
from ebsim.api.ec2.volumes import refuse_unsupported_kinds, token_use
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.api.work import Announce
from ebsim.catalog.import_task import ImportTask
from ebsim.engine.import_snapshot import (
    Import,
    ShownTask,
    import_snapshot,
    imported_before,
    shown_tasks,
)

_FORMATS = frozenset({"RAW", "VHD", "VMDK"})


def begin(call: Call, params: Params) -> Answer:
    """Begin to make a snapshot of an image."""
    refuse_unsupported_kinds(params)
    container: Params = params.get("DiskContainer", {})
    named = container.get("Format", "").upper()
    if named not in _FORMATS:
        raise ApiError(
            "InvalidParameter", f"The format '{named}' is invalid. Expected: RAW, VHD or VMDK."
        )
    use = token_use(call, params)
    region = call.region
    before = imported_before(region, use)
    if before is not None:
        return _row(ShownTask(before, "active"))
    url: str = container.get("Url", "")
    wanted = Import(
        path=_file(call, url),
        image_format=named,
        url=url,
        description=params.get("Description") or container.get("Description", ""),
        tags=specified_tags(params, "import-snapshot-task"),
        token_use=use,
    )

    def do(announce: Announce[ImportTask]) -> None:
        import_snapshot(region, wanted, announce, call.work.is_cancelled)

    task = call.work.begin([f"import {wanted.path}"], do)
    return _row(ShownTask(task, "active"))


def _file(call: Call, url: str) -> Path:
    """The file that *url* names, in the folder whose files may be imported.

    Raises:
        ApiError: there is no such folder, or the file is not in it.
    """
    folder = call.import_folder
    if folder is None:
        raise ApiError(
            "UnsupportedOperation",
            "This server imports nothing: it was started without --import-dir.",
        )
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    is_text = "\0" not in str(path)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or not is_text:
        raise ApiError(
            "InvalidParameter", f"The URL '{url}' is invalid. Expected: file:///path of an image."
        )
    # Behind links as well, and before it is known whether it exists: nobody learns that.
    real = path.resolve()
    if not real.is_relative_to(folder.resolve()) or not real.is_file():
        raise ApiError(
            "InvalidParameter", f"The URL '{url}' names no file that this server may import."
        )
    return real


def _row(shown: ShownTask) -> Answer:
    task = shown.task
    is_active, is_done = shown.status == "active", shown.status == "completed"
    return {
        "ImportTaskId": task.task_id,
        "Description": task.description,
        "SnapshotTaskDetail": {
            "Description": task.description,
            "DiskImageSize": float(task.size_bytes),
            "Encrypted": False,
            "Format": task.image_format,
            "Progress": "0" if is_active else None,
            "SnapshotId": task.snapshot_id if is_done else None,
            "Status": shown.status,
            "StatusMessage": shown.message or ("pending" if is_active else None),
            "Url": task.url,
        },
        "Tags": tag_list(task.tags),
    }


_FIELDS: Mapping[str, Callable[[Answer], Sequence[str]]] = {
    "task-state": lambda row: [row["SnapshotTaskDetail"]["Status"]],
}


def describe(call: Call, params: Params) -> Answer:
    """The account's import tasks."""
    rows = [_row(one) for one in shown_tasks(call.region)]
    names = params.get("ImportTaskIds")
    for name in names or ():
        _refuse_missing(name, rows)
    chosen = [row for row in rows if not names or row["ImportTaskId"] in names]
    chosen = matching(chosen, filters_in(params), _FIELDS)
    page, token = page_of(chosen, params, lambda row: str(row["ImportTaskId"]), minimum=1)
    return {"ImportSnapshotTasks": page, "NextToken": token}


def _refuse_missing(name: str, rows: Sequence[Answer]) -> None:
    if name not in {row["ImportTaskId"] for row in rows}:
        raise ApiError(
            "InvalidConversionTaskId.Malformed", f"The import task ID '{name}' is invalid"
        )


def cancel(call: Call, params: Params) -> Answer:
    """End a task that is going on; its snapshot stays listed, as failed."""
    name = params.get("ImportTaskId", "")
    rows = [_row(one) for one in shown_tasks(call.region)]
    _refuse_missing(name, rows)
    (status,) = [r["SnapshotTaskDetail"]["Status"] for r in rows if r["ImportTaskId"] == name]
    if status != "active":
        raise ApiError(
            "IncorrectState", f"The import task '{name}' is {status} and cannot be cancelled."
        )
    call.work.cancel(name)
    return {"ImportTaskId": name, "PreviousState": "active", "State": "deleting"}


ACTIONS = (
    action(
        "ImportSnapshot",
        begin,
        "ClientToken",
        "Description",
        "DiskContainer.Description",
        "DiskContainer.Format",
        "DiskContainer.Url",
        "Encrypted",
        "TagSpecifications",
    ),
    action(
        "DescribeImportSnapshotTasks",
        describe,
        "ImportTaskIds",
        "Filters",
        "MaxResults",
        "NextToken",
    ),
    action("CancelImportTask", cancel, "ImportTaskId"),
)
