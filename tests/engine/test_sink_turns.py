"""Sinks that are slow, hang or fail, and the others beside them."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ebsim.engine.event_sinks import remove_sink
from ebsim.engine.region import Region
from ebsim.engine.sink_turns import SinkTurns
from ebsim.waiting import wait_until
from tests.engine.test_event_delivery import add_hook, add_log, causes_in, causes_of, happen
from tests.engine.webhook_server import Webhook, webhook

PATIENCE = 60.0


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as served:
        yield served


@pytest.fixture
def turns() -> Iterator[SinkTurns]:
    told: list[str] = []
    with closing(SinkTurns(told.append, thread_count=2)) as made:
        yield made
    assert told == []


def has(log: Path, *causes: str) -> bool:
    return log.exists() and causes_in(log) == list(causes)


def test_a_sink_that_hangs_holds_up_no_other(
    region: Region, hook: Webhook, turns: SinkTurns, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    add_hook(region, hook)
    add_log(region, log)
    hook.goes_on.clear()
    happen(region, "a", "b")
    turns.begin(region)
    assert wait_until(lambda: has(log, "a", "b"), PATIENCE)
    assert wait_until(lambda: len(hook.received) == 1, PATIENCE)

    happen(region, "c")
    # Its turn may not be over at the moment at which the log has what it wrote.
    assert wait_until(lambda: turns.begin(region) or has(log, "a", "b", "c"), PATIENCE)

    assert set(causes_of(hook)) == {"a"}
    hook.goes_on.set()
    assert wait_until(lambda: turns.begin(region) or "c" in causes_of(hook), PATIENCE)
    assert list(dict.fromkeys(causes_of(hook))) == ["a", "b", "c"]


def test_a_sink_has_one_turn_at_a_time(region: Region, hook: Webhook, turns: SinkTurns) -> None:
    add_hook(region, hook)
    hook.goes_on.clear()
    happen(region, "a", "b")
    for _ in range(4):
        turns.begin(region)
    assert wait_until(lambda: len(hook.received) == 1, PATIENCE)
    hook.goes_on.set()
    turns.close()
    assert causes_of(hook)[0] == "a"
    assert causes_of(hook).count("a") == 1


def test_nothing_begins_after_the_end_and_the_next_one_goes_on(
    region: Region, turns: SinkTurns, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    add_log(region, log)
    happen(region, "a")
    turns.close()
    turns.begin(region)
    assert not log.exists()
    with closing(SinkTurns(lambda text: pytest.fail(text))) as later:
        later.begin(region)
        assert wait_until(lambda: has(log, "a"), PATIENCE)


def test_a_sink_that_is_removed_during_its_turn_ends_no_other(
    region: Region, hook: Webhook, turns: SinkTurns, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    add_hook(region, hook)
    add_log(region, log)
    hook.goes_on.clear()
    happen(region, "a")
    turns.begin(region)
    assert wait_until(lambda: len(hook.received) == 1, PATIENCE)
    remove_sink(region, "hook")
    hook.goes_on.set()
    happen(region, "b")
    assert wait_until(lambda: turns.begin(region) or has(log, "a", "b"), PATIENCE)
