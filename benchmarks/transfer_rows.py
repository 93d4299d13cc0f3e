"""Putting and getting blocks over HTTP, of ebsim and of moto's server by turns."""

import json
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.block_client import BLOCK_SIZE
from benchmarks.processes import CommandFailed
from benchmarks.results import Figure, ratio_figure, significant
from benchmarks.scratch import scratch_folder
from benchmarks.service_table import GET_LEAST, PUT_LEAST

_MB = 10**6
_START_SECONDS_MAX = 60


class _Server(NamedTuple):
    """Where a server is, and the key to sign with."""

    url: str
    key_id: str
    secret: str


def transfer_figures(
    folder: Path, seed: int, runs: int, *, block_count: int = 400
) -> list[Figure]:
    """The rows of putting and getting; those beside moto's server where it is installed."""
    speeds: dict[str, list[float]] = {}
    with scratch_folder(folder) as scratch:
        for run in range(runs):
            home = scratch / f"home-{run}"
            with _ebsim_server(home) as server:
                _note(speeds, "ebsim", _client_seconds(server, block_count, seed), block_count)
            shutil.rmtree(home)
            command = shutil.which("moto_server")
            if command is not None:
                with _moto_server(command) as server:
                    _note(speeds, "moto", _client_seconds(server, block_count, seed), block_count)
    figures = []
    for what, least in (("put", PUT_LEAST), ("get", GET_LEAST)):
        ours, theirs = speeds[f"ebsim {what}"], speeds.get(f"moto {what}", [])
        shown = f"{significant(median(ours))} MB/s"
        figures.append(Figure(what, ours, None, shown, {"block_count": block_count}))
        if theirs:
            ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
            detail = {"moto_mb_per_second": median(theirs)}
            figures.append(ratio_figure(f"{what}_moto", ratios, least, detail))
    return figures


def _note(
    speeds: dict[str, list[float]], name: str, seconds: Mapping[str, float], count: int
) -> None:
    for what, used in seconds.items():
        speeds.setdefault(f"{name} {what}", []).append(count * BLOCK_SIZE / _MB / used)


def _client_seconds(server: _Server, count: int, seed: int) -> dict[str, float]:
    words = [*server, str(count), str(seed)]
    command = [sys.executable, "-m", "benchmarks.block_client", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise CommandFailed("the client", done.returncode, done.stderr)
    found: dict[str, float] = json.loads(done.stdout)
    return found


@contextmanager
def _ebsim_server(home: Path) -> Iterator[_Server]:
    ebsim = [sys.executable, "-m", "ebsim", "--home", str(home)]
    serving = [*ebsim, "serve", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(serving, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            text = subprocess.run([*ebsim, "env"], check=True, capture_output=True, text=True)
            words = [shlex.split(line) for line in text.stdout.splitlines()]
            found = dict(word[1].split("=", 1) for word in words if word[0] == "export")
            yield _Server(url, found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"])
        finally:
            process.terminate()


@contextmanager
def _moto_server(command: str) -> Iterator[_Server]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [command, "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_until_it_listens(port)
            yield _Server(f"http://127.0.0.1:{port}", "any", "any")
        finally:
            process.terminate()


def _wait_until_it_listens(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS_MAX
    while time.monotonic() < deadline:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise CommandFailed("moto_server", None, "it does not listen")
