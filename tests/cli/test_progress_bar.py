"""The bar itself, drawn on a terminal in memory."""

import io
import threading

import pytest
from rich.console import Console

from ebsim.cli.progress_bar import ProgressBar

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)


def drawn_on(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_end_draws_what_was_counted_since_the_last_drawing() -> None:
    console = terminal()
    with ProgressBar(console) as bar:
        bar.begin("reading", 4 << 20)
        for _ in range(4):
            bar.advance(1 << 20)
        bar.end()
    assert "4.0/4.0 MiB" in drawn_on(console)


def test_advances_from_many_threads_are_all_counted() -> None:
    console = terminal()
    with ProgressBar(console) as bar:
        bar.begin("reading", 8000 << 10)

        def work() -> None:
            for _ in range(1000):
                bar.advance(1 << 10)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bar.end()
    assert "7.8/7.8 MiB" in drawn_on(console)


def test_a_total_that_nobody_knows_is_shown_as_unknown() -> None:
    console = terminal()
    with ProgressBar(console) as bar:
        bar.begin("reading standard input", None)
        bar.advance(3 << 20)
        bar.end()
    assert "3.0/? MiB" in drawn_on(console)


def test_a_name_is_shown_as_it_is_and_not_as_markup() -> None:
    console = terminal()
    with ProgressBar(console) as bar:
        bar.begin("reading [red]disk[/red].img", 1)
    assert "[red]disk[/red].img" in drawn_on(console)


def test_work_that_fails_gives_the_cursor_back() -> None:
    console = terminal()

    def work() -> None:
        with ProgressBar(console) as bar:
            bar.begin("reading", 10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert drawn_on(console).rindex(SHOW_CURSOR) > drawn_on(console).rindex(HIDE_CURSOR)


def test_an_advance_after_the_end_is_harmless() -> None:
    """A thread may be a moment late."""
    console = terminal()
    bar = ProgressBar(console)
    bar.begin("reading", 10)
    bar.end()
    before = drawn_on(console)
    bar.advance(10)
    bar.end()
    assert drawn_on(console) == before
