"""Which requests run together, who waits for whom, and what a freeze keeps out."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from random import Random

import pytest

from ebsim.errors import Conflict
from ebsim.volumes.request_gate import FreezeTimedOut, RequestGate
from ebsim.waiting import wait_until

PATIENCE = 30.0  # seconds until a test that hangs is a failure
WAITERS_MAX = 8


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(WAITERS_MAX) as made:
        yield made


class Waiting:
    """A gate whose waiting requests can be counted, so that a test knows that they do wait."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.gate = RequestGate()
        self._pool = pool

    def start(self, kind: str, start: int, stop: int) -> "Future[int]":
        """Begin a request that has to wait; returns once it does."""
        before = self.count()
        future = self._pool.submit(getattr(self.gate, f"begin_{kind}"), start, stop)
        assert wait_until(lambda: self.count() == before + 1 or future.done(), PATIENCE)
        assert not future.done(), "the request was to wait"
        return future

    def count(self) -> int:
        return len(self.gate._waiting)  # noqa: SLF001 - nothing public tells who waits


def admitted(future: "Future[int]") -> int:
    return future.result(PATIENCE)


@pytest.mark.parametrize(
    ("running", "arriving", "is_admitted"),
    [
        (("read", 0, 10), ("read", 5, 15), True),
        (("read", 0, 10), ("write", 9, 15), False),
        (("read", 0, 10), ("write", 10, 15), True),
        (("write", 5, 10), ("write", 0, 6), False),
        (("write", 5, 10), ("write", 0, 5), True),
        (("write", 5, 10), ("read", 6, 7), False),
        (("fill", 5, 10), ("read", 6, 7), False),
        (("fill", 5, 10), ("write", 0, 100), False),
        (("fill", 5, 10), ("write", 10, 100), True),
    ],
)
def test_requests_that_overlap_run_together_only_if_all_read(
    running: tuple[str, int, int], arriving: tuple[str, int, int], *, is_admitted: bool
) -> None:
    gate = RequestGate()
    token = getattr(gate, f"begin_{running[0]}")(*running[1:])
    attempt = getattr(gate, f"try_begin_{arriving[0]}")
    assert bool(attempt(*arriving[1:])) == is_admitted
    gate.end(token)
    if not is_admitted:
        assert attempt(*arriving[1:])


def test_a_stream_of_readers_does_not_keep_a_writer_out(pool: ThreadPoolExecutor) -> None:
    waiting = Waiting(pool)
    gate = waiting.gate
    first = gate.begin_read(0, 10)
    writer = waiting.start("write", 5, 6)
    assert gate.try_begin_read(5, 6) == 0, "a later reader goes past the writer"
    assert gate.try_begin_read(6, 10), "a reader of another range waits"
    late = waiting.start("read", 5, 6)
    gate.end(first)
    token = admitted(writer)
    assert not late.done()
    gate.end(token)
    gate.end(admitted(late))


def test_who_waits_for_a_turn_goes_when_the_one_before_did(pool: ThreadPoolExecutor) -> None:
    """Two readers wait behind a writer: both go when it is through, not one after the other."""
    waiting = Waiting(pool)
    first = waiting.gate.begin_read(0, 10)
    writer = waiting.start("write", 0, 10)
    readers = [waiting.start("read", 0, 10) for _ in range(3)]
    waiting.gate.end(first)
    waiting.gate.end(admitted(writer))
    assert len({admitted(reader) for reader in readers}) == 3


def test_frozen_writes_wait_while_reads_and_fills_go_on(pool: ThreadPoolExecutor) -> None:
    waiting = Waiting(pool)
    gate = waiting.gate
    gate.freeze(PATIENCE)
    assert gate.is_frozen
    writer = waiting.start("write", 0, 10)
    assert gate.try_begin_write(50, 60) == 0
    gate.end(gate.begin_read(0, 10))
    gate.end(gate.begin_fill(0, 10))
    assert not writer.done()
    assert gate.thaw()
    gate.end(admitted(writer))
    assert not gate.thaw(), "it was thawed before"


def test_a_freeze_waits_for_the_writes_that_are_in(pool: ThreadPoolExecutor) -> None:
    gate = RequestGate()
    tokens = [gate.begin_write(0, 10), gate.begin_write(10, 20)]
    gate.begin_read(20, 30)
    frozen = pool.submit(gate.freeze, PATIENCE)
    assert wait_until(lambda: gate.is_frozen, PATIENCE)
    assert gate.try_begin_write(40, 50) == 0
    for token in tokens:
        assert not frozen.done()
        gate.end(token)
    frozen.result(PATIENCE)


def test_a_write_that_is_stuck_ends_the_freeze_and_others_go_on(pool: ThreadPoolExecutor) -> None:
    waiting = Waiting(pool)
    gate = waiting.gate
    stuck = gate.begin_write(0, 10)
    frozen = pool.submit(gate.freeze, 0.2)
    assert wait_until(lambda: gate.is_frozen or frozen.done(), PATIENCE)
    later = pool.submit(gate.begin_write, 20, 30)
    with pytest.raises(FreezeTimedOut, match=r"1 writes did not end within 0\.2 s"):
        frozen.result(PATIENCE)
    assert not gate.is_frozen
    gate.end(admitted(later))
    gate.end(stuck)
    gate.freeze(0.0)


def test_a_second_freeze_is_refused_and_the_first_stays() -> None:
    gate = RequestGate()
    gate.freeze(0.0)
    with pytest.raises(Conflict, match="frozen already"):
        gate.freeze(PATIENCE)
    assert gate.is_frozen


def test_many_threads_never_overlap_where_they_must_not() -> None:
    """Each request checks, while it runs, who else is in its range."""
    gate, lock = RequestGate(), threading.Lock()
    inside: dict[int, tuple[str, int, int]] = {}
    faults: list[str] = []
    frozen_since = [False]

    def request(kind: str, start: int, stop: int) -> None:
        token = getattr(gate, f"begin_{kind}")(start, stop)
        with lock:
            if kind == "write" and frozen_since[0]:
                faults.append("a write ran while frozen")
            for other, low, high in inside.values():
                if start < high and low < stop and {kind, other} != {"read"}:
                    faults.append(f"{kind} {start}-{stop} beside {other} {low}-{high}")
            inside[token] = (kind, start, stop)
        with lock:
            del inside[token]
        gate.end(token)

    def client(seed: int) -> None:
        random = Random(seed)
        for _ in range(400):
            start = random.randrange(30)
            kind = random.choice(["read", "read", "write", "fill"])
            request(kind, start, start + random.randint(1, 10))

    def freezer() -> None:
        for _ in range(50):
            gate.freeze(PATIENCE)
            with lock:
                frozen_since[0] = True
            with lock:
                frozen_since[0] = False
            gate.thaw()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(7) as pool:
            running = [pool.submit(client, seed) for seed in range(6)] + [pool.submit(freezer)]
            for future in running:
                future.result(PATIENCE)
    finally:
        sys.setswitchinterval(interval)
    assert faults == []
    assert gate.try_begin_write(0, 100), "somebody was left in the gate"


def test_a_freeze_without_time_is_given_up_at_once_when_somebody_writes() -> None:
    gate = RequestGate()
    gate.begin_write(0, 1)
    with pytest.raises(FreezeTimedOut):
        gate.freeze(0.0)
    assert not gate.is_frozen
    assert gate.try_begin_write(1, 2)
