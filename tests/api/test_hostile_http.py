"""Clients that mean harm, over real sockets: each costs little, and harms nobody else."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import pytest

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
    for _ in range(800):
        connect().sendall(b"POST / HTTP/1.1\r\nHost: ")
    assert is_well(connect)
