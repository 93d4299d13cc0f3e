"""The EBS direct APIs of a real server: bytes up and down, by several clients, and a kill."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.api.conftest import Serving
from tests.api.direct_clients import (
    BLOCK_SIZE,
    checksum_of,
    complete,
    download,
    put,
    real_block,
    wait_for,
)
from tests.cli.processes import environment, run_ebsim

Serve = Callable[..., Serving]

pytestmark = pytest.mark.slow

THREADS = 8


def upload_in_threads(ebs: Any, snapshot_id: str, blocks: dict[int, bytes]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda index: put(ebs, snapshot_id, index, blocks[index]), blocks))


def assert_holds(disk: Path, blocks: dict[int, bytes]) -> None:
    """The image has *blocks* where they belong, and nothing else."""
    with disk.open("rb") as file:
        for index in range(disk.stat().st_size // BLOCK_SIZE):
            data = file.read(BLOCK_SIZE)
            assert data == blocks.get(index, bytes(BLOCK_SIZE)), index


def test_what_was_uploaded_is_downloaded_restored_and_built_on(
    serve: Serve, tmp_path: Path
) -> None:
    server = serve()
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    parent_blocks = {index: real_block(index) for index in (*range(24), 900, 2047)}
    child_blocks = {5: real_block(5), 6: bytes(BLOCK_SIZE), 1000: real_block(77)}

    parent = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    upload_in_threads(ebs, parent, parent_blocks)
    complete(ebs, parent, parent_blocks)
    wait_for(ec2, parent)
    child = ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=parent)["SnapshotId"]
    upload_in_threads(ebs, child, child_blocks)
    complete(ebs, child, child_blocks)
    wait_for(ec2, child)

    assert download(ebs, parent) == parent_blocks
    assert download(ebs, child) == parent_blocks | child_blocks
    changed = ebs.list_changed_blocks(FirstSnapshotId=parent, SecondSnapshotId=child)
    assert [one["BlockIndex"] for one in changed["ChangedBlocks"]] == sorted(child_blocks)
    restored = tmp_path / "restored.img"
    run_ebsim("restore", child, str(restored), home=server.home)
    assert_holds(restored, parent_blocks | child_blocks)


def test_a_snapshot_that_the_command_line_took_is_downloaded(serve: Serve, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    data = real_block(1) + bytes(3 * BLOCK_SIZE) + real_block(2) + b"the end"
    image.write_bytes(data)
    server = serve()
    taken = run_ebsim("snapshot", "create", str(image), home=server.home).stdout.strip()

    blocks = download(server.client("ebs"), taken)

    padded = data + bytes(-len(data) % BLOCK_SIZE)
    assert blocks == {
        index: padded[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE] for index in (0, 4, 5)
    }


def test_the_aws_command_line_puts_and_gets_a_block(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    snapshot_id = server.client("ebs").start_snapshot(VolumeSize=1)["SnapshotId"]
    data = real_block(3)
    (tmp_path / "block").write_bytes(data)

    def aws(*words: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "awscli", "ebs", *words, "--snapshot-id", snapshot_id],
            env=environment(server.home) | server.variables(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    aws(
        *("put-snapshot-block", "--block-index", "9", "--block-data", "block"),
        *("--data-length", str(BLOCK_SIZE), "--checksum", checksum_of(data)),
        *("--checksum-algorithm", "SHA256"),
    )
    assert complete(server.client("ebs"), snapshot_id, {9: data}) == "pending"
    wait_for(server.client("ec2"), snapshot_id)
    (block,) = aws("list-snapshot-blocks")["Blocks"]
    token = block["BlockToken"]
    aws("get-snapshot-block", "--block-index", "9", "--block-token", token, "got")
    assert (tmp_path / "got").read_bytes() == data


def test_a_body_that_is_cut_short_puts_nothing(serve: Serve) -> None:
    server = serve("--auth", "none")
    ebs = server.client("ebs")
    snapshot_id = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    address = urlsplit(server.url)
    head = (
        f"PUT /snapshots/{snapshot_id}/blocks/0 HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Content-Length: {BLOCK_SIZE}\r\nx-amz-Data-Length: {BLOCK_SIZE}\r\n"
        f"x-amz-Checksum: {checksum_of(bytes(BLOCK_SIZE))}\r\n"
        "x-amz-Checksum-Algorithm: SHA256\r\n\r\n"
    )
    with socket.create_connection((address.hostname or "", address.port or 0)) as sent:
        sent.sendall(head.encode() + bytes(BLOCK_SIZE // 2))
    complete(ebs, snapshot_id, {})
    wait_for(server.client("ec2"), snapshot_id)
    assert download(ebs, snapshot_id) == {}
