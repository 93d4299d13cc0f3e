"""Which process serves a home: one at a time, told by a lock that ends with the process.

HOME/serving.json    {"pid": 4711, "url": "http://127.0.0.1:4580"}, locked by that process
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ebsim.durable_files import Files
from ebsim.errors import Conflict

SERVING = "serving.json"
_SIZE_MAX = 4096


@contextmanager
def serving_home(files: Files, home: Path, url: str) -> Iterator[None]:
    """Be the one that serves *home*, at *url*, while the body runs.

    Raises:
        Conflict: another process is, and which.
    """
    path = home / SERVING
    descriptor = files.open_or_create(path)
    try:
        if not files.lock(descriptor, wait=False):
            who = _facts(files, descriptor)
            raise Conflict(
                f"{home} is served already, by process {who.get('pid', 'unknown')} at "
                f"{who.get('url', 'an address not known')}. Nothing is served here. Use that "
                "one, stop it, or name another --home."
            )
        text = json.dumps({"pid": os.getpid(), "url": url}).encode()
        files.truncate(descriptor, 0)
        files.write(descriptor, [text], 0)
        yield
        files.truncate(descriptor, 0)
    finally:
        files.close(descriptor)


def served_at(files: Files, home: Path) -> str | None:
    """The address at which a process serves *home* now, if one does."""
    try:
        descriptor = files.open_to_write(home / SERVING)
    except FileNotFoundError:
        return None
    try:
        if files.lock(descriptor, wait=False):
            return None
        return _facts(files, descriptor).get("url")
    finally:
        files.close(descriptor)


def _facts(files: Files, descriptor: int) -> dict[str, str]:
    """What the process that has the lock wrote, or nothing while it is still writing it."""
    try:
        facts = json.loads(files.read(descriptor, 0, _SIZE_MAX))
    except ValueError:
        return {}
    return {name: str(value) for name, value in facts.items()}
