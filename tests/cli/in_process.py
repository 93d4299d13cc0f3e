"""The command line run in the test's own process: most of a command's time is its start."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from ebsim.cli.main import main


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


class CommandLine:
    """``ebsim`` on the stores of *home*.  What it prints is taken from *printed*."""

    def __init__(self, home: Path, printed: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self._printed = printed

    def run(self, *arguments: str) -> Done:
        self._printed.readouterr()
        with _same_process(self.home):
            code = main([*arguments])
        return Done(int(code), *self._printed.readouterr())

    def told(self, *arguments: str) -> str:
        """What a command that must succeed prints, without the newline at its end."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@contextmanager
def _same_process(home: Path) -> Iterator[None]:
    """``main`` owns its process; here it must give back what it changes."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    variables = {name: text for name, text in os.environ.items() if name.startswith("EBSIM_")}
    for name in variables:
        del os.environ[name]
    os.environ["EBSIM_HOME"] = str(home)
    try:
        yield
    finally:
        del os.environ["EBSIM_HOME"]
        os.environ.update(variables)
        for number, handler in handlers.items():
            signal.signal(number, handler)
