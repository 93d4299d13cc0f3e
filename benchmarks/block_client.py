"""A client that puts blocks and gets them back: ``block_client URL KEY-ID SECRET COUNT SEED``.

Eight threads of one process, with boto3.  Prints, as JSON, the seconds that putting and
getting took; fails if a block that it gets is not the one that it put.
"""

import json
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from random import Random
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from ebsim.units import GIB, KIB

BLOCK_SIZE = 512 * KIB
THREADS = 8
_LIST_SECONDS_MAX = 60


class BlockClient:
    """The blocks of one snapshot, half of each compressible, and how to move them."""

    def __init__(self, ebs: Any, count: int, seed: int) -> None:
        random = Random(seed)
        self._ebs = ebs
        self._blocks = [
            random.randbytes(BLOCK_SIZE // 2) + bytes(BLOCK_SIZE // 2) for _ in range(count)
        ]
        self._checksums = [b64encode(sha256(data).digest()).decode() for data in self._blocks]
        gib = -(-count * BLOCK_SIZE // GIB)
        self._snapshot_id = ebs.start_snapshot(VolumeSize=gib)["SnapshotId"]
        self._tokens: dict[int, str] = {}

    def put(self, index: int) -> None:
        self._ebs.put_snapshot_block(
            SnapshotId=self._snapshot_id,
            BlockIndex=index,
            BlockData=self._blocks[index],
            DataLength=BLOCK_SIZE,
            Checksum=self._checksums[index],
            ChecksumAlgorithm="SHA256",
        )

    def complete(self) -> None:
        """Complete it, and return when its blocks can be listed."""
        count = len(self._blocks)
        self._ebs.complete_snapshot(SnapshotId=self._snapshot_id, ChangedBlocksCount=count)
        deadline = time.monotonic() + _LIST_SECONDS_MAX
        while True:
            try:
                listed = self._ebs.list_snapshot_blocks(SnapshotId=self._snapshot_id)
            except ClientError:
                if time.monotonic() > deadline:
                    raise
                continue
            self._tokens = {one["BlockIndex"]: one["BlockToken"] for one in listed["Blocks"]}
            return

    def get(self, index: int) -> None:
        answer = self._ebs.get_snapshot_block(
            SnapshotId=self._snapshot_id, BlockIndex=index, BlockToken=self._tokens[index]
        )
        assert answer["BlockData"].read() == self._blocks[index], f"block {index}"


def _seconds(work: Callable[[int], None], count: int) -> float:
    begun_ns = time.perf_counter_ns()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(count)))
    return (time.perf_counter_ns() - begun_ns) / 1e9


def main(url: str, key_id: str, secret: str, count: int, seed: int) -> None:
    ebs = boto3.session.Session().client(
        "ebs",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=Config(max_pool_connections=THREADS, retries={"total_max_attempts": 1}),
    )
    client = BlockClient(ebs, count, seed)
    put_seconds = _seconds(client.put, count)
    client.complete()
    json.dump({"put": put_seconds, "get": _seconds(client.get, count)}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]))
