"""Volumes through boto3."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.list_volumes import show_volume
from ebsim.engine.open_volume import OpenedVolume, open_volume
from ebsim.engine.region import Region
from ebsim.ids import VolumeId
from tests.api.conftest import ACCOUNT, OTHER_ACCOUNT, ClientMaker
from tests.api.refusals import code, refused
from tests.api.volume_calls import ZONE, MakeVolume, run, shown

NOTHING = f"vol-{0:017x}"


@pytest.fixture
def snapshot_id(region: Region, tmp_path: Path) -> str:
    image = tmp_path / "disk.img"
    image.write_bytes(Random(3).randbytes(1 << 20))
    return str(create_snapshot(replace(region, account_id=ACCOUNT), str(image)).snapshot_id)


def read(opened: OpenedVolume, offset_bytes: int, size_bytes: int) -> bytes:
    buffer = bytearray(size_bytes)
    opened.device.read_at(offset_bytes, memoryview(buffer))
    return bytes(buffer)


def test_a_volume_is_made_found_and_deleted(ec2: Any) -> None:
    made = ec2.create_volume(
        AvailabilityZone="us-east-1b",
        Size=10,
        VolumeType="gp3",
        Iops=4000,
        Throughput=200,
        TagSpecifications=[{"ResourceType": "volume", "Tags": [{"Key": "a", "Value": "b"}]}],
    )
    assert (made["State"], made["Size"], made["Encrypted"]) == ("creating", 10, False)
    ec2.get_waiter("volume_available").wait(VolumeIds=[made["VolumeId"]])

    found = shown(ec2, made["VolumeId"])
    assert found["State"] == "available"
    assert found["AvailabilityZone"] == "us-east-1b"
    assert (found["VolumeType"], found["Iops"], found["Throughput"]) == ("gp3", 4000, 200)
    assert found["Tags"] == [{"Key": "a", "Value": "b"}]
    assert found["VolumeArn"].endswith(f"{ACCOUNT}:volume/{made['VolumeId']}")

    ec2.delete_volume(VolumeId=made["VolumeId"])
    ec2.get_waiter("volume_deleted").wait(VolumeIds=[made["VolumeId"]])
    assert code(ec2.delete_volume, VolumeId=made["VolumeId"]) == "InvalidVolume.NotFound"


def test_a_volume_of_a_snapshot_has_its_bytes_and_at_least_its_size(
    ec2: Any, region: Region, make: MakeVolume, snapshot_id: str
) -> None:
    volume_id = make(SnapshotId=snapshot_id, Size=1)

    found = shown(ec2, volume_id)
    assert (found["SnapshotId"], found["Size"]) == (snapshot_id, 1)
    with open_volume(region, VolumeId(volume_id), "test", hydrates=False) as opened:
        assert read(opened, 0, 1 << 20) == Random(3).randbytes(1 << 20)
        assert opened.device.size_bytes == 1 << 30


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"Size": 0}, "InvalidParameterValue"),
        ({"Size": 20_000}, "InvalidParameterValue"),
        ({"Size": 100, "VolumeType": "st1"}, "InvalidParameterValue"),
        ({"Size": 10, "VolumeType": "io1"}, "MissingParameter"),
        ({"Size": 10, "VolumeType": "io1", "Iops": 501}, "InvalidParameterCombination"),
        ({"Size": 10, "VolumeType": "gp3", "Iops": 2999}, "InvalidParameterValue"),
        ({"Size": 10, "VolumeType": "gp3", "Throughput": 751}, "InvalidParameterCombination"),
        ({"Size": 10, "Iops": 100}, "InvalidParameterCombination"),
        ({"Size": 10, "Throughput": 125}, "InvalidParameterCombination"),
        ({"Size": 10, "VolumeType": "gp9"}, "InvalidParameterValue"),
        ({"Size": 1, "AvailabilityZone": "us-west-2a"}, "InvalidZone.NotFound"),
        ({"Size": 1, "AvailabilityZoneId": "use1-az1"}, "InvalidParameterCombination"),
        ({}, "MissingParameter"),
        ({"SnapshotId": f"snap-{0:017x}"}, "InvalidSnapshot.NotFound"),
        ({"Size": 1, "Encrypted": True}, "UnsupportedParameter"),
        ({"Size": 1, "MultiAttachEnabled": True}, "UnsupportedParameter"),
        ({"Size": 1, "KmsKeyId": "alias/x"}, "UnsupportedParameter"),
        ({"Size": 1, "ClientToken": "x" * 65}, "InvalidParameterValue"),
        (
            {"Size": 1, "TagSpecifications": [{"ResourceType": "snapshot", "Tags": []}]},
            "InvalidParameterValue",
        ),
    ],
)
def test_a_volume_that_cannot_be_is_refused(
    ec2: Any, params: dict[str, Any], expected: str
) -> None:
    assert code(ec2.create_volume, **{"AvailabilityZone": ZONE, **params}) == expected
    assert ec2.describe_volumes()["Volumes"] == []


def test_the_same_client_token_makes_one_volume(ec2: Any, make: MakeVolume) -> None:
    first = make(ClientToken="once")

    assert make(ClientToken="once") == first
    clash = code(ec2.create_volume, AvailabilityZone=ZONE, Size=2, ClientToken="once")
    assert clash == "IdempotentParameterMismatch"
    assert make(ClientToken="twice") != first
    assert len(ec2.describe_volumes()["Volumes"]) == 2


def test_volumes_are_found_by_filters_and_pages(ec2: Any, make: MakeVolume) -> None:
    ids = sorted(make(VolumeType=kind) for kind in ["gp2", "gp3"] * 3)
    ec2.create_tags(Resources=ids[:2], Tags=[{"Key": "team", "Value": "db"}])

    pages = ec2.get_paginator("describe_volumes").paginate(PaginationConfig={"PageSize": 5})
    assert [[one["VolumeId"] for one in page["Volumes"]] for page in pages] == [ids[:5], ids[5:]]

    def filtered(name: str, *values: str) -> list[str]:
        found = ec2.describe_volumes(Filters=[{"Name": name, "Values": list(values)}])
        return [one["VolumeId"] for one in found["Volumes"]]

    assert len(filtered("volume-type", "gp3")) == 3
    assert filtered("tag:team", "d?") == ids[:2]
    assert filtered("tag-key", "team") == ids[:2]
    assert filtered("volume-id", ids[3]) == [ids[3]]
    assert filtered("size", "2") == []
    assert filtered("status", "available") == ids
    assert code(ec2.describe_volumes, Filters=[{"Name": "x", "Values": ["y"]}]) == (
        "InvalidParameterValue"
    )
    both = {"VolumeIds": ids[:1], "MaxResults": 5}
    assert code(ec2.describe_volumes, **both) == "InvalidParameterCombination"


def test_a_volume_is_modified_at_once_and_not_too_often(ec2: Any, make: MakeVolume) -> None:
    volume_id = make()
    unchanged = "InvalidVolumeModification.NotFound"
    assert code(ec2.describe_volumes_modifications, VolumeIds=[volume_id]) == unchanged

    change = ec2.modify_volume(VolumeId=volume_id, Size=3, VolumeType="gp3")["VolumeModification"]
    assert change["ModificationState"] == "modifying"
    (done,) = ec2.describe_volumes_modifications(VolumeIds=[volume_id])["VolumesModifications"]
    assert (done["ModificationState"], done["Progress"]) == ("completed", 100)
    assert (done["OriginalSize"], done["TargetSize"]) == (1, 3)
    assert (done["OriginalVolumeType"], done["TargetVolumeType"]) == ("gp2", "gp3")
    assert (shown(ec2, volume_id)["Size"], shown(ec2, volume_id)["Iops"]) == (3, 3000)

    assert code(ec2.modify_volume, VolumeId=volume_id, Size=2) == "InvalidParameterValue"
    for size in (4, 5, 6):
        ec2.modify_volume(VolumeId=volume_id, Size=size)
    too_often = code(ec2.modify_volume, VolumeId=volume_id, Size=7)
    assert too_often == "VolumeModificationRateExceeded"
    assert shown(ec2, volume_id)["Size"] == 6


def test_what_a_volume_is_survives_in_its_kept_record(
    ec2: Any, region: Region, make: MakeVolume
) -> None:
    volume_id = make(Size=10, VolumeType="gp3", AvailabilityZone="us-east-1c")
    ec2.modify_volume(VolumeId=volume_id, Iops=5000)
    mine = replace(region, account_id=ACCOUNT)
    kept = (region.path / "volumes" / volume_id / "volume.json").read_text()

    settings = show_volume(mine, volume_id).settings
    assert settings.zone == "us-east-1c"
    assert f'"iops": {settings.speed.iops}' in kept
    assert settings.speed.iops == 5000


def test_the_status_tells_how_far_a_volume_is_loaded(
    ec2: Any, make: MakeVolume, snapshot_id: str
) -> None:
    volume_id = make(SnapshotId=snapshot_id)

    (status,) = ec2.describe_volume_status(VolumeIds=[volume_id])["VolumeStatuses"]
    assert status["VolumeStatus"]["Status"] == "ok"
    details = {one["Name"]: one["Status"] for one in status["VolumeStatus"]["Details"]}
    assert details["io-enabled"] == "passed"
    assert details["initialization-state"] == "initializing"
    assert status["InitializationStatusDetails"]["InitializationType"] == "default"


def test_a_volume_s_attribute_is_kept(ec2: Any, make: MakeVolume) -> None:
    volume_id = make()

    def enabled() -> bool:
        asked = {"VolumeId": volume_id, "Attribute": "autoEnableIO"}
        return bool(ec2.describe_volume_attribute(**asked)["AutoEnableIO"]["Value"])

    assert not enabled()
    ec2.modify_volume_attribute(VolumeId=volume_id, AutoEnableIO={"Value": True})
    assert enabled()
    error = refused(ec2.enable_volume_io, VolumeId=volume_id)
    assert error.response["Error"]["Code"] == "IncorrectState"
    assert "already has IO enabled" in error.response["Error"]["Message"]


def test_a_volume_is_copied(ec2: Any, region: Region, make: MakeVolume) -> None:
    volume_id = make()
    with open_volume(region, VolumeId(volume_id), "test", hydrates=False) as opened:
        opened.device.write_at(5, b"hello")

    asked = {"SourceVolumeId": volume_id, "Size": 2, "ClientToken": "c"}
    (copy,) = ec2.copy_volumes(**asked)["Volumes"]
    assert ec2.copy_volumes(**asked)["Volumes"][0]["VolumeId"] == copy["VolumeId"]

    assert shown(ec2, copy["VolumeId"])["Size"] == 2
    assert shown(ec2, copy["VolumeId"])["SourceVolumeId"] == volume_id
    with open_volume(region, VolumeId(copy["VolumeId"]), "test", hydrates=False) as opened:
        assert read(opened, 5, 5) == b"hello"
    assert code(ec2.copy_volumes, SourceVolumeId=volume_id, Encrypted=True) == (
        "UnsupportedParameter"
    )


def test_another_account_s_volumes_and_instances_do_not_exist(
    ec2: Any, client: ClientMaker, make: MakeVolume
) -> None:
    volume_id = make()
    instance_id = run(ec2)["InstanceId"]
    other = client("ec2", OTHER_ACCOUNT)

    assert other.describe_volumes()["Volumes"] == []
    assert other.describe_instances()["Reservations"] == []
    assert other.describe_volume_status()["VolumeStatuses"] == []
    of_volume: list[tuple[Any, dict[str, Any]]] = [
        (other.describe_volumes, {"VolumeIds": [volume_id]}),
        (other.describe_volume_status, {"VolumeIds": [volume_id]}),
        (other.describe_volumes_modifications, {"VolumeIds": [volume_id]}),
        (other.describe_volume_attribute, {"VolumeId": volume_id, "Attribute": "autoEnableIO"}),
        (other.modify_volume_attribute, {"VolumeId": volume_id, "AutoEnableIO": {"Value": True}}),
        (other.enable_volume_io, {"VolumeId": volume_id}),
        (other.modify_volume, {"VolumeId": volume_id, "Size": 5}),
        (other.copy_volumes, {"SourceVolumeId": volume_id}),
        (other.delete_volume, {"VolumeId": volume_id}),
        (other.detach_volume, {"VolumeId": volume_id}),
        (other.create_snapshot, {"VolumeId": volume_id}),
        (other.create_tags, {"Resources": [volume_id], "Tags": [{"Key": "a", "Value": "b"}]}),
        (other.delete_tags, {"Resources": [volume_id]}),
    ]
    for call, params in of_volume:
        assert code(call, **params) == "InvalidVolume.NotFound"
    of_instance: list[tuple[Any, dict[str, Any]]] = [
        (other.describe_instances, {"InstanceIds": [instance_id]}),
        (other.terminate_instances, {"InstanceIds": [instance_id]}),
        (other.create_snapshots, {"InstanceSpecification": {"InstanceId": instance_id}}),
        (other.modify_instance_attribute, {"InstanceId": instance_id}),
    ]
    for call, params in of_instance:
        assert code(call, **params) == "InvalidInstanceID.NotFound"
