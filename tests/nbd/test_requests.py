"""Requests taken out of what a client sends, and what is refused among them."""

import struct
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.nbd.export_offer import PAYLOAD_BYTES_MAX, Agreement, ExportOffer
from ebsim.nbd.requests import ProtocolViolation, RequestParser
from tests.nbd.clients import (
    CACHE,
    DF,
    DISCONNECT,
    FAST_ZERO,
    FLUSH,
    FUA,
    NO_HOLE,
    READ,
    REQ_ONE,
    STATUS,
    TRIM,
    WRITE,
    ZEROES,
    request,
    write,
)

SIZE = 1 << 40
WINDOW = 1024
EPERM, EINVAL, ENOSPC, EOVERFLOW = 1, 22, 28, 75


class Seen(NamedTuple):
    """A request with all of its payload, and the error it has to be answered with."""

    command: int
    cookie: int
    data: bytes
    error: int | None


def agreed(*, is_read_only: bool = False, is_structured: bool = True) -> Agreement:
    offer = ExportOffer("disk", "", SIZE, is_read_only=is_read_only)
    return Agreement(offer, is_structured, {1: b"base:allocation"} if is_structured else {})


def parse(stream: bytes, agreement: Agreement, sizes: list[int] | None = None) -> list[Seen]:
    """What a server with a small buffer makes of *stream*, received in pieces of *sizes*."""
    parser = RequestParser(agreement, WINDOW)
    seen: list[Seen] = []
    window = b""
    pieces = iter(sizes or [])
    while stream or window:
        size = min(next(pieces, WINDOW), WINDOW - len(window))
        window, stream, at_end = window + stream[:size], stream[size:], not stream
        for found in parser.requests(memoryview(window)):
            data = bytes(found.data)
            if len(data) < found.length and found.command == WRITE and found.fault is None:
                lacking = found.length - len(data)
                if lacking > len(stream):
                    return seen  # the client left in the middle
                data, stream = data + stream[:lacking], stream[lacking:]
            error = found.fault.error if found.fault is not None else None
            seen.append(Seen(found.command, found.cookie, b"" if error else data, error))
        if at_end:
            return seen
        window = window[parser.consumed :]
    return seen


def error_of(message: bytes, **situation: bool) -> int | None:
    (seen,) = parse(message, agreed(**situation))
    return seen.error


@pytest.mark.parametrize("command", [READ, TRIM, CACHE, ZEROES, STATUS])
def test_what_lies_inside_the_export_is_let_through(command: int) -> None:
    assert error_of(request(command, SIZE - 4096, 4096)) is None


@pytest.mark.parametrize(
    ("command", "error"),
    [(READ, EINVAL), (CACHE, EINVAL), (STATUS, EINVAL), (TRIM, ENOSPC), (ZEROES, ENOSPC)],
)
@pytest.mark.parametrize("offset", [SIZE - 4095, SIZE, (1 << 64) - 1])
def test_what_reaches_past_the_end_is_refused(command: int, error: int, offset: int) -> None:
    assert error_of(request(command, offset, 4096)) == error


def test_a_write_past_the_end_is_refused_and_what_follows_it_is_found() -> None:
    stream = write(SIZE - 1, b"x" * 5000) + request(READ, 0, 512, cookie=2)
    assert parse(stream, agreed()) == [Seen(WRITE, 1, b"", ENOSPC), Seen(READ, 2, b"", None)]


@pytest.mark.parametrize("message", [write(0, b"x"), request(TRIM, 0, 1), request(ZEROES, 0, 1)])
def test_a_read_only_export_is_not_written(message: bytes) -> None:
    assert error_of(message, is_read_only=True) == EPERM


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (READ, NO_HOLE),
        (READ, REQ_ONE),
        (WRITE, DF),
        (TRIM, NO_HOLE),
        (ZEROES, DF),
        (STATUS, DF),
        (FLUSH, 1 << 15),
    ],
)
def test_flags_of_other_commands_are_refused(command: int, flags: int) -> None:
    assert error_of(request(command, flags=flags)) == EINVAL


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (READ, FUA | DF),
        (WRITE, FUA),
        (FLUSH, FUA),
        (TRIM, FUA),
        (CACHE, FUA),
        (ZEROES, FUA | NO_HOLE | FAST_ZERO),
    ],
)
def test_a_command_takes_its_own_flags(command: int, flags: int) -> None:
    assert error_of(request(command, flags=flags)) is None


def test_df_needs_structured_replies() -> None:
    assert error_of(request(READ, 0, 1, flags=DF), is_structured=False) == EINVAL


def test_block_status_needs_a_context_and_a_length() -> None:
    assert error_of(request(STATUS, 0, 4096), is_structured=False) == EINVAL
    assert error_of(request(STATUS, 0, 0)) == EINVAL


@pytest.mark.parametrize("command", [8, 9, 0xFFFF])
def test_unknown_commands_are_refused(command: int) -> None:
    assert error_of(request(command, 0, 0)) == EINVAL


def test_4_gib_at_once_are_refused() -> None:
    assert error_of(request(READ, 0, 0xFFFFFFFF)) == EINVAL
    assert error_of(request(READ, 0, 0xFFFFFFFF, flags=DF)) == EOVERFLOW
    assert error_of(request(READ, 0, PAYLOAD_BYTES_MAX)) is None


def test_4_gib_may_be_trimmed_at_once() -> None:
    assert error_of(request(TRIM, 0, 0xFFFFFFFF)) is None


def test_a_payload_over_the_maximum_ends_the_connection() -> None:
    with pytest.raises(ProtocolViolation):
        parse(request(WRITE, 0, PAYLOAD_BYTES_MAX + 1), agreed())


@pytest.mark.parametrize("stray", [(1, 0), (0, 1)])
def test_a_flush_has_no_range(stray: tuple[int, int]) -> None:
    assert error_of(request(FLUSH, *stray)) == EINVAL


def test_a_wrong_magic_ends_the_connection_after_what_came_before_it() -> None:
    parser = RequestParser(agreed(), WINDOW)
    found = parser.requests(memoryview(request(READ, 0, 1) + struct.pack(">I24x", 0x25609514)))
    assert next(found).command == READ
    with pytest.raises(ProtocolViolation):
        next(found)


def test_nothing_is_taken_after_a_disconnect() -> None:
    seen = parse(request(DISCONNECT) + bytes(100), agreed())
    assert [s.command for s in seen] == [DISCONNECT]


requests = st.one_of(
    st.builds(
        request,
        st.integers(0, 9).filter(lambda command: command not in (WRITE, DISCONNECT)),
        st.sampled_from([0, 1, 4096, SIZE - 1, SIZE, (1 << 64) - 1]),
        st.sampled_from([0, 1, 512, PAYLOAD_BYTES_MAX + 1, 0xFFFFFFFF]),
        flags=st.integers(0, 32),
        cookie=st.integers(0, (1 << 64) - 1),
    ),
    st.builds(
        write,
        st.sampled_from([0, 1, SIZE - 1]),
        st.binary(max_size=40) | st.sampled_from([b"a" * 996, b"b" * 997, b"c" * 3000]),
        flags=st.sampled_from([0, FUA, DF]),
        cookie=st.integers(0, (1 << 64) - 1),
    ),
)


@given(
    messages=st.lists(requests, max_size=6),
    sizes=st.lists(st.integers(1, WINDOW), max_size=40),
)
def test_how_requests_are_cut_makes_no_difference(messages: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(messages)
    cut = parse(stream, agreed(), sizes)
    assert cut == parse(stream, agreed())
    assert len(cut) == len(messages)


@given(stream=st.lists(requests | st.binary(max_size=60), max_size=6).map(b"".join))
def test_any_bytes_give_requests_inside_the_export_or_end_the_connection(stream: bytes) -> None:
    parser = RequestParser(agreed(), WINDOW)
    try:
        for found in parser.requests(memoryview(stream[:WINDOW])):
            if found.fault is None and found.command not in (DISCONNECT, FLUSH):
                assert found.offset_bytes + found.length <= SIZE
                assert len(found.data) <= found.length
    except ProtocolViolation:
        return
    assert parser.consumed <= len(stream)
