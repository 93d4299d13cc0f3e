"""``ebsim events``: what it prints, and that following goes on."""

import json
import subprocess
from contextlib import closing

import pytest

from ebsim.cli.main import main
from ebsim.cli.settings import DEFAULT_ACCOUNT, DEFAULT_REGION
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.region import open_region
from ebsim.ids import AccountId
from tests.cli.conftest import Store
from tests.cli.processes import command, environment


def delete(store: Store) -> None:
    with closing(open_region(store.home, DEFAULT_REGION, AccountId(DEFAULT_ACCOUNT))) as region:
        delete_snapshots(region, [store.snapshot_id])


def run(store: Store, *arguments: str) -> int:
    return main(["--home", str(store.home), *arguments])


def test_json_is_what_eventbridge_sends(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(store, "--output", "json", "events") == 0
    (event,) = json.loads(capsys.readouterr().out)["Events"]
    assert event["source"] == "aws.ec2"
    assert event["detail"]["event"] == "createSnapshot"
    assert event["resources"] == [f"arn:aws:ec2::us-east-1:snapshot/{store.snapshot_id}"]


def test_the_table_marks_what_amazon_does_not_have(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    delete(store)
    assert run(store, "events", "--limit", "1", "--since", "1d") == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["time", "event", "result", "resource", "cause"]
    assert row.split()[1:] == ["deleteSnapshot", "(ebsim)", "succeeded", store.snapshot_id, "-"]


def test_a_pattern_chooses(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    delete(store)
    pattern = '{"detail": {"event": [{"prefix": "create"}]}}'
    assert run(store, "--output", "json", "events", "--pattern", pattern) == 0
    assert len(json.loads(capsys.readouterr().out)["Events"]) == 1
    assert run(store, "events", "--since", "2099-01-01T00:00:00Z") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--pattern", "{}"], "Event pattern is not valid"),
        (["--pattern", '{"detail": {"ip": [{"cidr": "10.0.0.0/8"}]}}'], "'cidr'"),
        (["--since", "yesterday"], "is not a time"),
        (["--limit", "0"], "limit"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str], reason: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(store, "events", *arguments) in {2, 5}
    printed = capsys.readouterr()
    assert printed.out == ""
    assert reason in printed.err


@pytest.mark.slow
def test_following_goes_on_with_what_happens(store: Store) -> None:
    process = subprocess.Popen(
        command("--output", "json", "events", "--follow", "--limit", "1"),
        env=environment(store.home),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        delete(store)
        second = json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.communicate()
    assert [first["detail"]["event"], second["detail"]["event"]] == [
        "createSnapshot",
        "deleteSnapshot",
    ]
