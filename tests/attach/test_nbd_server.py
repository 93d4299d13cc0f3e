"""Requests over a connection: what they do to the device, and what the client is told."""

import struct
import threading
from contextlib import closing
from dataclasses import replace

import pytest

from ebsim.attach.nbd_export import clipped
from ebsim.errors import (
    ChunkMissing,
    InvalidRequest,
    ReadOnly,
    StorageFull,
    StorageUnavailable,
)
from ebsim.sources.nbd_client import NbdClient
from tests.attach.nbd_client import SIZE, Served, serving
from tests.attach.nbd_devices import MemoryDevice, PromptMemoryDevice
from tests.nbd.clients import (
    CACHE,
    DISCONNECT,
    FLUSH,
    FUA,
    GO,
    NO_HOLE,
    READ,
    REQ_ONE,
    STATUS,
    TRIM,
    ZEROES,
    flags,
    go,
    request,
    write,
)

BOTH = pytest.mark.parametrize("kind", [MemoryDevice, PromptMemoryDevice])
EPERM, EIO, EINVAL, ENOSPC = 1, 5, 22, 28


@BOTH
@pytest.mark.parametrize("size", [1, 4096, (256 << 10) - 28, 256 << 10, 1 << 20, 5_000_001])
def test_what_is_written_is_read(kind: type[MemoryDevice], size: int) -> None:
    """Sizes about the window, which a payload fits or not, and about the arena of replies."""
    content = bytes(range(1, 252)) * (size // 251 + 1)
    with serving(kind(SIZE)) as served:
        client = served.enter()
        client.sock.sendall(write(12345, content[:size]))
        assert client.answer().error == 0
        assert client.ask(READ, 12345, size).data == content[:size]


@BOTH
def test_many_requests_sent_at_once_are_all_answered(kind: type[MemoryDevice]) -> None:
    device = kind(SIZE)
    with serving(device) as served:
        client = served.enter()
        messages = [write(i * 4096, bytes([i % 255 + 1]) * 4096, cookie=i) for i in range(500)] + [
            request(TRIM, 0, 0, cookie=999)
        ]
        sender = threading.Thread(target=client.sock.sendall, args=(b"".join(messages),))
        sender.start()
        answers = [client.answer() for _ in messages]
        sender.join()
        assert {a.error for a in answers} == {0}
        assert sorted(a.cookie for a in answers) == [*range(500), 999]
    assert all(device.content[i * 4096] == i % 255 + 1 for i in range(500))


def test_a_simple_client_gets_simple_replies() -> None:
    with serving(MemoryDevice(SIZE)) as served:
        client = served.connect()
        client.sock.sendall(flags() + go())
        client.receive(18 + 20 + 12 + 20)
        client.sock.sendall(request(READ, SIZE, 1, cookie=8))
        assert client.receive(16) == struct.pack(">IIQ", 0x67446698, EINVAL, 8)
        client.sock.sendall(request(READ, 0, 10, cookie=7))
        assert client.receive(26) == struct.pack(">IIQ10x", 0x67446698, 0, 7)


def test_our_own_client_reads_an_export_by_its_name() -> None:
    device = MemoryDevice(SIZE)
    device.content[4096] = 9
    with serving(device) as served:
        served.exports.append(replace(served.exports[0], name="other", device=MemoryDevice(512)))
        sock = served.connect().sock.dup()
        with closing(NbdClient(sock, export_name=b"disk")) as client:
            assert client.size_bytes == SIZE
            read = bytearray(2)
            client.read_into(memoryview(read), 4096)
            assert read == b"\x09\x00"
            assert next(client.block_status(0)) == (0, 4096, True)


def test_a_slow_request_does_not_hold_up_those_behind_it() -> None:
    device = MemoryDevice(SIZE)
    device.gated_at = 0
    with serving(device) as served:
        client = served.enter()
        client.sock.sendall(request(READ, 0, 512, cookie=1) + request(READ, 4096, 512, cookie=2))
        assert client.answer().cookie == 2
        device.gate.set()
        assert client.answer().cookie == 1


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (request(TRIM, 4096, 8192), ("trim", 4096, 8192)),
        (request(ZEROES, 4096, 8192), ("zero", 4096, 8192)),
        (request(ZEROES, 4096, 8192, flags=NO_HOLE), ("allocate zeros", 4096, 8192)),
        (request(CACHE, 4096, 8192), ("read", 4096, 8192)),
        (write(4096, b"x"), ("write", 4096, 1)),
    ],
)
def test_each_command_is_one_call(message: bytes, call: tuple[str, int, int]) -> None:
    device = MemoryDevice(SIZE)
    with serving(device) as served:
        client = served.enter()
        client.sock.sendall(message)
        assert client.answer().error == 0
    assert device.calls == [call]


@BOTH
def test_fua_and_flush_reach_the_device(kind: type[MemoryDevice]) -> None:
    device = kind(SIZE)
    with serving(device) as served:
        client = served.enter()
        client.sock.sendall(write(0, b"x"))
        client.answer()
        assert device.flush_count == 0
        for message in (
            write(0, b"x", flags=FUA),
            request(FLUSH),
            request(ZEROES, 0, 1, flags=FUA),
        ):
            before = device.flush_count
            client.sock.sendall(message)
            assert client.answer().error == 0
            assert device.flush_count == before + 1


@pytest.mark.parametrize(("failure", "error"), [(None, 0), (StorageUnavailable("ill"), EIO)])
def test_flushes_that_wait_for_another_are_answered_by_one(
    failure: Exception | None, error: int
) -> None:
    """By one that began after all of them came, and not by the one that they waited for."""
    device = MemoryDevice(SIZE)
    device.gated_at = "flush"
    with serving(device) as served:
        client = served.enter()
        client.sock.sendall(request(FLUSH, cookie=1))
        assert device.is_waiting.wait(30)
        client.sock.sendall(b"".join(request(FLUSH, cookie=cookie) for cookie in range(2, 7)))
        assert client.ask(READ, 0, 1).error == 0  # so the flushes before it were taken
        device.failure = failure
        device.gate.set()
        answers = [client.answer() for _ in range(6)]
        assert device.flush_count == 2
    assert [(answer.cookie, answer.error) for answer in answers] == [
        (c, error) for c in range(1, 7)
    ]


@BOTH
@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (StorageFull("no room"), ENOSPC),
        (ReadOnly("no writing"), EPERM),
        (InvalidRequest("no sense"), EINVAL),
        (StorageUnavailable("no disk"), EIO),
        (ChunkMissing(bytes(32)), EIO),
    ],
)
def test_a_devices_error_is_told_and_ends_nothing(
    kind: type[MemoryDevice], failure: Exception, error: int
) -> None:
    device = kind(SIZE)
    with serving(device) as served:
        client = served.enter()
        device.failure = failure
        for message in (request(READ, 0, 512), write(0, b"x"), request(TRIM, 0, 512)):
            client.sock.sendall(message)
            answer = client.answer()
            assert (answer.error, answer.message) == (error, str(failure))
        device.failure = None
        assert client.ask(READ, 0, 1).data == b"\0"
        assert served.log == []


@BOTH
def test_a_bug_in_a_device_is_logged_and_ends_nothing(kind: type[MemoryDevice]) -> None:
    device = kind(SIZE)
    with serving(device) as served:
        client = served.enter()
        device.failure = ZeroDivisionError("oops")
        assert client.ask(READ, 0, 512).error == EIO
        device.failure = None
        assert client.ask(READ, 0, 512).error == 0
        assert len(served.log) == 1
        assert "ZeroDivisionError: oops" in served.log[0]


def test_block_status_tells_both_contexts() -> None:
    device = MemoryDevice(SIZE)
    device.content[4096] = 1
    with serving(device) as served:
        client = served.enter()
        client.sock.sendall(request(STATUS, 0, 16384))
        chunks = [client.receive(20 + 4 + 24) for _ in range(2)]
    told = {}
    for chunk in chunks:
        context, *numbers = struct.unpack_from(">7I", chunk, 20)
        told[context] = list(zip(numbers[::2], numbers[1::2], strict=True))
    assert told == {
        1: [(4096, 3), (4096, 0), (8192, 3)],
        2: [(4096, 0), (4096, 1), (8192, 0)],
    }


def test_one_extent_is_told_when_one_is_asked_for() -> None:
    device = MemoryDevice(SIZE)
    device.content[4096] = 1
    with serving(device) as served:
        client = served.enter()
        client.sock.sendall(request(STATUS, 0, 16384, flags=REQ_ONE))
        chunks = [client.receive(20 + 4 + 8) for _ in range(2)]
    assert [struct.unpack_from(">II", chunk, 24) for chunk in chunks] == [(4096, 3), (4096, 0)]


def test_descriptors_are_joined_and_cut_to_what_was_asked() -> None:
    states = [(10, 0), (10, 0), (5, 1), (100, 2), (7, 0)]
    assert clipped(states, 50, count_max=9) == [(20, 0), (5, 1), (25, 2)]
    assert clipped(states, 50, count_max=2) == [(20, 0), (5, 1)]


def test_a_flush_on_one_connection_covers_writes_on_another() -> None:
    device = PromptMemoryDevice(SIZE)
    with serving(device) as served:
        writer, flusher = served.enter(), served.enter()
        writer.sock.sendall(write(0, b"seen by all"))
        assert writer.answer().error == 0
        assert flusher.ask(READ, 0, 11).data == b"seen by all"
        assert flusher.ask(FLUSH).error == 0
    assert device.flush_count == 1


def test_exports_appear_and_vanish_while_serving() -> None:
    with serving(MemoryDevice(SIZE)) as served:
        export = served.exports.pop()
        client = served.connect()
        client.sock.sendall(flags() + go(b"disk"))
        client.receive(18)
        assert struct.unpack(">QIII", client.receive(20))[1:3] == (GO, 1 << 31 | 6)
        served.exports.append(export)
        served.enter()
        assert served.server.connection_count("disk") == 1


def test_hanging_up_ends_the_connections_of_one_export() -> None:
    with serving(MemoryDevice(SIZE)) as served:
        user, idler = served.enter(), served.connect()
        user.ask(FLUSH)
        served.server.hang_up("disk")
        assert user.is_hung_up()
        idler.enter()


def test_a_disconnect_waits_for_what_is_under_way() -> None:
    device = MemoryDevice(SIZE)
    device.gated_at = 0
    with serving(device) as served:
        client = served.enter()
        client.sock.sendall(request(READ, 0, 512, cookie=5) + request(DISCONNECT))
        assert device.is_waiting.wait(30)
        device.gate.set()
        assert client.answer().cookie == 5
        assert client.is_hung_up()


def test_stopping_finishes_what_is_under_way() -> None:
    device = MemoryDevice(SIZE)
    device.gated_at = 0
    with serving(device) as served:
        client = served.enter()
        client.sock.sendall(write(0, b"kept"))
        assert device.is_waiting.wait(30)
        stopper = threading.Thread(target=served.server.stop)
        stopper.start()
        device.gate.set()
        assert client.answer().error == 0
        assert client.is_hung_up()
        stopper.join()
    assert device.content[:4] == b"kept"


def test_a_stopped_server_takes_nobody() -> None:
    served = Served(MemoryDevice(SIZE))
    served.server.stop()
    client = served.connect()
    assert client.is_hung_up()
    client.sock.close()
