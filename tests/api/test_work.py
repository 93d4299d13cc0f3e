"""Work that goes on after its request was answered."""

import threading
from contextlib import closing

import pytest

from ebsim.api.work import Announce, Work
from ebsim.errors import Conflict

SECONDS = 60.0


def test_the_answer_comes_before_the_work_is_done() -> None:
    bugs: list[str] = []
    go_on, done = threading.Event(), threading.Event()

    def do(announce: Announce[str]) -> None:
        announce("begun")
        assert go_on.wait(SECONDS)
        done.set()

    with closing(Work(bugs.append)) as work:
        assert work.begin(["vol-1"], do) == "begun"
        assert (work.waiting_for("vol-1"), done.is_set()) == (1, False)
        go_on.set()
    assert done.is_set()
    assert (work.waiting_for("vol-1"), bugs) == (0, [])


def test_work_on_one_thing_is_done_in_turn_and_on_others_beside_it() -> None:
    go_on = threading.Event()
    order: list[str] = []

    def slow(announce: Announce[None]) -> None:
        announce(None)
        assert go_on.wait(SECONDS)
        order.append("first")

    def second(announce: Announce[None]) -> None:
        order.append("second")
        announce(None)

    with closing(Work(order.append)) as work:
        work.begin(["a", "b"], slow)
        waiting = threading.Thread(target=lambda: work.begin(["b"], second))
        waiting.start()
        work.begin(["c"], lambda announce: announce(None))
        assert order == []
        go_on.set()
        waiting.join(SECONDS)
    assert order == ["first", "second"]


def test_what_fails_before_it_is_announced_fails_the_request() -> None:
    def do(announce: Announce[None]) -> None:
        assert callable(announce)
        raise Conflict("no")

    with closing(Work(print)) as work, pytest.raises(Conflict, match="no"):
        work.begin(["a"], do)


def test_a_bug_behind_is_told_and_a_failure_is_not() -> None:
    bugs: list[str] = []

    def fail(announce: Announce[None]) -> None:
        announce(None)
        raise Conflict("it is in the store's own record")

    def bug(announce: Announce[None]) -> None:
        announce(None)
        raise ZeroDivisionError

    with closing(Work(bugs.append)) as work:
        work.begin(["a"], fail)
        work.begin(["b"], bug)
    assert len(bugs) == 1
    assert "ZeroDivisionError" in bugs[0]
