"""A client for the tests that says exactly what it is told to, and a server for it."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ebsim.attach.nbd_export import Export
from ebsim.attach.nbd_server import NbdServer
from ebsim.volumes.block_device import BlockDevice
from tests.nbd.clients import STRUCTURED, flags, go, meta, option, request

SIZE = 16 << 20


class Answer(NamedTuple):
    """One reply: its error (0 for none), the bytes read or the status, and the message."""

    cookie: int
    error: int
    data: bytes = b""
    message: str = ""


class RawClient:
    """Speaks to a server over *sock*.  A silent server fails the test, after 30 seconds."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(30)
        self.sock = sock

    def enter(self, *options: bytes, name: bytes = b"") -> None:
        """Negotiate structured replies and what else is given, and enter the export."""
        self.sock.sendall(flags() + option(STRUCTURED) + b"".join(options) + go(name))
        self.receive(18)
        while True:
            _, asked, kind, length = struct.unpack(">QIII", self.receive(20))
            self.receive(length)
            assert kind < 1 << 31, f"option {asked} is refused"
            if asked == 7 and kind == 1:
                return

    def ask(self, command: int, offset: int = 0, length: int = 0, *, flags: int = 0) -> Answer:
        self.sock.sendall(request(command, offset, length, flags=flags))
        return self.answer()

    def answer(self) -> Answer:
        """The next reply, of one chunk."""
        start = self.receive(16)
        (magic,) = struct.unpack_from(">I", start)
        if magic == 0x67446698:
            _, error, cookie = struct.unpack(">IIQ", start)
            return Answer(cookie, error)
        _, is_last, kind, cookie = struct.unpack(">IHHQ", start)
        payload = self.receive(int.from_bytes(self.receive(4), "big"))
        assert magic == 0x668E33EF
        assert is_last
        if kind & 1 << 15:
            error, length = struct.unpack_from(">IH", payload)
            return Answer(cookie, error, message=payload[6 : 6 + length].decode())
        return Answer(cookie, 0, payload[8:] if kind == 1 else payload)

    def receive(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            piece = self.sock.recv(size - len(received))
            assert piece, "the server hung up"
            received += piece
        return bytes(received)

    def is_hung_up(self) -> bool:
        """Wait for the server to close; whether it did so without another word."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True


class Served:
    """A server for *device*, and the lines it logged."""

    def __init__(self, device: BlockDevice, **options: object) -> None:
        self.log: list[str] = []
        self.clients: list[RawClient] = []
        self.exports = [Export("disk", "a disk", device, is_read_only=False, block_size=4096)]
        self.server = NbdServer(lambda: self.exports, log=self.log.append, **options)  # type: ignore[arg-type]

    def connect(self) -> RawClient:
        ours, theirs = socket.socketpair()
        self.server.serve_connection(theirs)
        self.clients.append(RawClient(ours))
        return self.clients[-1]

    def enter(self) -> RawClient:
        client = self.connect()
        client.enter(meta(b"base:allocation", b"ebsim:dirty"))
        return client


@contextmanager
def serving(device: BlockDevice, **options: object) -> Iterator[Served]:
    """A server that is stopped at the end, having left no thread behind."""
    before = set(threading.enumerate())
    served = Served(device, **options)
    served.server.start()
    try:
        yield served
    finally:
        served.server.stop(timeout_seconds=5)
        for client in served.clients:
            client.sock.close()
    assert set(threading.enumerate()) <= before
    assert served.server.connection_count() == 0
