"""What programs that read and write snapshots block by block do, with boto3."""

import base64
import hashlib
from collections.abc import Mapping
from random import Random
from typing import Any

BLOCK_SIZE = 512 << 10


def real_block(seed: int) -> bytes:
    """A block that nobody has yet, half of it compressible."""
    return Random(seed).randbytes(BLOCK_SIZE // 2) * 2


def checksum_of(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def linear_checksum(blocks: Mapping[int, bytes]) -> str:
    """The checksum of blocks by index, in LINEAR aggregation."""
    digests = [hashlib.sha256(blocks[index]).digest() for index in sorted(blocks)]
    return checksum_of(b"".join(digests))


def put(ebs: Any, snapshot_id: str, index: int, data: bytes, **changed: Any) -> Any:
    parameters = {
        "SnapshotId": snapshot_id,
        "BlockIndex": index,
        "BlockData": data,
        "DataLength": len(data),
        "Checksum": checksum_of(data),
        "ChecksumAlgorithm": "SHA256",
    }
    return ebs.put_snapshot_block(**{**parameters, **changed})


def complete(ebs: Any, snapshot_id: str, blocks: Mapping[int, bytes]) -> str:
    """Complete it as coldsnap does, checksum of the whole and all; return the status."""
    answer = ebs.complete_snapshot(
        SnapshotId=snapshot_id,
        ChangedBlocksCount=len(blocks),
        Checksum=linear_checksum(blocks),
        ChecksumAlgorithm="SHA256",
        ChecksumAggregationMethod="LINEAR",
    )
    return str(answer["Status"])


def upload(clients: tuple[Any, Any], blocks: Mapping[int, bytes], **start: Any) -> str:
    """A completed snapshot of 1 GiB; *clients* are those of EBS and of EC2."""
    ebs, ec2 = clients
    snapshot_id = ebs.start_snapshot(**{"VolumeSize": 1, **start})["SnapshotId"]
    for index, data in blocks.items():
        put(ebs, snapshot_id, index, data)
    assert complete(ebs, snapshot_id, blocks) == "pending"
    wait_for(ec2, snapshot_id)
    return str(snapshot_id)


def wait_for(ec2: Any, snapshot_id: str) -> None:
    """Return when the snapshot is completed; fail if it ends in an error."""
    ec2.get_waiter("snapshot_completed").wait(
        SnapshotIds=[snapshot_id], WaiterConfig={"Delay": 0.05, "MaxAttempts": 1200}
    )


def download(ebs: Any, snapshot_id: str, *, page_size: int = 10_000) -> dict[int, bytes]:
    """All blocks of a snapshot, each proved."""
    blocks: dict[int, bytes] = {}
    more: dict[str, str] = {}
    while True:
        page = ebs.list_snapshot_blocks(SnapshotId=snapshot_id, MaxResults=page_size, **more)
        assert page["BlockSize"] == BLOCK_SIZE
        for block in page["Blocks"]:
            index = block["BlockIndex"]
            answer = ebs.get_snapshot_block(
                SnapshotId=snapshot_id, BlockIndex=index, BlockToken=block["BlockToken"]
            )
            data = answer["BlockData"].read()
            assert answer["DataLength"] == len(data) == BLOCK_SIZE
            assert answer["Checksum"] == checksum_of(data)
            assert answer["ChecksumAlgorithm"] == "SHA256"
            blocks[index] = data
        if "NextToken" not in page:
            return blocks
        more = {"NextToken": page["NextToken"]}
