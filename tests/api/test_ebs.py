"""The EBS direct APIs, as boto3 calls them and as their answers look on the wire."""

import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError

from ebsim.api.dispatch import Desk, answer
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.region import Region
from ebsim.engine.share_snapshot import Grantees, share_snapshot, unshare_snapshot
from ebsim.engine.snapshot_options import SnapshotOptions
from tests.api.clients import as_request, code_of, message_of, status_of
from tests.api.conftest import ACCOUNT, OTHER_ACCOUNT, ClientMaker
from tests.api.direct_clients import (
    BLOCK_SIZE,
    checksum_of,
    complete,
    download,
    put,
    upload,
    wait_for,
)
from tests.engine.direct_snapshots import direct_block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebsim.api.http_messages import Response


@pytest.fixture
def ebs(client: ClientMaker) -> Any:
    return client("ebs")


@contextmanager
def refused(
    code: str, reason: str | None, message: str = "", status: int = 400
) -> "Iterator[None]":
    """The body is answered with that error; *message* is how it begins."""
    with pytest.raises(ClientError) as caught:
        yield
    error = caught.value
    assert (code_of(error), status_of(error)) == (code, status)
    assert error.response.get("Reason") == reason
    assert message_of(error).startswith(message)


def blocks_of(seeds: dict[int, int]) -> dict[int, bytes]:
    return {index: direct_block(seed) for index, seed in seeds.items()}


@pytest.mark.slow
def test_a_life_from_start_to_deletion(ebs: Any, ec2: Any) -> None:
    blocks = blocks_of({0: 1, 7: 0, 2047: 2})
    parent = upload((ebs, ec2), blocks, Tags=[{"Key": "a", "Value": "b"}], Description="d")
    found = ec2.describe_snapshots(SnapshotIds=[parent])["Snapshots"][0]
    assert (found["State"], found["Progress"]) == ("completed", "100%")
    assert (found["VolumeId"], found["Tags"]) == ("vol-ffffffff", [{"Key": "a", "Value": "b"}])
    assert found["FullSnapshotSizeInBytes"] == 3 * BLOCK_SIZE
    assert download(ebs, parent) == blocks
    child = upload((ebs, ec2), blocks_of({7: 0, 8: 5}), ParentSnapshotId=parent)
    assert download(ebs, child, page_size=100) == blocks | blocks_of({8: 5})
    changed = ebs.list_changed_blocks(FirstSnapshotId=parent, SecondSnapshotId=child)
    shown = [(one["BlockIndex"], sorted(one)) for one in changed["ChangedBlocks"]]
    both = ["BlockIndex", "FirstBlockToken", "SecondBlockToken"]
    assert shown == [(7, both), (8, [both[0], both[2]])]
    ec2.delete_snapshot(SnapshotId=parent)
    assert download(ebs, child) == blocks | blocks_of({8: 5})
    with refused("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", status=404):
        ebs.list_snapshot_blocks(SnapshotId=parent)


@pytest.mark.slow
@pytest.mark.parametrize("block_size", [4 << 10, 1 << 20])
def test_a_snapshot_in_blocks_of_another_size_is_read_as_any(
    ebs: Any, region: Region, tmp_path: Path, block_size: int
) -> None:
    disk = tmp_path / "disk.img"
    content = direct_block(1) + bytes(2 * BLOCK_SIZE) + direct_block(2)[:5000]
    disk.write_bytes(content)
    taken = create_snapshot(
        replace(region, account_id=ACCOUNT), str(disk), SnapshotOptions(block_size=block_size)
    )
    found = download(ebs, taken.snapshot_id)
    listed = (0, 3) if block_size < BLOCK_SIZE else (0, 1, 2, 3)
    whole = content.ljust(4 * BLOCK_SIZE, b"\0")
    assert found == {i: whole[i * BLOCK_SIZE : (i + 1) * BLOCK_SIZE] for i in listed}
    with refused("ValidationException", "INVALID_SNAPSHOT_ID", f"{taken.snapshot_id} has blocks"):
        ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=taken.snapshot_id)


def test_what_start_answers(ebs: Any, ec2: Any) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    found = ebs.start_snapshot(VolumeSize=3, Description="text", Timeout=10)
    assert before < found["StartTime"] < before + timedelta(minutes=5)
    snapshot_id = found["SnapshotId"]
    del found["StartTime"], found["ResponseMetadata"]
    assert found == {
        "Description": "text",
        "SnapshotId": snapshot_id,
        "OwnerId": ACCOUNT,
        "Status": "pending",
        "VolumeSize": 3,
        "BlockSize": BLOCK_SIZE,
    }
    shown = ec2.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"][0]
    assert (shown["State"], shown["Progress"], shown["VolumeSize"]) == ("pending", "0%", 3)


def test_a_token_of_the_client_makes_one_snapshot(ebs: Any) -> None:
    first = ebs.start_snapshot(VolumeSize=1, ClientToken="t" * 255)
    again = ebs.start_snapshot(VolumeSize=1, ClientToken="t" * 255)
    assert (again["SnapshotId"], again["StartTime"]) == (first["SnapshotId"], first["StartTime"])
    with refused(
        "ConflictException",
        None,
        "Current request does not match request stored with this token.",
        409,
    ):
        ebs.start_snapshot(VolumeSize=2, ClientToken="t" * 255)


@pytest.mark.parametrize(
    ("parameters", "reason", "message"),
    [
        ({"VolumeSize": 65537}, "INVALID_VOLUME_SIZE", "Volume size 65537 is not valid"),
        ({"Encrypted": True}, "INVALID_PARAMETER_VALUE", "The parameter Encrypted is not supp"),
        (
            {"Encrypted": False, "KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/k"},
            "INVALID_PARAMETER_VALUE",
            "Encrypt cannot be false when KmsKeyArn is specified",
        ),
        ({"Tags": [{"Key": "aws:x", "Value": ""}]}, "INVALID_TAG", "tag key 'aws:x'"),
        ({"Tags": [{"Key": "a", "Value": "1"}] * 2}, "INVALID_TAG", ""),
    ],
)
def test_what_start_refuses(
    ebs: Any, parameters: dict[str, Any], reason: str, message: str
) -> None:
    with refused("ValidationException", reason, message):
        ebs.start_snapshot(**{"VolumeSize": 1, **parameters})


def test_parents_that_start_refuses(ebs: Any, client: ClientMaker) -> None:
    pending = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    message = f"Source snapshot ({pending}) is not complete."
    with refused("ValidationException", "INVALID_SNAPSHOT_ID", message):
        ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=pending)
    with refused("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", status=404):
        client("ebs", OTHER_ACCOUNT).start_snapshot(VolumeSize=1, ParentSnapshotId=pending)
    with refused("ValidationException", "INVALID_PARAMETER_VALUE", "Encrypted and KmsKeyArn"):
        ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=pending, Encrypted=False)


def test_what_put_answers_and_refuses(ebs: Any) -> None:
    snapshot_id = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    data = direct_block(4)
    found = put(ebs, snapshot_id, 3, data, Progress=50)
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (found["Checksum"], found["ChecksumAlgorithm"]) == (checksum_of(data), "SHA256")
    with refused(
        "ValidationException",
        "INVALID_BLOCK",
        "Block index 2048 is beyond the volume size extent",
    ):
        put(ebs, snapshot_id, 2048, data)
    with refused(
        "ValidationException",
        "INVALID_BLOCK",
        "Block data length 5 is not valid, expected 524288",
    ):
        put(ebs, snapshot_id, 0, b"short")
    with refused("ValidationException", "INVALID_PARAMETER_VALUE", "Failed to read block data"):
        put(ebs, snapshot_id, 0, b"short", DataLength=BLOCK_SIZE)
    wrong = checksum_of(b"other")
    with refused(
        "InvalidSignatureException",
        None,
        "The value passed in as x-amz-Checksum does not match the computed checksum. "
        f"Computed checksum: {checksum_of(data)} expected checksum: {wrong}",
        403,
    ):
        put(ebs, snapshot_id, 0, data, Checksum=wrong)
    with refused("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", status=404):
        put(ebs, "snap-0123", 0, data)
    assert complete(ebs, snapshot_id, {3: data}) == "pending"
    with refused("ValidationException", "INVALID_SNAPSHOT_ID", "Snapshot is already completed"):
        put(ebs, snapshot_id, 0, data)


def test_a_wrong_completion_fails_behind(ebs: Any, ec2: Any) -> None:
    snapshot_id = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    answered = ebs.complete_snapshot(SnapshotId=snapshot_id, ChangedBlocksCount=1)
    assert answered["Status"] == "pending"
    assert answered["ResponseMetadata"]["HTTPStatusCode"] == 202
    with pytest.raises(Exception, match="terminal failure"):
        wait_for(ec2, snapshot_id)
    found = ec2.describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"][0]
    assert found["StateMessage"] == "Changed blocks count mismatch for snapshot"
    again = ebs.complete_snapshot(SnapshotId=snapshot_id, ChangedBlocksCount=0)
    assert again["Status"] == "error"


def test_a_checksum_of_the_whole_comes_with_all_that_says_how(ebs: Any) -> None:
    snapshot_id = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    with refused(
        "ValidationException", "INVALID_PARAMETER_VALUE", "Checksum needs ChecksumAlgorithm"
    ):
        ebs.complete_snapshot(
            SnapshotId=snapshot_id, ChangedBlocksCount=0, Checksum=checksum_of(b"")
        )


@pytest.mark.slow
def test_what_lists_refuse(ebs: Any, ec2: Any) -> None:
    first = upload((ebs, ec2), blocks_of({0: 1}))
    second = upload((ebs, ec2), blocks_of({0: 1}))
    with refused(
        "ValidationException", "INVALID_SNAPSHOT_ID", "First snapshot should not be empty or null"
    ):
        ebs.list_changed_blocks(SecondSnapshotId=second)
    with refused("ValidationException", "UNRELATED_SNAPSHOTS"):
        ebs.list_changed_blocks(FirstSnapshotId=first, SecondSnapshotId=second)
    token = ebs.list_snapshot_blocks(SnapshotId=first)["Blocks"][0]["BlockToken"]
    for wrong in (token, "x-y_z"):
        message = f"The pagination token {wrong} is invalid."
        with refused("ValidationException", "INVALID_PAGE_TOKEN", message):
            ebs.list_snapshot_blocks(SnapshotId=first, NextToken=wrong)
    with refused(
        "ValidationException", "INVALID_BLOCK_TOKEN", f"The block token {token} is invalid."
    ):
        ebs.get_snapshot_block(SnapshotId=second, BlockIndex=0, BlockToken=token)


@pytest.mark.slow
def test_an_account_that_it_is_shared_with_reads_it_and_cannot_build_on_it(
    ebs: Any, ec2: Any, client: ClientMaker, region: Region
) -> None:
    blocks = blocks_of({0: 1, 5: 2})
    snapshot_id = upload((ebs, ec2), blocks)
    token = ebs.list_snapshot_blocks(SnapshotId=snapshot_id)["Blocks"][0]["BlockToken"]
    other = client("ebs", OTHER_ACCOUNT)
    with refused("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", status=404):
        other.list_snapshot_blocks(SnapshotId=snapshot_id)
    owned = replace(region, account_id=ACCOUNT)
    share_snapshot(owned, snapshot_id, Grantees.of([OTHER_ACCOUNT]))
    assert download(other, snapshot_id) == blocks
    other.get_snapshot_block(SnapshotId=snapshot_id, BlockIndex=0, BlockToken=token)
    with refused("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", status=404):
        other.start_snapshot(VolumeSize=1, ParentSnapshotId=snapshot_id)
    unshare_snapshot(owned, snapshot_id, Grantees.of([OTHER_ACCOUNT]))
    share_snapshot(owned, snapshot_id, Grantees(everybody=True))
    with refused(
        "ValidationException", "INVALID_SNAPSHOT_ID", "Public snapshots are not supported"
    ):
        other.list_snapshot_blocks(SnapshotId=snapshot_id)


def wire(desk: Desk, ebs: Any, method: str, path: str, body: bytes = b"") -> "Response":
    """What is answered to a bare request, signed as boto3 signs."""
    request = AWSRequest(method, f"http://127.0.0.1:4580{path}", data=body)
    ebs._request_signer.sign("-", request)  # noqa: SLF001 (boto3 has no public way)
    return answer(desk, as_request(request.prepare()))


def test_answers_are_written_as_amazon_writes_them(desk: Desk, ebs: Any) -> None:
    response = wire(desk, ebs, "POST", "/snapshots", b'{"VolumeSize": 1}')
    found = json.loads(response.body)
    assert response.status == 201
    assert list(found) == sorted(found)
    assert isinstance(found["StartTime"], float)
    nulls = sorted(name for name, value in found.items() if value is None)
    assert nulls == ["Description", "KmsKeyArn", "ParentSnapshotId", "SseType", "Tags"]
    path = f"/snapshots/{found['SnapshotId']}/blocks/0"
    bare = wire(desk, ebs, "PUT", path, direct_block(1))
    assert bare.status == 400  # without its headers


@pytest.mark.slow
def test_lists_are_written_as_amazon_writes_them(desk: Desk, ebs: Any, ec2: Any) -> None:
    snapshot_id = upload((ebs, ec2), blocks_of({0: 1}))
    listed = json.loads(wire(desk, ebs, "GET", f"/snapshots/{snapshot_id}/blocks").body)
    assert list(listed) == ["BlockSize", "Blocks", "ExpiryTime", "NextToken", "VolumeSize"]
    assert listed["NextToken"] is None
    path = f"/snapshots/{snapshot_id}/changedblocks?firstSnapshotId={snapshot_id}"
    changed = wire(desk, ebs, "GET", path).body
    assert json.loads(changed) == {
        "BlockSize": None,
        "ChangedBlocks": [],
        "ExpiryTime": None,
        "LastEvaluatedBlockIndex": None,
        "NextToken": None,
        "VolumeSize": None,
    }
    child = upload((ebs, ec2), blocks_of({1: 1}), ParentSnapshotId=snapshot_id)
    path = f"/snapshots/{child}/changedblocks?firstSnapshotId={snapshot_id}"
    (change,) = json.loads(wire(desk, ebs, "GET", path).body)["ChangedBlocks"]
    assert list(change) == ["BlockIndex", "FirstBlockToken", "SecondBlockToken"]
    assert change["FirstBlockToken"] is None


def test_errors_are_written_as_amazon_writes_them(desk: Desk, ebs: Any) -> None:
    missing = wire(desk, ebs, "GET", "/snapshots/snap-0123456789abcdef0/blocks")
    headers = dict(missing.headers)
    assert missing.status == 404
    assert headers["x-amzn-ErrorType"] == (
        "ResourceNotFoundException:"
        "http://internal.amazon.com/coral/com.amazon.zeppelindataservice/"
    )
    assert headers["x-amzn-RequestId"]
    assert json.loads(missing.body) == {
        "Message": "The snapshot 'snap-0123456789abcdef0' does not exist.",
        "Reason": "SNAPSHOT_NOT_FOUND",
    }
    few = wire(
        desk, ebs, "GET", "/snapshots/snap-0123456789abcdef0/blocks?maxResults=99&pageToken=x"
    )
    assert dict(few.headers)["x-amzn-ErrorType"] == (
        "ValidationException:http://internal.amazon.com/coral/com.amazon.coral.validate/"
    )
    assert json.loads(few.body) == {
        "message": "1 validation error detected: Value '99' at 'maxResults' failed to satisfy "
        "constraint: Member must have value greater than or equal to 100"
    }


def test_a_client_token_of_256_letters_is_refused(desk: Desk, ebs: Any) -> None:
    body = json.dumps({"VolumeSize": 1, "ClientToken": "t" * 256}).encode()
    response = wire(desk, ebs, "POST", "/snapshots", body)
    assert response.status == 400
    assert "at 'clientToken' failed to satisfy constraint" in json.loads(response.body)["message"]
