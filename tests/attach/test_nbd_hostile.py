"""Clients that stall, err, vanish or ask for too much: they lose their own connection."""

import socket
import struct
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.attach.nbd_client import SIZE, Served, serving
from tests.attach.nbd_devices import MemoryDevice, PromptMemoryDevice
from tests.nbd.clients import DF, FLUSH, READ, STRUCTURED, WRITE, flags, go, option, request, write

BOTH = pytest.mark.parametrize("kind", [MemoryDevice, PromptMemoryDevice])


def still_serves(served: Served) -> bool:
    return served.enter().ask(READ, 0, 4096).error == 0


@BOTH
@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_a_client_that_leaves_in_the_middle_of_a_write_has_written_nothing(
    kind: type[MemoryDevice], size: int
) -> None:
    device = kind(SIZE)
    with serving(device) as served:
        client = served.enter()
        client.sock.sendall(request(WRITE, 0, size) + b"x" * (size - 1))
        client.sock.shutdown(socket.SHUT_WR)
        assert client.is_hung_up()
        assert still_serves(served)
    assert not any(call == "write" for call, _, _ in device.calls)
    assert not any(device.content)


@pytest.mark.slow
@BOTH
def test_a_client_that_takes_no_replies_holds_up_nobody_and_is_cut_off(
    kind: type[MemoryDevice],
) -> None:
    """It asks for far more than a socket holds; workers must not be caught by that."""
    device = kind(SIZE)
    with serving(device) as served:
        stalled = [served.enter() for _ in range(20)]
        for client in stalled:
            client.sock.settimeout(None)
            client.sock.sendall(request(READ, 0, 1 << 20) * 60)
        for _ in range(20):
            assert still_serves(served)
        served.server.stop(timeout_seconds=0)
        assert served.server.connection_count() == 0


def test_a_stalled_client_does_not_get_more_work_done_than_its_limit() -> None:
    device = PromptMemoryDevice(SIZE)
    with serving(device) as served:
        client = served.enter()
        sent = threading.Thread(
            target=client.sock.sendall, args=(request(READ, 0, 1 << 20) * 1000,)
        )
        sent.start()
        sent.join()
        assert still_serves(served)
        served.server.stop(timeout_seconds=0)
    assert len(device.calls) < 100


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        flags(0xFF),
        flags() + b"x" * 16,
        flags() + b"IHAVEOPT" + struct.pack(">II", 7, 0xFFFFFFFF),
        flags() + go() + b"x" * 28,
        flags() + go() + request(WRITE, 0, 0xFFFFFFFF),
    ],
)
def test_nonsense_ends_its_own_connection(nonsense: bytes) -> None:
    with serving(MemoryDevice(SIZE)) as served:
        other = served.enter()
        client = served.connect()
        client.sock.sendall(nonsense)
        while client.sock.recv(4096):
            pass
        assert other.ask(FLUSH).error == 0
        assert served.log == []


def test_4_gib_at_once_are_refused_in_the_specifications_words() -> None:
    with serving(MemoryDevice(SIZE)) as served:
        client = served.enter()
        assert client.ask(READ, 0, 0xFFFFFFFF).error == 22
        assert client.ask(READ, 0, 0xFFFFFFFF, flags=DF).error == 75
        assert client.ask(READ, 0, 1).error == 0


def test_half_a_negotiation_is_given_up_at_the_deadline() -> None:
    with serving(MemoryDevice(SIZE), handshake_seconds=0.05) as served:
        client = served.connect()
        client.sock.sendall(flags() + option(STRUCTURED)[:9])
        client.receive(18)
        assert client.is_hung_up()


def test_the_deadline_is_for_the_negotiation_alone() -> None:
    with serving(MemoryDevice(SIZE), handshake_seconds=0.2) as served:
        client, staller = served.enter(), served.connect()
        staller.receive(18)
        assert staller.is_hung_up()  # so the deadline has passed for both
        assert client.ask(FLUSH).error == 0


def test_a_thousand_connections_are_turned_away_beyond_the_limit() -> None:
    with serving(MemoryDevice(SIZE), connections_max=8) as served:
        first = [served.enter() for _ in range(8)]
        for _ in range(1000):
            assert served.connect().is_hung_up()
        assert served.server.connection_count() == 8
        assert all(client.ask(FLUSH).error == 0 for client in first)


def test_a_connection_that_ended_makes_room() -> None:
    with serving(MemoryDevice(SIZE), connections_max=1) as served:
        client = served.enter()
        client.sock.close()
        for thread in threading.enumerate():
            if thread.name == "nbd-client":
                thread.join(30)
        assert still_serves(served)


@pytest.mark.slow
@settings(max_examples=60)
@given(
    data=st.lists(
        st.binary(max_size=60)
        | st.builds(write, st.integers(0, SIZE), st.binary(max_size=5000))
        | st.builds(
            request,
            st.integers(0, 9),
            st.integers(0, SIZE + 1),
            st.integers(0, 1 << 17),
            flags=st.integers(0, 31),
        ),
        max_size=8,
    ).map(b"".join)
)
def test_whatever_is_sent_the_server_ends_cleanly(data: bytes) -> None:
    with serving(MemoryDevice(SIZE)) as served:
        client = served.enter()
        client.sock.sendall(data)
        client.sock.shutdown(socket.SHUT_WR)
        try:
            while client.sock.recv(1 << 20):
                pass
        except ConnectionResetError:
            pass  # what it sent was not read to the end
        assert served.log == []
