"""Handing one event to one sink: a line in a log, a request to a webhook, a command.

Each either has the event for certain when it returns, or fails with
:class:`DeliveryFailed`.  None knows of retries: ``deliver_events.py`` does those.
"""

import hashlib
import hmac
import json
import shlex
import ssl
import subprocess
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from ebsim.catalog.event import Event, event_document
from ebsim.durable_files import Files
from ebsim.engine.event_sinks import Sink, SinkKind, split_command
from ebsim.errors import StorageUnavailable, TargetUnusable

ANSWER_SECONDS = 10.0
COMMAND_SECONDS = 60.0
_TAIL_BYTES = 1 << 20


class DeliveryFailed(TargetUnusable):
    """A sink did not take an event; it is tried again."""


def deliver(files: Files, sink: Sink, event: Event, *, now_ns: int) -> None:
    """Hand *event* to *sink*.

    Raises:
        DeliveryFailed: the sink may have it, or not.
    """
    body = json.dumps(event_document(event), separators=(",", ":")).encode()
    if sink.kind is SinkKind.LOG:
        _append(files, Path(sink.target), body)
    elif sink.kind is SinkKind.WEBHOOK:
        _post(sink, event, body, now_ns // 10**9)
    else:
        _run(sink.target, body)


def signature_of(secret: str, timestamp: str, body: bytes) -> str:
    """What ``X-Ebsim-Signature`` says: HMAC-SHA256, in hexadecimal, of time, dot and body."""
    signed = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={signed.hexdigest()}"


def _append(files: Files, path: Path, line: bytes) -> None:
    """Append a line, durably; what a crash left of an unfinished one is taken away first."""
    try:
        descriptor = files.open_or_create(path)
        try:
            files.lock(descriptor)
            end = _end_of_whole_lines(files, descriptor)
            files.truncate(descriptor, end)
            files.write(descriptor, [line, b"\n"], end)
            files.sync(descriptor)
        finally:
            files.close(descriptor)
    except (StorageUnavailable, OSError) as error:
        raise DeliveryFailed(f"{path} cannot be written: {error}") from error


def _end_of_whole_lines(files: Files, descriptor: int) -> int:
    """Where the last whole line ends.  Of a longer line than is looked at, where the file does."""
    size = files.status_of(descriptor).st_size
    start = max(0, size - _TAIL_BYTES)
    tail = files.read(descriptor, start, size - start)
    newline = tail.rfind(b"\n")
    if newline < 0:
        return size if start else 0
    return start + newline + 1


def _post(sink: Sink, event: Event, body: bytes, timestamp: int) -> None:
    """Send the event to a webhook, which has taken it when it answers 2xx."""
    url = urlsplit(sink.target)
    host = url.hostname or ""
    connection = (
        HTTPSConnection(
            host, url.port, timeout=ANSWER_SECONDS, context=ssl.create_default_context()
        )
        if url.scheme == "https"
        else HTTPConnection(host, url.port, timeout=ANSWER_SECONDS)
    )
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "ebsim",
        "X-Ebsim-Event-Id": event.event_id,
        "X-Ebsim-Timestamp": str(timestamp),
        "X-Ebsim-Signature": signature_of(sink.secret, str(timestamp), body),
    }
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    try:
        connection.request("POST", target, body, headers)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        raise DeliveryFailed(f"{sink.target} does not answer: {error}") from error
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise DeliveryFailed(f"{sink.target} answered {status}")


def _run(command: str, body: bytes) -> None:
    """Give the event to a command on its standard input; it has taken it when it ends with 0."""
    words = split_command(command)
    try:
        done = subprocess.run(
            words, input=body + b"\n", capture_output=True, timeout=COMMAND_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DeliveryFailed(
            f"{shlex.join(words)} did not end within {COMMAND_SECONDS:g} s"
        ) from error
    except OSError as error:
        raise DeliveryFailed(f"{shlex.join(words)} cannot be run: {error.strerror}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = f": {said[-1]}" if said else ""
        raise DeliveryFailed(f"{shlex.join(words)} ended with code {done.returncode}{why}")
