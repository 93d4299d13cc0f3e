"""NBD servers, each a process of its own as its users start it: ebsim's and others'."""

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

from benchmarks.processes import ebsim_command
from ebsim.units import KIB
from ebsim.waiting import wait_until

_START_SECONDS = 30.0
_STREAM_SECONDS = 3600.0


class Server(NamedTuple):
    """A process that serves a disk at *uri*."""

    uri: str
    process_id: int

    @property
    def peak_bytes(self) -> int:
        """The most memory that it has had."""
        status = Path(f"/proc/{self.process_id}/status").read_text("ascii")
        (peak,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * KIB


@contextmanager
def socket_folder() -> Iterator[Path]:
    """Where sockets are: their paths must be short."""
    folder = Path(tempfile.mkdtemp(prefix="nbd-"))
    try:
        yield folder
    finally:
        rmtree(folder)


@contextmanager
def _running(command: Sequence[str | Path]) -> Iterator[subprocess.Popen[str]]:
    """A process, ended when the body is left."""
    with subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def ebsim_volume(home: Path, volume_id: str, *, loads: bool = True) -> Iterator[Server]:
    """``ebsim volume attach``; without *loads* hardly anything comes in the background."""
    slow = [] if loads else ["--initialization-rate", "1"]
    attach = ("volume", "attach", volume_id, *slow)
    with (
        socket_folder() as folder,
        _running(ebsim_command(home, *attach, "--socket", folder / "s")) as process,
    ):
        assert process.stdout is not None, "its output is a pipe"
        uri = process.stdout.readline().strip()
        assert uri, "it says where the volume is"
        if not loads:
            subprocess.run(
                [str(word) for word in ebsim_command(home, "volume", "pause", volume_id)],
                check=True,
            )
        yield Server(uri, process.pid)


@contextmanager
def nbdkit_memory(image: Path) -> Iterator[Server]:
    """nbdkit's memory plugin, which gives what it has in memory, filled with *image*."""
    size_bytes = str(image.stat().st_size)
    with (
        socket_folder() as folder,
        _running(["nbdkit", "-f", "-U", folder / "s", "memory", size_bytes]) as process,
    ):
        server = _listening(folder / "s", process)
        subprocess.run(["nbdcopy", image, server.uri], check=True)
        yield server


@contextmanager
def qemu_nbd(image: Path) -> Iterator[Server]:
    """qemu-nbd on a raw file, with the page cache as ebsim has it."""
    with (
        socket_folder() as folder,
        _running(
            ["qemu-nbd", "-f", "raw", "--cache=writeback", "-t", "-e", "16", "-k", folder / "s",
             image]
        ) as process,
    ):  # fmt: skip
        yield _listening(folder / "s", process)


def _listening(path: Path, process: subprocess.Popen[str]) -> Server:
    assert wait_until(path.exists, _START_SECONDS), "it listens"
    return Server(f"nbd+unix:///?socket={path}", process.pid)


@contextmanager
def streaming_overlay(base: Path, overlay: Path) -> Iterator["Streamer"]:
    """qemu-storage-daemon with the new qcow2 image *overlay* over the qcow2 image *base*."""
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay], check=True
    )
    with (
        socket_folder() as folder,
        _running(
            ["qemu-storage-daemon",
             "--chardev", f"socket,path={folder / 'q'},server=on,wait=off,id=c",
             "--monitor", "chardev=c",
             "--blockdev", f"driver=file,filename={base},node-name=base-file,read-only=on",
             "--blockdev", "driver=qcow2,file=base-file,node-name=base,read-only=on",
             "--blockdev", f"driver=file,filename={overlay},node-name=top-file",
             "--blockdev", "driver=qcow2,file=top-file,node-name=top,backing=base"]
        ),
    ):  # fmt: skip
        assert wait_until((folder / "q").exists, _START_SECONDS), "it listens"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_STREAM_SECONDS)
            sock.connect(str(folder / "q"))
            yield Streamer(sock)


class Streamer:
    """A qemu-storage-daemon, spoken to by its protocol for machines (QMP)."""

    def __init__(self, sock: socket.socket) -> None:
        self._stream = sock.makefile("rw", encoding="utf-8")
        self._until("QMP")
        self._ask("qmp_capabilities")

    def stream(self) -> None:
        """Bring everything from the base into the overlay."""
        self._ask("block-stream", **{"job-id": "stream", "device": "top"})
        while self._until("event").get("event") != "BLOCK_JOB_COMPLETED":
            pass

    def _ask(self, command: str, **arguments: str) -> None:
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        answer = self._until("return", "error")
        assert "return" in answer, answer

    def _until(self, *members: str) -> dict[str, Any]:
        """The next message that has one of *members*."""
        for line in self._stream:
            message: dict[str, Any] = json.loads(line)
            if any(member in message for member in members):
                return message
        raise AssertionError("it has ended")
