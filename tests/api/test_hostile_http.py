"""Clients that mean harm, over real sockets: each costs little, and harms nobody else."""

import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import cycle, islice
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ebsim.api.dispatch import Desk
from ebsim.api.server import Server, listening_socket, make_server
from ebsim.waiting import wait_until
from tests.api.conftest import Serving

pytestmark = pytest.mark.slow

SECONDS = 60.0
CHUNK = b"10000\r\n" + b"x" * 65536 + b"\r\n"


@pytest.fixture
def connect(serve: Callable[..., Serving]) -> Iterator[Callable[[], socket.socket]]:
    """Connects to a server; every connection is closed in the end."""
    address = urlsplit(serve().url)
    with ExitStack() as connections:

        def connected() -> socket.socket:
            made = socket.create_connection((address.hostname, address.port), timeout=SECONDS)
            return connections.enter_context(closing(made))

        yield connected


def told(connection: socket.socket, data: bytes) -> bytes:
    """What the server says to *data* before it closes the connection."""
    answer = b""
    try:
        connection.sendall(data)
        while part := connection.recv(1 << 16):
            answer += part
    except (BrokenPipeError, ConnectionResetError):
        # It did not wait for the end.
        pass
    return answer


def is_well(connect: Callable[[], socket.socket]) -> bool:
    data = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    return told(connect(), data).startswith(b"HTTP/1.1 200")


def test_hostile_clients_harm_nobody_else(connect: Callable[[], socket.socket]) -> None:
    """One server for all of it: starting it costs more than what is done to it."""
    head = b"POST / HTTP/1.1\r\nHost: ec2.us-east-1.amazonaws.com\r\n"
    refusals = {
        "a huge header": (head + b"X: " + b"x" * (4 << 20), b"400"),
        "a huge path": (b"GET /" + b"x" * (4 << 20), b"400"),
        "many headers": (head + b"X: y\r\n" * 500_000, b"400"),
        "no HTTP": (b"\x16\x03\x01\x02\x00" * 100, b"400"),
        "a length that is none": (head + b"Content-Length: 1x\r\n\r\n", b"400"),
        "a length that is too much": (head + b"Content-Length: 99999999999\r\n\r\n", b"413"),
        "two lengths": (head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"400"),
        "a body without an end": (
            head + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK * 64,
            b"413",
        ),
        "a path in another encoding": (b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    }  # fmt: skip
    for what, (data, status) in refusals.items():
        answer = told(connect(), data)
        # A reset may overtake the answer to what nobody reads to its end.
        assert not answer or answer.split()[1] == status, (what, answer[:200])
    short = connect()
    short.sendall(head + b"Content-Length: 100\r\n\r\nhalf")
    short.close()
    assert is_well(connect)


HELD = {
    "an idle one": b"",
    "half a head": b"POST / HTTP/1.1\r\nHost: " + b"x" * 1000,
    "half a body": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + b"x" * 1000,
}
CONNECTIONS = 10_000
MEMORY_EACH_MAX = 32 << 10


def test_ten_thousand_connections_cost_bounded_memory_and_others_are_answered(
    serve: Callable[..., Serving], figure: Callable[[str], None]
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    may_be = CONNECTIONS if hard == resource.RLIM_INFINITY else hard * 3 // 4 - 10
    count = min(CONNECTIONS, may_be)
    server = serve()
    address = urlsplit(server.url)
    status = Path(f"/proc/{server.process.pid}/status")

    def connect() -> socket.socket:
        made = socket.create_connection((address.hostname, address.port), timeout=SECONDS)
        return connections.enter_context(closing(made))

    def resident_bytes() -> int:
        (line,) = [one for one in status.read_text().splitlines() if one.startswith("VmRSS:")]
        return int(line.split()[1]) << 10

    with many_open_files(), ExitStack() as connections:
        assert is_well(connect)
        before = resident_bytes()
        for data in islice(cycle(HELD.values()), count):
            connect().sendall(data)
        assert is_well(connect)
        grown = resident_bytes() - before
    figure(f"{count} connections take {grown / count / 1024:.1f} KiB each")
    assert grown < count * MEMORY_EACH_MAX


@contextmanager
def many_open_files() -> Iterator[None]:
    """Let this process open as many files as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def served_here(server: Server) -> Iterator[Callable[[], socket.socket]]:
    """Run a server in this process; give what connects to it."""
    with ExitStack() as connections, listening_socket("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()

        def connect() -> socket.socket:
            made = socket.create_connection(listening.getsockname(), timeout=SECONDS)
            return connections.enter_context(closing(made))

        try:
            yield connect
        finally:
            connections.close()
            server.should_exit = True
            thread.join()


def test_a_connection_too_many_is_told_so_until_another_is_closed(desk: Desk) -> None:
    with served_here(make_server(desk, None, connections_max=3)) as connect:
        held = [connect() for _ in range(3)]
        assert wait_until(lambda: b" 503 " in told(connect(), b""), SECONDS)
        refused = told(connect(), b"")
        assert refused.endswith(
            b"3 connections are open, and no more can be. Close some, or start the server with a "
            b"higher limit of open files (ulimit -n)."
        )
        held[0].close()
        assert wait_until(lambda: is_well(connect), SECONDS)


def test_heads_that_are_not_complete_are_bounded_together(desk: Desk) -> None:
    server = make_server(desk, None, heads_size_max=100_000)
    half = b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000
    with served_here(server) as connect:
        held = [connect() for _ in range(2)]
        for one in held:
            one.sendall(half)
        # Once this is answered, what came before is counted.
        assert is_well(connect)
        assert wait_until(
            lambda: told_at_once(connect(), half).startswith(b"HTTP/1.1 503"), SECONDS
        )
        assert is_well(connect)
        held[0].sendall(b"\r\nHost: x\r\n\r\n")
        assert held[0].recv(100).startswith(b"HTTP/1.1 4")


def told_at_once(connection: socket.socket, data: bytes) -> bytes:
    """What the server says within a second to *data*, if it says anything."""
    connection.settimeout(1.0)
    try:
        return told(connection, data)
    except TimeoutError:
        return b""
    finally:
        connection.close()
