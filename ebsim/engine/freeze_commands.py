"""Commands that make whoever writes to a disk hold still: ``fsfreeze``, ``virsh domfsfreeze``."""

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from ebsim.errors import Conflict, InvalidRequest

_COMMAND_SECONDS = 60.0


@contextmanager
def frozen_by(freeze_command: str, thaw_command: str) -> Iterator[None]:
    """Run *freeze_command*, then the body, then *thaw_command*, whatever happens.

    Commands are split as a shell splits them, and run without one.

    Raises:
        InvalidRequest: one is empty, or its quotes do not match.
        Conflict: the first failed or took longer than a minute (the second was run all the
            same), or the second did.
    """
    freeze, thaw = _split(freeze_command), _split(thaw_command)
    try:
        _run(freeze, "No snapshot was made.")
        yield
    finally:
        _run(thaw, "What was frozen may be frozen still: run the command yourself.")


def _split(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InvalidRequest(f"{command!r} is no command: {error}. Nothing was run.") from error
    if not words:
        raise InvalidRequest("an empty command freezes or thaws nothing. Nothing was run.")
    return words


def _run(words: list[str], aftermath: str) -> None:
    shown = shlex.join(words)
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Conflict(
            f"{shown} did not end within {_COMMAND_SECONDS:g} s and was killed. {aftermath}"
        ) from error
    except OSError as error:
        raise Conflict(f"{shown} cannot be run: {error.strerror}. {aftermath}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = f": {said[-1]}" if said else ""
        raise Conflict(f"{shown} ended with code {done.returncode}{why}. {aftermath}")
