"""Sessions: alive as long as their process, dead at once after it, cleared by one."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from ebsim.chunkstore.sessions import Sessions


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path, Random(1))


@contextmanager
def other_process(directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process with a session open, and the session's id."""
    command = [sys.executable, "-m", "tests.chunkstore.session_process", str(directory)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_an_open_session_is_alive_and_not_dead(sessions):
    session = sessions.open()
    assert sessions.is_alive(session.session_id)
    assert sessions.dead() == []
    session.close()


def test_a_closed_session_leaves_nothing(sessions, tmp_path):
    session = sessions.open()
    session.close()
    session.close()
    assert not sessions.is_alive(session.session_id)
    assert list(tmp_path.iterdir()) == []


def test_an_abandoned_session_is_dead_until_it_is_cleared(sessions, tmp_path):
    session = sessions.open()
    session.abandon()
    assert not sessions.is_alive(session.session_id)
    assert sessions.dead() == [session.session_id]
    with sessions.clearing(session.session_id) as is_dead:
        assert is_dead
    assert sessions.dead() == []
    assert list(tmp_path.iterdir()) == []


def test_clearing_that_fails_leaves_the_session_for_the_next(sessions):
    session = sessions.open()
    session.abandon()
    with pytest.raises(KeyboardInterrupt), sessions.clearing(session.session_id):
        raise KeyboardInterrupt
    assert sessions.dead() == [session.session_id]


def test_a_living_session_is_not_cleared(sessions):
    session = sessions.open()
    with sessions.clearing(session.session_id) as is_dead:
        assert not is_dead
    assert sessions.is_alive(session.session_id)
    session.close()


def test_only_one_clears_a_session(sessions):
    session = sessions.open()
    session.abandon()
    with (
        sessions.clearing(session.session_id) as first,
        sessions.clearing(session.session_id) as second,
    ):
        assert (first, second) == (True, False)


def test_a_session_that_never_was_is_neither_alive_nor_dead(sessions):
    assert not sessions.is_alive("0" * 16)
    with sessions.clearing("0" * 16) as is_dead:
        assert not is_dead


def test_pack_names_are_the_sessions_own_and_never_repeat(sessions):
    one, other = sessions.open(), sessions.open()
    names = [session.next_pack_name() for session in (one, other) for _ in range(50)]
    assert len(set(names)) == 100
    assert all(name.startswith(f"packs/{one.session_id}-") for name in names[:50])
    for session in (one, other):
        session.close()


@pytest.mark.slow
def test_a_killed_process_is_dead_at_once(sessions, tmp_path):
    with other_process(tmp_path) as (process, session_id):
        assert sessions.is_alive(session_id)
        assert sessions.dead() == []
        process.kill()
        process.wait()
        assert not sessions.is_alive(session_id)
        assert sessions.dead() == [session_id]


@pytest.mark.slow
def test_a_process_that_ends_well_leaves_no_session(sessions, tmp_path):
    with other_process(tmp_path) as (process, session_id):
        assert sessions.is_alive(session_id)
        process.communicate("")
        assert not sessions.is_alive(session_id)
    assert sessions.dead() == []


@pytest.mark.slow
def test_sessions_made_while_others_clear_are_alive_all_the_same(sessions):
    """A file made and not yet locked may be taken for a dead session's, and removed."""
    stop = threading.Event()
    cleared: list[str] = []

    def clear() -> None:
        while not stop.is_set():
            for session_id in sessions.dead():
                with sessions.clearing(session_id) as is_dead:
                    if is_dead:
                        cleared.append(session_id)

    with ThreadPoolExecutor(2) as pool:
        clearing = [pool.submit(clear) for _ in range(2)]
        try:
            opened = [sessions.open() for _ in range(300)]
        finally:
            stop.set()
        for future in clearing:
            future.result()
    ids = {session.session_id for session in opened}
    assert len(ids) == 300
    assert not ids & set(cleared)
    assert all(sessions.is_alive(session_id) for session_id in ids)
    for session in opened:
        session.close()
    assert sessions.dead() == []
