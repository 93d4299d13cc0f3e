"""A server sends events and runs schedules by itself."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.api.chores import Chores
from ebsim.api.dispatch import Desk
from ebsim.api.upkeep import delivering, scheduling
from ebsim.clock import ManualClock, from_iso8601
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.event_sinks import SinkKind, SinkOptions, add_sink
from ebsim.engine.list_snapshots import list_snapshots
from ebsim.engine.region import Region
from ebsim.engine.sink_turns import SinkTurns
from ebsim.waiting import wait_until
from tests.api.conftest import ACCOUNT, ClientMaker, Serving
from tests.api.test_lifecycle_policies import DETAILS, POLICY
from tests.cli.processes import run_ebsim


@pytest.fixture
def region_clock() -> ManualClock:
    return ManualClock(from_iso8601("2026-01-01T12:00:00Z"))


@pytest.fixture
def mine(region: Region) -> Region:
    return replace(region, account_id=ACCOUNT)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(Random(1).randbytes(1 << 20))
    return path


def names_in(log: Path) -> list[str]:
    return [json.loads(line)["detail"]["event"] for line in log.read_text().splitlines()]


def test_events_of_every_region_are_sent(desk: Desk, mine: Region, image: Path) -> None:
    log = image.with_name("log")
    told: list[str] = []
    turns = SinkTurns(told.append)
    chores = Chores(desk.regions, told.append, [delivering(turns)])
    add_sink(mine, "log", SinkOptions(kind=SinkKind.LOG, target=str(log), is_of_home=True))
    create_snapshot(mine, str(image))
    create_snapshot(
        replace(desk.regions.region("eu-west-1", create=True), account_id=ACCOUNT), str(image)
    )
    chores.run_due()
    assert wait_until(lambda: log.exists() and len(names_in(log)) == 2, 60)
    turns.close()
    assert names_in(log) == ["createSnapshot", "createSnapshot"]
    assert told == []


def test_a_schedule_is_run_when_it_is_due(
    desk: Desk, mine: Region, image: Path, client: ClientMaker, region_clock: ManualClock
) -> None:
    volume_id = create_snapshot(mine, str(image)).volume_id
    client("ec2").create_tags(Resources=[volume_id], Tags=[{"Key": "backup", "Value": "yes"}])
    schedule = {
        **DETAILS["Schedules"][0],
        "CrossRegionCopyRules": [{"TargetRegion": "eu-west-1", "Encrypted": False}],
    }
    details = {**DETAILS, "Schedules": [schedule]}
    client("dlm").create_lifecycle_policy(**{**POLICY, "PolicyDetails": details})
    told: list[str] = []
    chore = scheduling(desk.regions, told.append)
    for _ in range(5 * 24):
        region_clock.advance(3600)
        chore.run(mine)
    other = replace(desk.regions.region("eu-west-1", create=False), account_id=ACCOUNT)
    assert len(list_snapshots(mine).snapshots) == 1 + 2
    assert len(list_snapshots(other).snapshots) == 5
    assert told == []


def test_a_schedule_is_run_at_once_when_its_time_comes(
    desk: Desk, mine: Region, image: Path, client: ClientMaker, region_clock: ManualClock
) -> None:
    volume_id = create_snapshot(mine, str(image)).volume_id
    client("ec2").create_tags(Resources=[volume_id], Tags=[{"Key": "backup", "Value": "yes"}])
    client("dlm").create_lifecycle_policy(**POLICY)
    chore = scheduling(desk.regions, lambda text: pytest.fail(text))
    counts = []
    for time in ("2026-01-02T02:59:59Z", "2026-01-02T03:00:00Z"):
        region_clock.advance((from_iso8601(time) - region_clock.now_ns()) / 1e9)
        chore.run(mine)
        counts.append(len(list_snapshots(mine).snapshots))
    assert counts == [1, 2]


def test_what_fails_is_told_once(
    desk: Desk, mine: Region, image: Path, client: ClientMaker, region_clock: ManualClock
) -> None:
    volume_id = create_snapshot(mine, str(image)).volume_id
    client("ec2").create_tags(Resources=[volume_id], Tags=[{"Key": "backup", "Value": "yes"}])
    policy_id = client("dlm").create_lifecycle_policy(**POLICY)["PolicyId"]
    image.unlink()
    told: list[str] = []
    chore = scheduling(desk.regions, told.append)
    for _ in range(48):
        region_clock.advance(3600)
        chore.run(mine)
    assert len(told) == 1
    assert told[0].startswith(f"{policy_id}: daily: {volume_id}: ")


@pytest.mark.slow
def test_a_server_whose_clock_is_driven_runs_months_in_seconds(
    serve: Any, home: Path, image: Path
) -> None:
    clock, log = image.with_name("clock"), image.with_name("log")
    clock.write_text("2026-01-01T12:00:00Z")
    snapshot = json.loads(
        run_ebsim("--output", "json", "snapshot", "create", str(image), home=home).stdout
    )
    server: Serving = serve("--clock", str(clock))
    volume_id = snapshot["VolumeId"]
    server.client("ec2").create_tags(
        Resources=[volume_id], Tags=[{"Key": "backup", "Value": "yes"}]
    )
    server.client("dlm").create_lifecycle_policy(**POLICY)
    run_ebsim("events", "sink", "add", "log", "--log", str(log), "--from-beginning", home=home)
    for month in range(2, 5):
        clock.write_text(f"2026-{month:02}-01T12:00:00Z")

        def is_taken(wanted: int = month) -> bool:
            return log.exists() and names_in(log).count("createSnapshot") == wanted

        assert wait_until(is_taken, 60)
    assert wait_until(lambda: "deleteSnapshot" in names_in(log), 60)


@pytest.mark.slow
def test_a_server_with_a_chaos_file_lets_snapshots_wait_and_ends_at_once(
    serve: Any, home: Path, image: Path
) -> None:
    run_ebsim("snapshot", "create", str(image), home=home)
    chaos = image.with_name("chaos.json")
    chaos.write_text(json.dumps({"pending_seconds": 3600}))
    server: Serving = serve("--chaos", str(chaos))
    ec2 = server.client("ec2")
    (first,) = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    made = ec2.create_snapshot(VolumeId=first["VolumeId"])
    (found,) = ec2.describe_snapshots(SnapshotIds=[made["SnapshotId"]])["Snapshots"]
    assert found["State"] == "pending"
