"""Quotas of snapshots that a chaos file sets."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.api.chaos import Chaos, read_chaos
from ebsim.api.dispatch import Desk
from ebsim.clock import ManualClock
from ebsim.engine.access_keys import AccessKeys
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.region import Region
from ebsim.errors import InvalidRequest
from ebsim.ids import AccountId
from tests.api.clients import Credentials, code_of, connect, make_client, message_of
from tests.api.conftest import ACCOUNT, OTHER_ACCOUNT
from tests.api.refusals import code, refused

Limited = Callable[..., dict[str, Any]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def limited(desk: Desk, keys: AccessKeys, clock: ManualClock) -> Limited:
    """Makes clients of a desk with these limits, by service; another call, another desk."""

    def make(limits: dict[str, Any], *accounts: AccountId) -> dict[str, Any]:
        rules = read_chaos(json.dumps({"limits": limits}).encode())
        strict = replace(desk, chaos=Chaos(rules, clock))
        found = {}
        for account_id in accounts or (ACCOUNT,):
            key = keys.create_key(account_id)
            for service in ("ec2", "ebs"):
                client = make_client(service, Credentials(key.key_id, key.secret))
                name = service if account_id == ACCOUNT else f"other {service}"
                found[name] = connect(client, strict)
        return found

    return make


@pytest.fixture
def volume_id(region: Region, tmp_path: Path) -> str:
    """A volume of which there is one snapshot."""
    image = tmp_path / "disk.img"
    image.write_bytes(Random(1).randbytes(1 << 16))
    return str(create_snapshot(replace(region, account_id=ACCOUNT), str(image)).volume_id)


def listed(ec2: Any) -> int:
    return len(ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"])


def test_a_volume_is_not_snapshotted_again_too_soon(
    limited: Limited, volume_id: str, clock: ManualClock
) -> None:
    ec2 = limited({"seconds_between_snapshots": 60})["ec2"]
    other = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    ec2.create_snapshot(VolumeId=volume_id)
    clock.advance(59)
    error = refused(ec2.create_snapshot, VolumeId=volume_id)
    assert (code_of(error), message_of(error)) == (
        "SnapshotCreationPerVolumeRateExceeded",
        "The maximum per volume CreateSnapshot request rate has been exceeded. Use an "
        "increasing or variable sleep interval between requests.",
    )
    ec2.create_snapshot(VolumeId=other)
    clock.advance(1)
    ec2.create_snapshot(VolumeId=volume_id)


def test_an_account_has_no_more_snapshots_than_its_quota(limited: Limited, volume_id: str) -> None:
    clients = limited({"snapshots": 2}, ACCOUNT, OTHER_ACCOUNT)
    ec2, ebs, other = clients["ec2"], clients["ebs"], clients["other ebs"]
    (first,) = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    ec2.create_snapshot(VolumeId=volume_id)
    source = {"SourceRegion": "us-east-1", "SourceSnapshotId": first["SnapshotId"]}
    assert code(ec2.create_snapshot, VolumeId=volume_id) == "SnapshotLimitExceeded"
    assert code(ec2.copy_snapshot, **source) == "SnapshotLimitExceeded"
    error = refused(ebs.start_snapshot, VolumeSize=1)
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    assert (code_of(error), status) == ("ServiceQuotaExceededException", 402)
    assert error.response["Reason"] == "DEPENDENCY_SERVICE_QUOTA_EXCEEDED"
    assert listed(ec2) == 2
    other.start_snapshot(VolumeSize=1)
    ec2.delete_snapshot(SnapshotId=first["SnapshotId"])
    ebs.start_snapshot(VolumeSize=1)
    assert listed(ec2) == 2


def test_a_set_that_has_not_room_for_all_makes_none(limited: Limited) -> None:
    ec2 = limited({"snapshots": 1})["ec2"]
    disks = [{"DeviceName": f"/dev/sd{letter}", "Ebs": {"VolumeSize": 1}} for letter in "ab"]
    (made,) = ec2.run_instances(ImageId="a", MinCount=1, MaxCount=1, BlockDeviceMappings=disks)[
        "Instances"
    ]
    whole = {"InstanceId": made["InstanceId"]}
    assert code(ec2.create_snapshots, InstanceSpecification=whole) == "SnapshotLimitExceeded"
    assert listed(ec2) == 0
    ec2.create_snapshots(InstanceSpecification={**whole, "ExcludeBootVolume": True})
    assert listed(ec2) == 1


def test_snapshots_that_wait_for_blocks_have_a_quota_of_their_own(
    limited: Limited, volume_id: str
) -> None:
    clients = limited({"pending_direct_snapshots": 2})
    ec2, ebs = clients["ec2"], clients["ebs"]
    asked = {"VolumeSize": 1, "ClientToken": "again"}
    first = ebs.start_snapshot(**asked)["SnapshotId"]
    ebs.start_snapshot(VolumeSize=1)
    error = refused(ebs.start_snapshot, VolumeSize=1)
    assert code_of(error) == "ConcurrentLimitExceededException"
    assert "You have reached the limit for concurrent API requests" in message_of(error)
    assert ebs.start_snapshot(**asked)["SnapshotId"] == first, "it was answered before"
    ec2.create_snapshot(VolumeId=volume_id)
    ebs.complete_snapshot(SnapshotId=first, ChangedBlocksCount=0)
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[first], WaiterConfig={"Delay": 1})
    ebs.start_snapshot(VolumeSize=1)


@pytest.mark.parametrize(
    "limits",
    [{"snapshots": -1}, {"snapshots": 1.5}, {"snapshots": True}, {"volumes": 3}, [], 7,
     {"seconds_between_snapshots": "1"}],
)  # fmt: skip
def test_limits_that_mean_nothing_are_refused(limits: object) -> None:
    with pytest.raises(InvalidRequest, match="'limits'"):
        read_chaos(json.dumps({"limits": limits}).encode())
