"""Fast snapshot restore, through boto3."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.clock import ManualClock
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.fast_restore import advance_fast_restores
from ebsim.engine.region import Region
from tests.api.conftest import ACCOUNT, OTHER_ACCOUNT, ClientMaker
from tests.api.refusals import code

NOTHING = f"snap-{0:017x}"


@pytest.fixture
def region_clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def snapshot_id(region: Region, tmp_path: Path) -> str:
    image = tmp_path / "disk.img"
    image.write_bytes(Random(3).randbytes(1 << 20))
    return str(create_snapshot(replace(region, account_id=ACCOUNT), str(image)).snapshot_id)


def states(ec2: Any, **params: object) -> dict[str, str]:
    found = ec2.describe_fast_snapshot_restores(**params)["FastSnapshotRestores"]
    return {one["AvailabilityZone"]: one["State"] for one in found}


def test_it_is_enabled_used_and_disabled_zone_by_zone(
    ec2: Any, region: Region, snapshot_id: str, region_clock: ManualClock
) -> None:
    zones = ["us-east-1a", "us-east-1b"]
    done = ec2.enable_fast_snapshot_restores(
        AvailabilityZones=zones, SourceSnapshotIds=[snapshot_id]
    )
    assert [one["State"] for one in done["Successful"]] == ["enabling", "enabling"]
    assert done["Unsuccessful"] == []
    assert done["Successful"][1]["AvailabilityZoneId"] == "use1-az2"
    advance_fast_restores(region)
    assert states(ec2) == dict.fromkeys(zones, "enabled")
    region_clock.advance(360)
    made = [
        ec2.create_volume(AvailabilityZone=zone, SnapshotId=snapshot_id)["VolumeId"]
        for zone in ("us-east-1a", "us-east-1c")
    ]
    found = ec2.describe_volumes(VolumeIds=made)["Volumes"]
    fast = {one["VolumeId"]: one["FastRestored"] for one in found}
    assert [fast[volume_id] for volume_id in made] == [True, False]
    (named,) = ec2.describe_volumes(Filters=[{"Name": "fast-restored", "Values": ["true"]}])[
        "Volumes"
    ]
    assert named["VolumeId"] == made[0]
    disabled = ec2.disable_fast_snapshot_restores(
        AvailabilityZoneIds=["use1-az1"], SourceSnapshotIds=[snapshot_id]
    )
    assert [one["State"] for one in disabled["Successful"]] == ["disabling"]
    advance_fast_restores(region)
    assert states(ec2) == {"us-east-1a": "disabled", "us-east-1b": "enabled"}
    (one,) = ec2.describe_fast_snapshot_restores(Filters=[{"Name": "state", "Values": ["dis*"]}])[
        "FastSnapshotRestores"
    ]
    assert (one["SnapshotId"], one["OwnerId"]) == (snapshot_id, ACCOUNT)
    assert {"EnablingTime", "OptimizingTime", "EnabledTime", "DisabledTime"} <= one.keys()


def test_what_cannot_be_enabled_is_told_snapshot_by_snapshot(
    ec2: Any, client: ClientMaker, snapshot_id: str
) -> None:
    done = ec2.enable_fast_snapshot_restores(
        AvailabilityZones=["us-east-1a"], SourceSnapshotIds=[NOTHING, snapshot_id]
    )
    assert [one["SnapshotId"] for one in done["Successful"]] == [snapshot_id]
    (refused,) = done["Unsuccessful"]
    (error,) = refused["FastSnapshotRestoreStateErrors"]
    assert (refused["SnapshotId"], error["Error"]["Code"]) == (NOTHING, "InvalidSnapshot.NotFound")
    other = client("ec2", OTHER_ACCOUNT)
    for call in (other.enable_fast_snapshot_restores, other.disable_fast_snapshot_restores):
        done = call(AvailabilityZones=["us-east-1a"], SourceSnapshotIds=[snapshot_id])
        assert (done["Successful"], len(done["Unsuccessful"])) == ([], 1)
    assert states(other) == {}
    assert states(ec2) == {"us-east-1a": "enabling"}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"AvailabilityZones": ["eu-west-1a"]}, "InvalidParameterValue"),
        ({"AvailabilityZoneIds": ["x"]}, "InvalidParameterValue"),
        ({}, "InvalidParameterCombination"),
        (
            {"AvailabilityZones": ["us-east-1a"], "AvailabilityZoneIds": ["use1-az1"]},
            "InvalidParameterCombination",
        ),
    ],
)
def test_zones_that_make_no_sense_are_refused(
    ec2: Any, snapshot_id: str, params: dict[str, list[str]], expected: str
) -> None:
    asked = {"SourceSnapshotIds": [snapshot_id], **params}
    assert code(ec2.enable_fast_snapshot_restores, **asked) == expected
    assert states(ec2) == {}


def test_they_are_listed_a_page_at_a_time(ec2: Any, snapshot_id: str) -> None:
    zones = [f"us-east-1{letter}" for letter in "abc"]
    ec2.enable_fast_snapshot_restores(AvailabilityZones=zones, SourceSnapshotIds=[snapshot_id])
    pages = ec2.get_paginator("describe_fast_snapshot_restores").paginate(
        PaginationConfig={"PageSize": 2}
    )
    found = [[one["AvailabilityZone"] for one in page["FastSnapshotRestores"]] for page in pages]
    assert found == [zones[:2], zones[2:]]
