"""Every event reaches every sink that wants it, in order, whatever breaks off where."""

import hashlib
import hmac
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.catalog.event import Event
from ebsim.clock import ManualClock
from ebsim.durable_files import Files
from ebsim.engine.deliver_events import RETRY_LAST_SECONDS, Delivery, deliver_events
from ebsim.engine.event_delivery import deliver
from ebsim.engine.event_sinks import (
    Sink,
    SinkKind,
    SinkOptions,
    add_sink,
    list_sinks,
    remove_sink,
    show_sinks,
    sink_lock,
)
from ebsim.engine.record_events import snapshot_created
from ebsim.engine.region import Region
from ebsim.errors import Conflict, InvalidRequest, NotFound
from ebsim.metadata.transactions import Metadata, Reader, Transaction
from tests.engine.stores import OTHER_ACCOUNT, open_store
from tests.engine.test_events import SNAPSHOT, all_events
from tests.engine.webhook_server import Webhook, webhook

T = TypeVar("T")

EVENT = Event("id", "EBS Volume Notification", "aws.ec2", OTHER_ACCOUNT, 0, "test", (), {})


def happen(region: Region, *causes: str) -> None:
    """An event for each of *causes*, by which it is known again."""
    for cause in causes:
        region.metadata.run(
            lambda txn, cause=cause: snapshot_created(txn, region, SNAPSHOT, cause)  # type: ignore[misc]
        )


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as served:
        yield served


def causes_of(hook: Webhook) -> list[str]:
    return [one.event["detail"]["cause"] for one in hook.received]


def causes_in(log: Path) -> list[str]:
    return [json.loads(line)["detail"]["cause"] for line in log.read_text().splitlines()]


def add_hook(region: Region, hook: Webhook, **options: Any) -> Sink:
    return add_sink(region, "hook", SinkOptions(kind=SinkKind.WEBHOOK, target=hook.url, **options))


def add_log(region: Region, log: Path, name: str = "log", **options: Any) -> Sink:
    return add_sink(region, name, SinkOptions(kind=SinkKind.LOG, target=str(log), **options))


def test_a_log_gets_each_event_as_a_line_of_json(region: Region, tmp_path: Path) -> None:
    happen(region, "before")
    add_log(region, tmp_path / "log")
    happen(region, "a", "b")
    (told,) = deliver_events(region)
    assert (told.delivered_count, told.waiting_count, told.error) == (2, 0, "")
    assert causes_in(tmp_path / "log") == ["a", "b"]
    assert [one.delivered_count for one in deliver_events(region)] == [0]


def test_a_log_may_begin_at_the_beginning(region: Region, tmp_path: Path) -> None:
    happen(region, "a")
    add_log(region, tmp_path / "log", from_beginning=True)
    deliver_events(region)
    assert causes_in(tmp_path / "log") == ["a"]


@given(whole=st.lists(st.sampled_from(["a", "bc"]), max_size=3), torn=st.text("xyz", max_size=3))
def test_a_torn_line_of_a_log_is_taken_away(
    whole: list[str], torn: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    log = tmp_path_factory.mktemp("log") / "log"
    log.write_text("".join(f"{line}\n" for line in whole) + torn)
    sink = Sink("log", SinkKind.LOG, str(log), "", 0, is_of_home=False)
    deliver(Files(), sink, EVENT, now_ns=0)
    *before, last = log.read_text().splitlines()
    assert before == whole
    assert json.loads(last)["id"] == EVENT.event_id


def test_a_webhook_gets_a_signed_request(
    region: Region, hook: Webhook, clock: ManualClock
) -> None:
    sink = add_hook(region, hook)
    happen(region, "a")
    deliver_events(region)
    (received,) = hook.received
    stamp = str(clock.now_ns() // 10**9)
    signed = hmac.new(sink.secret.encode(), stamp.encode() + b"." + received.body, hashlib.sha256)
    assert received.path == "/hook?of=test"
    assert received.headers["X-Ebsim-Signature"] == f"sha256={signed.hexdigest()}"
    assert received.headers["X-Ebsim-Timestamp"] == stamp
    assert received.headers["X-Ebsim-Event-Id"] == received.event["id"]
    assert received.event["detail"]["cause"] == "a"


def test_a_webhook_that_fails_is_tried_again_ever_later_and_in_order(
    region: Region, hook: Webhook, clock: ManualClock
) -> None:
    add_hook(region, hook)
    happen(region, "a", "b")
    hook.answers = [500, 302, 404]
    seconds = []
    for second in range(10):
        before = len(hook.received)
        deliver_events(region)
        if len(hook.received) > before:
            seconds.append(second)
        clock.advance(1)
    assert seconds == [0, 1, 3, 7]
    assert causes_of(hook) == ["a", "a", "a", "a", "b"]


def test_the_longest_wait_is_bounded(region: Region, hook: Webhook, clock: ManualClock) -> None:
    add_hook(region, hook)
    happen(region, "a")
    hook.answers = [500] * 40
    for _ in range(40):
        deliver_events(region)
        clock.advance(RETRY_LAST_SECONDS)
    (told,) = deliver_events(region)
    assert told.delivered_count == 1
    (status,) = show_sinks(region)
    assert (status.cursor.attempt_count, status.cursor.last_error) == (0, "")


def test_nobody_listening_is_a_failure_and_not_a_loss(region: Region) -> None:
    with webhook() as gone:
        pass
    add_hook(region, gone)
    happen(region, "a")
    (told,) = deliver_events(region)
    assert told.error.startswith(f"{gone.url} does not answer")
    assert told.waiting_count == 1
    (status,) = show_sinks(region)
    assert status.cursor.attempt_count == 1


def test_a_command_reads_the_event(region: Region, tmp_path: Path) -> None:
    script = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"
    command = shlex.join([sys.executable, "-c", script, str(tmp_path / "got")])
    add_sink(region, "script", SinkOptions(kind=SinkKind.COMMAND, target=command))
    happen(region, "a", "b")
    deliver_events(region)
    assert causes_in(tmp_path / "got") == ["a", "b"]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("sh -c 'echo no >&2; exit 3'", "ended with code 3: no"),
        ("/nowhere/at/all", "cannot be run"),
    ],
)
def test_a_command_that_fails_is_tried_again(region: Region, command: str, why: str) -> None:
    add_sink(region, "script", SinkOptions(kind=SinkKind.COMMAND, target=command))
    happen(region, "a")
    (told,) = deliver_events(region)
    assert why in told.error
    assert told.waiting_count == 1


def test_a_pattern_chooses_and_what_it_leaves_out_does_not_wait(
    region: Region, hook: Webhook
) -> None:
    add_hook(region, hook, pattern='{"detail": {"cause": ["b"]}}')
    happen(region, "a", "b", "c")
    (told,) = deliver_events(region)
    assert causes_of(hook) == ["b"]
    assert (told.delivered_count, told.waiting_count) == (1, 0)


def test_a_sink_that_fails_holds_up_no_other(
    region: Region, hook: Webhook, tmp_path: Path
) -> None:
    add_hook(region, hook)
    add_log(region, tmp_path / "log")
    happen(region, "a")
    hook.answers = [500]
    deliver_events(region)
    assert causes_in(tmp_path / "log") == ["a"]


def test_a_sink_of_the_home_gets_the_events_of_every_region(
    region: Region, tmp_path: Path
) -> None:
    add_log(region, tmp_path / "log", is_of_home=True)
    happen(region, "here")
    deliver_events(region)
    assert causes_in(tmp_path / "log") == ["here"]
    assert [sink.key for sink in list_sinks(region)] == ["home/log"]
    remove_sink(region, "log", is_of_home=True)


def test_a_sink_that_is_gone_keeps_no_events(region: Region, tmp_path: Path) -> None:
    add_log(region, tmp_path / "log")
    with pytest.raises(Conflict, match="a sink log already"):
        add_log(region, tmp_path / "log")
    remove_sink(region, "log")
    happen(region, "a")
    assert deliver_events(region) == []
    assert show_sinks(region) == []
    with pytest.raises(NotFound, match="no sink 'log'"):
        remove_sink(region, "log")


def test_a_secret_is_for_its_owner_alone(region: Region, hook: Webhook) -> None:
    sink = add_hook(region, hook)
    (path,) = (region.path / "event-sinks").glob("*.json")
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    assert sink.secret not in repr(sink)


@pytest.mark.parametrize(
    ("name", "kind", "target", "pattern", "why"),
    [
        ("a b", SinkKind.LOG, "/log", "", "no name"),
        ("../x", SinkKind.LOG, "/log", "", "no name"),
        ("x", SinkKind.LOG, "log", "", "absolute"),
        ("x", SinkKind.WEBHOOK, "ftp://host/", "", "no address"),
        ("x", SinkKind.WEBHOOK, "http://host:99999/", "", "no address"),
        ("x", SinkKind.WEBHOOK, "http://host/\r\nX: y", "", "no address"),
        ("x", SinkKind.WEBHOOK, "http://me:word@host/", "", "user's name"),
        ("x", SinkKind.COMMAND, "", "", "empty command"),
        ("x", SinkKind.COMMAND, "'", "", "no command"),
        ("x", SinkKind.LOG, "/log", "{}", "not valid"),
    ],
)
def test_what_is_no_sink_is_refused(
    region: Region, name: str, kind: SinkKind, target: str, pattern: str, why: str
) -> None:
    with pytest.raises(InvalidRequest, match=why):
        add_sink(region, name, SinkOptions(kind=kind, target=target, pattern=pattern))
    assert list_sinks(region) == []


class Died(Exception):
    """The process ends here."""


class DyingMetadata:
    """Metadata of a process that dies before its n-th transaction."""

    def __init__(self, metadata: Metadata, transactions_left: int) -> None:
        self._metadata = metadata
        self._left = transactions_left

    def read(self, fn: Callable[[Reader], T]) -> T:
        return self._metadata.read(fn)

    def run(self, fn: Callable[[Transaction], T]) -> T:
        if self._left == 0:
            raise Died
        self._left -= 1
        return self._metadata.run(fn)

    def close(self) -> None:
        raise AssertionError("it is not the one to close it")


@pytest.mark.parametrize("survived_count", range(5))
def test_dying_before_a_cursor_moves_gives_an_event_twice_and_loses_none(
    region: Region, hook: Webhook, survived_count: int
) -> None:
    add_hook(region, hook)
    causes = ["a", "b", "c", "d"]
    happen(region, *causes)
    dying = replace(region, metadata=DyingMetadata(region.metadata, survived_count))
    if survived_count < len(causes):
        with pytest.raises(Died):
            deliver_events(dying)
        assert causes_of(hook) == causes[: survived_count + 1]
    deliver_events(region)
    twice = causes[survived_count : survived_count + 1]
    assert sorted(causes_of(hook)) == sorted([*causes, *twice])
    assert list(dict.fromkeys(causes_of(hook))) == causes


def test_two_processes_never_deliver_to_one_sink_at_once(region: Region, tmp_path: Path) -> None:
    sink = add_log(region, tmp_path / "log")
    happen(region, "a")
    files = Files()
    other = files.open_or_create(sink_lock(region, sink))
    files.lock(other)
    assert deliver_events(region) == []
    files.close(other)
    assert [one.delivered_count for one in deliver_events(region)] == [1]


def test_being_told_to_stop_ends_between_two_events(region: Region, hook: Webhook) -> None:
    add_hook(region, hook)
    happen(region, "a", "b", "c")
    (told,) = deliver_events(region, should_stop=lambda: len(hook.received) >= 2)
    assert told.delivered_count == 2
    deliver_events(region)
    assert causes_of(hook) == ["a", "b", "c"]


@pytest.mark.slow
def test_killing_whoever_delivers_loses_no_event(tmp_path: Path) -> None:
    region = open_store(tmp_path / "home")
    log, causes = tmp_path / "log", [str(number) for number in range(200)]
    add_log(region, log)
    happen(region, *causes)
    for written_count in (5, 60, 120):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.delivery_process", str(region.home)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        while process.poll() is None:
            if log.exists() and log.read_bytes().count(b"\n") >= written_count:
                process.kill()
        process.communicate()
    found: list[Delivery] = deliver_events(region)
    assert [one.waiting_count for one in found] == [0]
    assert list(dict.fromkeys(causes_in(log))) == causes
    assert len(causes_in(log)) <= len(causes) + 3
    assert len(all_events(region)) == len(causes)
    region.close()
