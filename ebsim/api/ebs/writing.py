"""Starting a snapshot, putting its blocks, and completing it.

Source: https://docs.aws.amazon.com/ebs/latest/APIReference/Welcome.html
"""

import base64
import binascii
import hashlib

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.catalog.direct_snapshot import CompletionRequest
from ebsim.clock import to_datetime
from ebsim.engine.direct.complete_direct_snapshot import complete_direct_snapshot
from ebsim.engine.direct.put_block import check_puttable, put_block
from ebsim.engine.direct.start_direct_snapshot import (
    DIRECT_BLOCK_SIZE,
    TIMEOUT_MINUTES_DEFAULT,
    DirectOptions,
    start_direct_snapshot,
    started_before,
)
from ebsim.engine.tags import check_tags
from ebsim.errors import InvalidRequest
from ebsim.ids import SnapshotId

_TAGS_MAX = 50
_SHA256_SIZE = 32


def start_snapshot(call: Call, params: Params) -> Answer:
    """Begin a snapshot that blocks are then put to."""
    _refuse_encryption(params)
    parent = params.get("ParentSnapshotId")
    options = DirectOptions(
        volume_size_gib=params["VolumeSize"],
        parent_id=SnapshotId(parent) if parent is not None else None,
        description=params.get("Description", ""),
        tags=_tags(params.get("Tags", [])),
        timeout_minutes=params.get("Timeout", TIMEOUT_MINUTES_DEFAULT),
        client_token=params.get("ClientToken"),
    )
    started = started_before(call.region, options)
    if started is None:
        with call.room_to_start():
            started = start_direct_snapshot(call.region, options)
    return {
        "Description": started.description or None,
        "SnapshotId": started.snapshot_id,
        "OwnerId": started.owner_id,
        "Status": started.state.value,
        "StartTime": to_datetime(started.start_time_ns),
        "VolumeSize": started.volume_size_gib,
        "BlockSize": started.block_size,
        "Tags": [{"Key": k, "Value": v} for k, v in started.tags.items()] or None,
        "ParentSnapshotId": started.parent_id,
    }


def _refuse_encryption(params: Params) -> None:
    """Snapshots are not encrypted yet, and none may seem to be."""
    has_key, wish = "KmsKeyArn" in params, params.get("Encrypted")
    if "ParentSnapshotId" in params and (has_key or wish is not None):
        raise _invalid(
            "Encrypted and KmsKeyArn cannot be specified with ParentSnapshotId",
            "INVALID_PARAMETER_VALUE",
        )
    if has_key and wish is False:
        raise _invalid(
            "Encrypt cannot be false when KmsKeyArn is specified", "INVALID_PARAMETER_VALUE"
        )
    if has_key or wish:
        name = "KmsKeyArn" if has_key else "Encrypted"
        raise _invalid(
            f"The parameter {name} is not supported by ebsim: snapshots are not encrypted. "
            "Nothing was changed. Leave it out.",
            "INVALID_PARAMETER_VALUE",
        )


def _tags(listed: list[Params]) -> dict[str, str]:
    tags = {one.get("Key", ""): one.get("Value", "") for one in listed}
    if len(listed) > _TAGS_MAX or len(tags) < len(listed):
        raise _invalid(
            f"There may be {_TAGS_MAX} tags, each key once; {len(listed)} were given.",
            "INVALID_TAG",
        )
    try:
        check_tags(tags)
    except InvalidRequest as error:
        raise _invalid(str(error), "INVALID_TAG") from error
    return tags


def put_snapshot_block(call: Call, params: Params) -> Answer:
    """Put one block; what it says of its progress Amazon tells nobody either."""
    region, snapshot_id = call.region, SnapshotId(params["SnapshotId"])
    index, data, said = params["BlockIndex"], params["BlockData"], params["DataLength"]
    check_puttable(region, snapshot_id, index)
    if said != DIRECT_BLOCK_SIZE:
        raise _invalid(
            f"Block data length {said} is not valid, expected {DIRECT_BLOCK_SIZE}",
            "INVALID_BLOCK",
        )
    if len(data) != said:
        raise _invalid("Failed to read block data", "INVALID_PARAMETER_VALUE")
    sha256 = hashlib.sha256(data).digest()
    computed, expected = base64.b64encode(sha256).decode(), params["Checksum"]
    if computed != expected:
        raise ApiError(
            "InvalidSignatureException",
            "The value passed in as x-amz-Checksum does not match the computed checksum. "
            f"Computed checksum: {computed} expected checksum: {expected}",
            status=403,
        )
    put_block(region, call.blocks.access.puts, snapshot_id, index, (data, sha256))
    return {"Checksum": computed, "ChecksumAlgorithm": "SHA256"}


def complete_snapshot(call: Call, params: Params) -> Answer:
    """Have a snapshot completed; whether it is what was said shows behind."""
    request = CompletionRequest(params["ChangedBlocksCount"], _aggregate(params))
    state = complete_direct_snapshot(call.region, SnapshotId(params["SnapshotId"]), request)
    call.blocks.settle_soon()
    return {"Status": state.value}


def _aggregate(params: Params) -> str | None:
    """The checksum of all blocks, in hexadecimal; ``None`` if none was given."""
    names = ("Checksum", "ChecksumAlgorithm", "ChecksumAggregationMethod")
    given = [name for name in names if name in params]
    if not given:
        return None
    if len(given) < len(names):
        missing = next(name for name in names if name not in params)
        raise _invalid(f"{given[0]} needs {missing}", "INVALID_PARAMETER_VALUE")
    try:
        checksum = base64.b64decode(params["Checksum"], validate=True)
    except binascii.Error:
        checksum = b""
    if len(checksum) != _SHA256_SIZE:
        raise _invalid("The checksum is no SHA-256 in base64", "INVALID_PARAMETER_VALUE")
    return checksum.hex()


def _invalid(message: str, reason: str) -> ApiError:
    return ApiError("ValidationException", message, fields={"Reason": reason})


ACTIONS = (
    action(
        "StartSnapshot",
        start_snapshot,
        "VolumeSize",
        "ParentSnapshotId",
        "Tags",
        "Description",
        "ClientToken",
        "Encrypted",
        "KmsKeyArn",
        "Timeout",
    ),
    action(
        "PutSnapshotBlock",
        put_snapshot_block,
        "SnapshotId",
        "BlockIndex",
        "BlockData",
        "DataLength",
        "Progress",
        "Checksum",
        "ChecksumAlgorithm",
    ),
    action(
        "CompleteSnapshot",
        complete_snapshot,
        "SnapshotId",
        "ChangedBlocksCount",
        "Checksum",
        "ChecksumAlgorithm",
        "ChecksumAggregationMethod",
    ),
)
