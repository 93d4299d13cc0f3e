"""Importing snapshots from disk images that lie in the folder that the server was given."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
_S3_HOST = re.compile(
    r"((?P<bucket>[a-z0-9][a-z0-9.-]*)\.)??s3([.-][a-z0-9-]+)?\.amazonaws\.com", re.ASCII
)
"""S3's hosts: the bucket in the name, or the first of the path."""


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
    place = _place(container)
    wanted = Import(
        path=_file(call, place),
        image_format=named,
        url=place.url,
        bucket=place.bucket,
        key=place.key,
        description=params.get("Description") or container.get("Description", ""),
        tags=specified_tags(params, "import-snapshot-task"),
        token_use=use,
    )

    def do(announce: Announce[ImportTask]) -> None:
        import_snapshot(region, wanted, announce, call.work.is_cancelled)

    with call.room_for(1):
        task = call.work.begin([f"import {wanted.path}"], do)
    return _row(ShownTask(task, "active"))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an image is said to be, and that below the folder whose files may be imported.

    Attributes:
        url: As the request has it; ``""`` where that names a bucket.
        path: Absolute, or below the folder.
    """

    url: str
    path: Path
    bucket: str = ""
    key: str = ""


def _place(container: Params) -> _Place:
    """Where the image is that the request names, by a URL or by a bucket and a key.

    Raises:
        ApiError: it names neither, both, or what is no place.
    """
    user_bucket: Params = container.get("UserBucket", {})
    url, bucket, key = (
        container.get("Url", ""),
        user_bucket.get("S3Bucket", ""),
        user_bucket.get("S3Key", ""),
    )
    if bool(url) == bool(user_bucket):
        raise ApiError(
            "InvalidParameterCombination",
            "The request must contain either the parameter Url or UserBucket of diskContainer",
        )
    if not url:
        if not (bucket and key):
            raise ApiError(
                "MissingParameter",
                "The request must contain the parameters S3Bucket and S3Key of UserBucket",
            )
        return _Place("", _object(bucket, key), bucket, key)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _invalid_url(url) from None
    path = unquote(parts.path)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and path.startswith("/"):
        return _Place(url, Path(path))
    if parts.scheme == "s3":
        return _Place(url, _object(parts.netloc, path.removeprefix("/")))
    host = _S3_HOST.fullmatch(parts.netloc) if parts.scheme == "https" else None
    if host is None:
        raise _invalid_url(url)
    inside = path.removeprefix("/")
    return _Place(url, _object(host["bucket"], inside) if host["bucket"] else Path(inside))


def _object(bucket: str, key: str) -> Path:
    """Buckets are folders of the folder whose files may be imported."""
    return Path(bucket) / key.lstrip("/")


def _invalid_url(url: str) -> ApiError:
    return ApiError(
        "InvalidParameter",
        f"The URL '{url}' is invalid. Expected: s3://bucket/key, "
        "https://bucket.s3.region.amazonaws.com/key, or file:///path of an image.",
    )


def _file(call: Call, place: _Place) -> Path:
    """The file at *place*, in the folder whose files may be imported.

    Raises:
        ApiError: there is no such folder, or the file is not in it.
    """
    folder = call.import_folder
    if folder is None:
        raise ApiError(
            "UnsupportedOperation",
            "This server imports nothing: it was started without --import-dir.",
        )
    named = place.url or f"s3://{place.bucket}/{place.key}"
    # Behind links as well, and before it is known whether it exists: nobody learns that.
    # What no file can be called is not there: a NUL, too long a name, a circle of links.
    with suppress(ValueError, OSError, RuntimeError):
        real = (folder / place.path).resolve()
        if real.is_relative_to(folder.resolve()) and real.is_file():
            return real
    raise ApiError(
        "InvalidParameter", f"The URL '{named}' names no file that this server may import."
    )


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
            "Progress": str(shown.progress_percent) if is_active else None,
            "SnapshotId": task.snapshot_id if is_done else None,
            "Status": shown.status,
            "StatusMessage": shown.message or ("pending" if is_active else None),
            "Url": task.url or None,
            "UserBucket": {"S3Bucket": task.bucket, "S3Key": task.key} if task.bucket else None,
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
        "DiskContainer.UserBucket",
        "Encrypted",
        "RoleName",
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
