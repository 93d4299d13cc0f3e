"""Two accounts: whatever one tries on the other's resources, it learns and changes nothing."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.api.dispatch import Desk, answer
from ebsim.api.identity import Auth
from ebsim.api.registry import ACTIONS
from ebsim.api.service_models import service
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.region import Region
from tests.api.conftest import ACCOUNT, OTHER_ACCOUNT, ClientMaker
from tests.api.fuzzed_requests import fuzzed

SEEDS = range(20)


@pytest.fixture
def owned(ec2: Any, client: ClientMaker, region: Region, tmp_path: Path) -> list[str]:
    """Ids of private things that the first account has."""
    image = tmp_path / "disk.img"
    image.write_bytes(Random(3).randbytes(1 << 16))
    snapshots = [
        create_snapshot(replace(region, account_id=ACCOUNT), str(image)).snapshot_id
        for _ in range(2)
    ]
    disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 1}}
    asked: dict[str, Any] = {"MinCount": 1, "MaxCount": 1, "BlockDeviceMappings": [disk]}
    instance = ec2.run_instances(ImageId="a", **asked)["Instances"][0]
    attached = instance["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    free = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    ids = [*map(str, snapshots), attached, free, instance["InstanceId"]]
    ec2.create_tags(Resources=[ids[0], free], Tags=[{"Key": "whose", "Value": "mine"}])
    kms = client("kms")
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/private", TargetKeyId=key_id)
    ec2.modify_ebs_default_kms_key_id(KmsKeyId=key_id)
    return [*ids, key_id]


def all_of(ec2: Any, sts: Any, kms: Any) -> dict[str, Any]:
    """Everything that an account sees of its own."""
    found = {
        "snapshots": ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"],
        "volumes": ec2.describe_volumes()["Volumes"],
        "instances": ec2.describe_instances()["Reservations"],
        "tags": ec2.describe_tags()["Tags"],
        "locks": ec2.describe_locked_snapshots()["Snapshots"],
        "bin": ec2.list_snapshots_in_recycle_bin()["Snapshots"],
        "default key": ec2.get_ebs_default_kms_key_id()["KmsKeyId"],
        "aliases": kms.list_aliases()["Aliases"],
        "who": sts.get_caller_identity()["Account"],
    }
    for one in found["snapshots"]:
        asked = {"SnapshotId": one["SnapshotId"], "Attribute": "createVolumePermission"}
        one["sharing"] = ec2.describe_snapshot_attribute(**asked)["CreateVolumePermissions"]
    return found


@pytest.mark.slow
def test_another_account_learns_and_changes_nothing(
    desk: Desk, client: ClientMaker, ec2: Any, owned: list[str]
) -> None:
    before = all_of(ec2, client("sts"), client("kms"))
    stranger = replace(desk, auth=Auth.NONE, default_account=OTHER_ACCOUNT)
    for of, actions in ACTIONS.items():
        served = service(of)
        for name in actions:
            for seed in SEEDS:
                random = Random(f"{of} {name} {seed}")
                request = fuzzed(served, served.operation(name), random, owned)
                found = answer(stranger, request)
                told = [one for one in owned if one.encode() in found.body]
                assert found.status >= 400 or not told, (name, request, found.body)
    assert all_of(ec2, client("sts"), client("kms")) == before
