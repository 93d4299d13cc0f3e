"""The rate at which a volume made by CreateVolume or RunInstances is to be loaded."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.open_volume import open_volume
from ebsim.engine.region import Region
from ebsim.ids import VolumeId
from tests.api.conftest import ACCOUNT
from tests.api.refusals import code

ZONE = "us-east-1a"


@pytest.fixture
def snapshot_id(region: Region, tmp_path: Path) -> str:
    image = tmp_path / "disk.img"
    image.write_bytes(Random(3).randbytes(1 << 20))
    return str(create_snapshot(replace(region, account_id=ACCOUNT), str(image)).snapshot_id)


def made_of(ec2: Any, snapshot_id: str) -> Any:
    chosen = [{"Name": "snapshot-id", "Values": [snapshot_id]}]
    return ec2.describe_volumes(Filters=chosen)["Volumes"]


@pytest.mark.parametrize("rate", [100, 300])
def test_a_volume_is_loaded_at_the_rate_that_it_was_made_with(
    ec2: Any, region: Region, snapshot_id: str, rate: int
) -> None:
    asked = {"AvailabilityZone": ZONE, "SnapshotId": snapshot_id}
    volume_id = ec2.create_volume(**asked, VolumeInitializationRate=rate)["VolumeId"]

    (shown,) = made_of(ec2, snapshot_id)
    assert shown["VolumeInitializationRate"] == rate
    (status,) = ec2.describe_volume_status(VolumeIds=[volume_id])["VolumeStatuses"]
    assert status["InitializationStatusDetails"]["InitializationType"] == "provisioned-rate"
    with open_volume(region, VolumeId(volume_id), "test", hydrates=True) as opened:
        assert opened.hydrator is not None
        assert opened.hydrator.rate == rate << 20


def test_a_volume_that_was_made_without_a_rate_has_none(ec2: Any, snapshot_id: str) -> None:
    ec2.create_volume(AvailabilityZone=ZONE, SnapshotId=snapshot_id)
    (shown,) = made_of(ec2, snapshot_id)
    assert "VolumeInitializationRate" not in shown


@pytest.mark.parametrize("rate", [99, 301])
def test_a_rate_that_amazon_does_not_offer_is_refused(
    ec2: Any, snapshot_id: str, rate: int
) -> None:
    asked = {"AvailabilityZone": ZONE, "SnapshotId": snapshot_id}
    refused = code(ec2.create_volume, **asked, VolumeInitializationRate=rate)
    assert refused == "InvalidParameterValue"
    assert made_of(ec2, snapshot_id) == []


def test_an_empty_volume_is_loaded_at_no_rate(ec2: Any) -> None:
    asked = {"AvailabilityZone": ZONE, "Size": 1}
    refused = code(ec2.create_volume, **asked, VolumeInitializationRate=100)
    assert refused == "InvalidParameterCombination"
    assert ec2.describe_volumes()["Volumes"] == []


def test_a_disk_of_an_instance_is_loaded_at_the_rate_that_is_named(
    ec2: Any, snapshot_id: str
) -> None:
    disk = {"SnapshotId": snapshot_id, "VolumeInitializationRate": 150}
    ec2.run_instances(
        ImageId="ami-1",
        MinCount=1,
        MaxCount=1,
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": disk}],
    )
    (volume,) = made_of(ec2, snapshot_id)
    assert volume["VolumeInitializationRate"] == 150
