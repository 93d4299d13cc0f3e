"""The NBD client against servers that are wrong in every way.

A server here is a transcript: all it will ever say, written into a socket beforehand.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebsim.sources.nbd_client import NbdClient
from ebsim.sources.nbd_protocol import NbdRefusal, NbdViolation, StatusRange

SIZE = 10_000
CONTEXT = 77
GREETING = b"NBDMAGICIHAVEOPT" + struct.pack(">H", 0b11)


def option_reply(option: int, kind: int, payload: bytes = b"") -> bytes:
    return struct.pack(">QIII", 0x3E889045565A9, option, kind, len(payload)) + payload


def context(context_id: int = CONTEXT, name: bytes = b"base:allocation") -> bytes:
    return option_reply(10, 4, struct.pack(">I", context_id) + name)


def export(size_bytes: int = SIZE, flags: int = 0b1000_0011) -> bytes:
    return option_reply(7, 3, struct.pack(">HQH", 0, size_bytes, flags))


STRUCTURED = option_reply(8, 1)
CONTEXTS = context() + option_reply(10, 1)
GO = export() + option_reply(7, 1)
NEGOTIATION = GREETING + STRUCTURED + CONTEXTS + GO


def chunk(kind: int, payload: bytes = b"", *, cookie: int = 1, is_last: bool = True) -> bytes:
    header = struct.pack(">IHHQI", 0x668E33EF, is_last, kind, cookie, len(payload))
    return header + payload


def data(offset_bytes: int, content: bytes, *, cookie: int = 1, is_last: bool = True) -> bytes:
    return chunk(1, struct.pack(">Q", offset_bytes) + content, cookie=cookie, is_last=is_last)


def hole(offset_bytes: int, size_bytes: int) -> bytes:
    return chunk(2, struct.pack(">QI", offset_bytes, size_bytes))


def status(*pairs: tuple[int, int], context_id: int = CONTEXT) -> bytes:
    ranges = b"".join(struct.pack(">II", *pair) for pair in pairs)
    return chunk(5, struct.pack(">I", context_id) + ranges)


def error(code: int, message: bytes = b"", *, cookie: int = 1) -> bytes:
    return chunk(0x8001, struct.pack(">IH", code, len(message)) + message, cookie=cookie)


@contextmanager
def server(transcript: bytes, *, hangs: bool = False) -> Iterator[socket.socket]:
    """The client's end of a connection to a server that says *transcript*, then closes."""
    ours, theirs = socket.socketpair()
    with theirs, ours:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        theirs.sendall(transcript)
        if not hangs:
            theirs.shutdown(socket.SHUT_WR)
        yield ours


def connect(transcript: bytes) -> None:
    with server(transcript) as sock:
        NbdClient(sock)


def read(reply: bytes, size_bytes: int = 8, offset_bytes: int = 100) -> bytes:
    buffer = bytearray(b"\xff" * size_bytes)
    with server(NEGOTIATION + reply) as sock:
        NbdClient(sock).read_into(memoryview(buffer), offset_bytes)
    return bytes(buffer)


def block_status(reply: bytes, start: int = 0) -> list[StatusRange]:
    with server(NEGOTIATION + reply) as sock:
        return list(NbdClient(sock).block_status(start))


def test_a_negotiation_yields_the_size_of_the_export() -> None:
    with server(NEGOTIATION) as sock, closing(NbdClient(sock)) as client:
        assert client.size_bytes == SIZE


def test_information_not_asked_for_is_passed_over() -> None:
    block_sizes = option_reply(7, 3, struct.pack(">HIII", 3, 1, 4096, 1 << 25))
    connect(GREETING + STRUCTURED + CONTEXTS + block_sizes + GO)


@pytest.mark.parametrize(
    "transcript",
    [
        b"",
        GREETING[:10],
        b"HTTP/1.1 400 Bad Request",
        b"NBDMAGIC" + struct.pack(">QH", 0x0042028186125, 3),
        GREETING[:16] + struct.pack(">H", 0),
        GREETING + STRUCTURED[:7],
        GREETING + b"\0" + STRUCTURED[1:],
        GREETING + option_reply(7, 1),
        GREETING + option_reply(8, 1, b"?"),
        GREETING + struct.pack(">QIII", 0x3E889045565A9, 8, 1, 1 << 31),
        GREETING + option_reply(8, 3) * 20,
        GREETING + STRUCTURED + context(name=b"base:other") + option_reply(10, 1),
        GREETING + STRUCTURED + option_reply(10, 4, b"\0") + option_reply(10, 1),
        GREETING + STRUCTURED + CONTEXTS + option_reply(7, 1),
        GREETING + STRUCTURED + CONTEXTS + option_reply(7, 3, b"\0") + option_reply(7, 1),
        GREETING + STRUCTURED + CONTEXTS + option_reply(7, 3, bytes(8)) + option_reply(7, 1),
        GREETING + STRUCTURED + CONTEXTS + export() + GO,
        GREETING + STRUCTURED + CONTEXTS + export(flags=0) + option_reply(7, 1),
        GREETING + STRUCTURED + CONTEXTS + export(flags=3) + option_reply(7, 1),
        GREETING + STRUCTURED + CONTEXTS + export(1 << 63) + option_reply(7, 1),
    ],
)
def test_a_negotiation_that_breaks_the_protocol_is_given_up(transcript: bytes) -> None:
    with pytest.raises(NbdViolation):
        connect(transcript)


@pytest.mark.parametrize(
    "transcript",
    [
        GREETING + option_reply(8, (1 << 31) + 1, b"unsupported"),
        GREETING + STRUCTURED + option_reply(10, 1),
        GREETING + STRUCTURED + CONTEXTS + option_reply(7, (1 << 31) + 6, b"no such export"),
    ],
)
def test_a_server_that_refuses_says_so(transcript: bytes) -> None:
    with pytest.raises(NbdRefusal):
        connect(transcript)


@pytest.mark.parametrize("transcript", [b"", GREETING, NEGOTIATION[:-3]])
def test_a_server_that_falls_silent_is_given_up(transcript: bytes) -> None:
    with server(transcript, hangs=True) as sock, pytest.raises(NbdViolation, match="is silent"):
        NbdClient(sock, timeout_seconds=0.02)


def test_a_read_is_answered_by_data() -> None:
    assert read(data(100, b"contents")) == b"contents"


def test_a_read_is_answered_by_data_and_an_end_of_its_own() -> None:
    assert read(data(100, b"contents", is_last=False) + chunk(0)) == b"contents"


def test_a_read_is_answered_by_a_hole() -> None:
    assert read(hole(100, 8)) == bytes(8)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        data(100, b"contents")[:-1],
        b"\0" + data(100, b"contents")[1:],
        data(100, b"contents", cookie=2),
        data(101, b"contents"),
        data(100, b"content"),
        data(100, b"contents!"),
        data(100, b"cont", is_last=False) + data(104, b"ents"),
        data(100, b"contents", is_last=False) + data(100, b"contents"),
        chunk(1, b"short"),
        hole(99, 8),
        hole(100, 7),
        chunk(2, b"\0" * 11),
        chunk(0),
        chunk(0, is_last=False) + data(100, b"contents"),
        chunk(0, b"x"),
        chunk(3, b"unknown"),
        status((8, 0)),
        chunk(0x8001, b"short"),
        chunk(0x8001, struct.pack(">IH", 0, 0)),
        chunk(0x8001, struct.pack(">IH", 5, 9)),
        struct.pack(">IHHQI", 0x668E33EF, 1, 0x8001, 1, 1 << 31),
        chunk(0x8001, struct.pack(">IH", 5, 0), is_last=False) * 20,
        struct.pack(">IIQ", 0x67446698, 0, 1) + b"contents",
        struct.pack(">IIQ", 0x67446698, 5, 2),
    ],
)
def test_a_read_answered_wrongly_is_an_error(reply: bytes) -> None:
    with pytest.raises(NbdViolation):
        read(reply)


@pytest.mark.parametrize(
    "reply",
    [
        error(5, b"it broke"),
        data(100, b"contents", is_last=False) + error(5, b"it broke"),
        struct.pack(">IIQ", 0x67446698, 5, 1),
    ],
)
def test_a_read_that_fails_says_why(reply: bytes) -> None:
    with pytest.raises(NbdRefusal, match="error 5"):
        read(reply)


def test_the_connection_is_of_use_after_an_error() -> None:
    buffer = bytearray(8)
    with server(NEGOTIATION + error(5) + data(0, b"contents", cookie=2)) as sock:
        client = NbdClient(sock)
        with pytest.raises(NbdRefusal):
            client.read_into(memoryview(buffer), 100)
        client.read_into(memoryview(buffer), 0)
    assert buffer == b"contents"


def test_only_zeros_count_as_zeros() -> None:
    """Bit 0 alone, a hole of undefined contents, has to be read; other bits mean nothing."""
    assert block_status(status((100, 0), (200, 1), (300, 3), (400, 2), (500, 0x80))) == [
        StatusRange(0, 100, False),
        StatusRange(100, 300, False),
        StatusRange(300, 600, True),
        StatusRange(600, 1000, True),
        StatusRange(1000, 1500, False),
    ]


def test_a_last_range_past_the_end_is_cut() -> None:
    assert block_status(status((1 << 31, 3)), 9000) == [StatusRange(9000, SIZE, True)]


@pytest.mark.parametrize(
    "reply",
    [
        status(),
        status((0, 3)),
        status((SIZE, 3), (1, 0)),
        status((100, 0), context_id=1),
        chunk(5, bytes(13)),
        chunk(0),
        data(0, b"contents"),
        status((100, 0))[:-1],
        status((100, 0)).replace(b"\0\1\0\5", b"\0\0\0\5", 1) + status((100, 0)),
        struct.pack(">IHHQI", 0x668E33EF, 1, 5, 1, 1 << 31),
    ],
)
def test_a_block_status_that_makes_no_sense_is_an_error(reply: bytes) -> None:
    with pytest.raises(NbdViolation):
        block_status(reply)


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_whatever_a_server_says_is_an_answer_or_an_error(noise: bytes) -> None:
    for ask in (connect, read, block_status):
        try:
            ask(noise)
        except (NbdViolation, NbdRefusal):
            continue
        assert ask is not connect


VALID = NEGOTIATION + data(100, b"contents", is_last=False) + chunk(0)


@pytest.mark.slow
@settings(max_examples=500)
@given(
    at=st.integers(0, len(VALID) - 1),
    byte=st.integers(0, 255),
    stop=st.none() | st.integers(0, len(VALID) - 1),
)
def test_a_damaged_answer_is_an_error_or_only_its_contents_differ(
    at: int, byte: int, stop: int | None
) -> None:
    transcript = bytearray(VALID)
    transcript[at] = byte
    buffer = bytearray(8)
    try:
        with server(bytes(transcript[:stop])) as sock:
            NbdClient(sock).read_into(memoryview(buffer), 100)
    except (NbdViolation, NbdRefusal):
        return
    contents_at = VALID.index(b"contents")
    assert buffer == transcript[contents_at : contents_at + 8]
