"""Listing the blocks of snapshots and those that changed between two, and getting one.

Source: https://docs.aws.amazon.com/ebs/latest/APIReference/Welcome.html
"""

import base64
import hashlib

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.clock import to_datetime
from ebsim.engine.direct.block_access import MAX_RESULTS_MAX
from ebsim.engine.direct.get_block import get_block
from ebsim.engine.direct.list_blocks import PageRequest, list_blocks
from ebsim.engine.direct.list_changed_blocks import list_changed_blocks
from ebsim.ids import SnapshotId


def list_snapshot_blocks(call: Call, params: Params) -> Answer:
    """A page of the blocks of a snapshot."""
    snapshot_id = SnapshotId(params["SnapshotId"])
    page = list_blocks(call.region, call.blocks.access, snapshot_id, _page(params))
    return {
        "Blocks": [{"BlockIndex": index, "BlockToken": token} for index, token in page.blocks],
        "ExpiryTime": to_datetime(page.expiry_time_ns),
        "VolumeSize": page.volume_size_gib,
        "BlockSize": page.block_size,
        "NextToken": page.next_token,
    }


def list_changed(call: Call, params: Params) -> Answer:
    """A page of the blocks that were written between two snapshots."""
    first = params.get("FirstSnapshotId")
    if first is None:
        raise ApiError(
            "ValidationException",
            "First snapshot should not be empty or null",
            fields={"Reason": "INVALID_SNAPSHOT_ID"},
        )
    pair = SnapshotId(first), SnapshotId(params["SecondSnapshotId"])
    page = list_changed_blocks(call.region, call.blocks.access, pair, _page(params))
    changes = [
        {"BlockIndex": index, "FirstBlockToken": first_token, "SecondBlockToken": second_token}
        for index, first_token, second_token in page.changes
    ]
    if page.is_end:
        return {"ChangedBlocks": changes}
    return {
        "ChangedBlocks": changes,
        "ExpiryTime": to_datetime(page.expiry_time_ns),
        "VolumeSize": page.volume_size_gib,
        "BlockSize": page.block_size,
        "NextToken": page.next_token,
    }


def _page(params: Params) -> PageRequest:
    return PageRequest(
        params.get("StartingBlockIndex", 0),
        params.get("MaxResults", MAX_RESULTS_MAX),
        params.get("NextToken"),
    )


def get_snapshot_block(call: Call, params: Params) -> Answer:
    """The bytes of a block, by the token that a list gave."""
    data = bytes(
        get_block(
            call.region,
            call.blocks.access,
            SnapshotId(params["SnapshotId"]),
            params["BlockIndex"],
            params["BlockToken"],
        )
    )
    return {
        "BlockData": data,
        "DataLength": len(data),
        "Checksum": base64.b64encode(hashlib.sha256(data).digest()).decode(),
        "ChecksumAlgorithm": "SHA256",
    }


_PAGED = ("NextToken", "MaxResults", "StartingBlockIndex")

ACTIONS = (
    action("ListSnapshotBlocks", list_snapshot_blocks, "SnapshotId", *_PAGED),
    action("ListChangedBlocks", list_changed, "FirstSnapshotId", "SecondSnapshotId", *_PAGED),
    action("GetSnapshotBlock", get_snapshot_block, "SnapshotId", "BlockIndex", "BlockToken"),
)
