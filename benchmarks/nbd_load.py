"""What fio makes of an NBD server: one connection, many requests in flight."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.nbd_servers import Server
from ebsim.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the server.

    Attributes:
        kind: ``read``, ``randread``, ``randwrite``: fio's word.
        block_bytes: Of each request.
        flush_every: Writes between two flushes, 0 for none.
    """

    kind: str
    block_bytes: int
    depth: int = 16
    flush_every: int = 0

    def command(self, server: Server, size_bytes: int, seconds: float) -> list[str]:
        """The fio that does it."""
        words = [
            "fio", "--name=load", "--ioengine=nbd", f"--uri={server.uri}", f"--rw={self.kind}",
            f"--bs={self.block_bytes}", f"--iodepth={self.depth}", f"--size={size_bytes}",
            "--time_based", f"--runtime={round(seconds * 1000)}ms", "--randseed=1",
            "--norandommap", "--output-format=json",
        ]  # fmt: skip
        return [*words, f"--fsync={self.flush_every}"] if self.flush_every else words

    def requests_per_second(self, server: Server, size_bytes: int, seconds: float) -> float:
        """How many requests the server answers, asked for *seconds*."""
        done = subprocess.run(
            self.command(server, size_bytes, seconds), check=True, capture_output=True, text=True
        )
        return _direction(done.stdout)["iops"]


def _direction(output: str) -> dict[str, Any]:
    """What fio tells of the direction that it went in."""
    (job,) = json.loads(output[output.index("{") :])["jobs"]
    found: dict[str, Any] = max((job["read"], job["write"]), key=lambda told: told["total_ios"])
    assert job["error"] == 0, "no request failed"
    return found


class Writers:
    """Several fio processes at work; what the slowest of their writes took, afterwards."""

    def __init__(self) -> None:
        self.slowest_ms = 0.0

    @contextmanager
    def writing(self, servers: list[Server], size_bytes: int, seconds: float) -> Iterator[None]:
        """Random writes of 4 KiB to all *servers*, for *seconds* or until the body is left.

        The body begins when each fio is at work: one that is interrupted before tells nothing.
        """
        load = Load("randwrite", 4096)
        processes = [
            subprocess.Popen(
                load.command(server, size_bytes, seconds), stdout=subprocess.PIPE, text=True
            )
            for server in servers
        ]
        try:
            for process in processes:
                assert wait_until(partial(_is_at_work, process.pid), 60), "fio does not begin"
            yield
        finally:
            outputs = [_interrupted(process) for process in processes]
        latencies = [_direction(output)["clat_ns"]["max"] for output in outputs]
        self.slowest_ms = max(latencies) / 1e6


def _interrupted(process: subprocess.Popen[str]) -> str:
    """Interrupt a fio; return what it printed.  Again and again: a job that begins misses it."""
    while True:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=1)[0]


def _is_at_work(pid: int) -> bool:
    """Whether a fio has made the process that does its job."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text() != ""
