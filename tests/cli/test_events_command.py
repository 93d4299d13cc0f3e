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


def test_a_sink_is_added_delivered_to_shown_and_removed(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    log = store.work / "log"
    assert run(store, "events", "sink", "add", "audit", "--log", str(log)) == 0
    delete(store)
    assert run(store, "events", "deliver") == 0
    assert json.loads(log.read_text())["detail"]["event"] == "deleteSnapshot"
    assert run(store, "--output", "json", "events", "sink", "ls") == 0
    printed = capsys.readouterr()
    assert printed.err == "audit: 1 event delivered\n"
    _, _, shown = printed.out.partition("\n")
    assert json.loads(shown)["Sinks"][0]["WaitingCount"] == 0
    assert run(store, "events", "sink", "rm", "audit") == 0


def test_a_sink_that_takes_nothing_is_told(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(store, "events", "sink", "add", "x", "--command", "false", "--from-beginning") == 0
    assert run(store, "events", "deliver") == 4
    assert capsys.readouterr().err == "x: false ended with code 1; 1 event waiting\n"
    assert run(store, "events", "sink", "add", "y") == 2
