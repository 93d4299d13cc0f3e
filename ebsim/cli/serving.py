"""What commands that serve a disk share: where they listen, and how they end."""

import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple, TypeVar

import click

from ebsim.attach.certificates import server_context
from ebsim.attach.nbd_server import Export, NbdServer
from ebsim.cli.messages import say
from ebsim.cli.settings import Settings
from ebsim.engine.open_volume import OpenedVolume
from ebsim.errors import Conflict, InvalidRequest

Command = TypeVar("Command", bound=Callable[..., None])

NBD_PORT = 10809


class Address(NamedTuple):
    """A host and a port to listen on."""

    host: str
    port: int


class AddressType(click.ParamType[Address]):
    """``HOST:PORT``; without a host loopback, without a port NBD's own."""

    name = "HOST:PORT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        if isinstance(value, Address):
            return value
        host, separator, port = str(value).rpartition(":")
        if not separator or "]" in port:
            host, port = str(value), str(NBD_PORT)
        if not port.isdecimal() or int(port) > 65535:
            self.fail(
                f"'{value}' names no port from 0 to 65535. Write 127.0.0.1:10809.", param, ctx
            )
        return Address(host.strip("[]") or "127.0.0.1", int(port))


class Places(NamedTuple):
    """Where to listen: a unix socket, or an address, perhaps encrypted."""

    socket: Path | None
    listen: Address | None
    tls_folder: Path | None

    @property
    def arguments(self) -> list[str]:
        """The options that name them."""
        arguments = []
        if self.socket is not None:
            arguments += ["--socket", str(self.socket.absolute())]
        if self.listen is not None:
            host = f"[{self.listen.host}]" if ":" in self.listen.host else self.listen.host
            arguments += ["--listen", f"{host}:{self.listen.port}"]
        if self.tls_folder is not None:
            arguments += ["--tls-dir", str(self.tls_folder.absolute())]
        return arguments

    def tls(self) -> ssl.SSLContext | None:
        """The certificates to encrypt with."""
        return server_context(self.tls_folder) if self.tls_folder is not None else None

    def listen_with(self, server: NbdServer, *, default: Path) -> None:
        """Let *server* listen here, or on a unix socket at *default*."""
        if self.listen is not None:
            server.listen_tcp(self.listen.host, self.listen.port)
        else:
            server.listen_unix(self.socket or default)


def listening_options(command: Command) -> Command:
    """Add the options that say where to listen."""
    for option in (
        click.option(
            "--detach-process",
            is_flag=True,
            help="Serve in a process of its own, and return once it does.",
        ),
        click.option(
            "--tls-dir",
            "tls_folder",
            type=click.Path(path_type=Path, file_okay=False),
            help="Certificates: server-cert.pem, server-key.pem; ca-cert.pem to verify clients.",
        ),
        click.option(
            "--listen",
            type=AddressType(),
            help="Listen on TCP; 127.0.0.1 when no host is named, any free port for port 0.",
        ),
        click.option(
            "--socket",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Listen on a unix socket at this path.  [default: one in your runtime directory]",
        ),
    ):
        command = option(command)
    return command


def runtime_path(name: str) -> Path:
    """A short path for *name* in a directory that only this user may look into."""
    session = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(session) / "ebsim" if session else Path(f"/tmp/ebsim-{os.getuid()}")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise InvalidRequest(
            f"{folder} is open to others (mode {status.st_mode & 0o777:o}). Nothing is served. "
            "Make it yours alone, or name a place with --socket."
        )
    return folder / name


def check_places(places: Places) -> None:
    """Refuse what does not go together."""
    if places.socket is not None and places.listen is not None:
        raise click.UsageError("--socket and --listen are two places. Give one.")
    if places.tls_folder is not None and places.listen is None:
        raise click.UsageError("--tls-dir encrypts TCP. Give --listen as well.")


@contextmanager
def served_over_nbd(opened: OpenedVolume, places: Places) -> Iterator[str]:
    """Serve an open volume while the body runs; its URI, which its status tells as well."""
    volume_id = opened.volume.volume_id
    description = f"made from {opened.volume.snapshot_id}" if opened.volume.snapshot_id else ""
    export = Export(volume_id, description, opened.device, False, opened.device.block_size)
    server = NbdServer(
        lambda: [export], tls=places.tls(), must_use_tls=places.tls_folder is not None
    )
    try:
        places.listen_with(server, default=runtime_path(f"{volume_id}.sock"))
        uris = server.uris(volume_id)
        server.start()
        opened.publish(uris=uris)
        yield uris[0]
    finally:
        server.stop()


@contextmanager
def until_asked_to_end(asked: threading.Event | None = None) -> Iterator[threading.Event]:
    """Give an event that is set when a signal, or whoever has *asked*, ends the serving.

    Signals are how serving ends, no failure: the command then ends well.
    """
    ended = asked or threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        ended.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_in_background(settings: Settings, arguments: Sequence[str], name: str) -> str:
    """Run ``ebsim ARGUMENTS`` in a process of its own; return the first line that it prints.

    What it says later is kept in a file beside its socket.  If it ends before it prints
    one, this process ends as it did: with its message, and its exit code.
    """
    log = runtime_path(f"{name}.log")
    command = [sys.executable, "-m", "ebsim", *_global_options(settings), *arguments]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        assert process.stdout is not None, "its output is a pipe"
        line = process.stdout.readline().decode().strip()
    if line:
        return line
    process.stdout.close()
    code = process.wait()
    message = log.read_text(encoding="utf-8").strip()
    if code <= 0 or not message:
        raise Conflict(f"the process ended at once, with code {code}. {message}")
    say(message)
    raise click.exceptions.Exit(code)


def _global_options(settings: Settings) -> list[str]:
    return [
        "--home",
        str(settings.home),
        "--region",
        settings.region_name,
        "--account",
        settings.account_id,
        "--output",
        settings.output.value,
        "--quiet",
    ]
