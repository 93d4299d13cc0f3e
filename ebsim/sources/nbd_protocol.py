"""The Network Block Device protocol, as far as a reading client speaks it.

Fixed newstyle negotiation, structured replies, and block status in the
``base:allocation`` context.  The layouts and numbers are those of ``ebsim.nbd.wire``.

A server may be wrong or hostile: every field that it sends is checked, and what does not
fit raises :class:`NbdViolation`, after which the connection is of no more use.

This module is pure: it turns messages into bytes and back, and opens no socket.

Source:
    https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md; the section is
    named beside each check.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ebsim.errors import SourceUnusable
from ebsim.nbd import wire
from ebsim.sources.source import Extent

# Every server takes 32 MiB ("Block sizes"), but qemu-nbd answers at half the speed from 1 MiB
# on, where its every answer is in memory that is new to it.
READ_BYTES_MAX = 512 << 10
# qemu-nbd describes at most 1 MiB of ranges in one reply.
STATUS_PAYLOAD_BYTES_MAX = 4 + (1 << 20)
# A length is 32 bits; a power of two keeps requests aligned.
STATUS_BYTES_MAX = 1 << 31
# Strings are at most 4096 bytes; option replies hold one and a few numbers.
OPTION_REPLY_BYTES_MAX = 16 << 10


class NbdViolation(SourceUnusable):
    """The server broke the protocol, or the connection to it."""


class NbdRefusal(SourceUnusable):
    """The server answered a request with an error."""


class Export(NamedTuple):
    """What a server offers."""

    size_bytes: int


class StatusRange(NamedTuple):
    """A half-open range of bytes, and whether it reads as zeros."""

    start: int
    stop: int
    is_zero: bool


class ChunkHeader(NamedTuple):
    """The head of one piece of a structured reply."""

    is_last: bool
    kind: int
    payload_bytes: int


class OptionReply(NamedTuple):
    """The head of the answer to an option."""

    kind: int
    payload_bytes: int


def answer_greeting(greeting: bytes) -> bytes:
    """The client's flags, for the server's first 18 bytes (section "Newstyle negotiation")."""
    magic, style, flags = wire.GREETING.unpack(greeting)
    if magic != wire.GREETING_MAGIC or style != wire.OPTION_MAGIC:
        raise NbdViolation(f"the server greets with {greeting[:16]!r}, which is not newstyle NBD")
    if not flags & wire.HANDSHAKE_FIXED_NEWSTYLE:
        raise NbdViolation("the server does not offer fixed newstyle negotiation")
    # "A client MUST NOT set a flag that the server did not."
    return struct.pack(">I", flags & (wire.HANDSHAKE_FIXED_NEWSTYLE | wire.HANDSHAKE_NO_ZEROES))


def encode_option(option: int, payload: bytes = b"") -> bytes:
    return wire.OPTION.pack(wire.OPTION_MAGIC, option, len(payload)) + payload


def encode_go(export_name: bytes) -> bytes:
    """NBD_OPT_GO, asking for no information beyond what the server must give."""
    return encode_option(wire.OPTION_GO, wire.encode_string(export_name) + struct.pack(">H", 0))


def encode_set_base_allocation(export_name: bytes) -> bytes:
    """NBD_OPT_SET_META_CONTEXT with ``base:allocation`` alone."""
    query = struct.pack(">I", 1) + wire.encode_string(wire.BASE_ALLOCATION)
    return encode_option(wire.OPTION_SET_META_CONTEXT, wire.encode_string(export_name) + query)


def decode_option_reply(header: bytes, option: int) -> OptionReply:
    """Check the 20 bytes before an option reply's payload (section "Fixed newstyle")."""
    magic, answered, kind, payload_bytes = wire.OPTION_REPLY.unpack(header)
    if magic != wire.OPTION_REPLY_MAGIC:
        raise NbdViolation(f"an option reply has the magic {magic:x}")
    if answered != option:
        raise NbdViolation(f"option {option} was asked and option {answered} answered")
    if payload_bytes > OPTION_REPLY_BYTES_MAX:
        raise NbdViolation(f"an option reply announces {payload_bytes} bytes")
    return OptionReply(kind, payload_bytes)


def check_option_reply(reply: OptionReply, payload: bytes) -> None:
    """Refuse an error (bit 31), and a payload on an acknowledgement, which has none.

    Section "Option reply types".
    """
    if reply.kind & wire.REPLY_ERROR_BIT:
        raise NbdRefusal(
            f"the server refuses the negotiation (error {reply.kind & ~wire.REPLY_ERROR_BIT}): "
            f"{payload.decode(errors='replace')}"
        )
    if reply.kind == wire.REPLY_ACK and payload:
        raise NbdViolation("an acknowledgement carries data")


def decode_export_info(payload: bytes) -> Export | None:
    """The export in an NBD_REP_INFO, ``None`` for information of another kind."""
    if len(payload) < 2:
        raise NbdViolation("an information reply is shorter than its type")
    if int.from_bytes(payload[:2], "big") != wire.INFO_EXPORT:
        return None
    if len(payload) != wire.EXPORT_INFO.size:
        raise NbdViolation(f"the export's information is {len(payload)} bytes, not 12")
    _, size_bytes, flags = wire.EXPORT_INFO.unpack(payload)
    # Section "Transmission flags": bit 0 "MUST always be 1".
    if not flags & wire.TRANSMISSION_HAS_FLAGS:
        raise NbdViolation("the export's flags lack bit 0")
    if size_bytes >= 1 << 63:
        raise NbdViolation(f"the export claims {size_bytes} bytes")
    if not flags & wire.TRANSMISSION_SEND_DF:
        raise NbdViolation("the server cannot answer a read in one piece")
    return Export(size_bytes)


def decode_meta_context(payload: bytes) -> int:
    """The id that the server gave to ``base:allocation``, the only context asked for."""
    if payload[4:] != wire.BASE_ALLOCATION:
        raise NbdViolation(f"the server selects the context {payload[4:]!r}, never asked for")
    return int.from_bytes(payload[:4], "big")


def encode_request(
    command: int, cookie: int, offset_bytes: int = 0, size_bytes: int = 0, *, flags: int = 0
) -> bytes:
    return wire.REQUEST.pack(wire.REQUEST_MAGIC, flags, command, cookie, offset_bytes, size_bytes)


def is_simple_reply(start: bytes) -> bool:
    """Whether the first bytes of a reply are those of a simple one, 16 bytes in all.

    Once structured replies are agreed it is allowed for requests other than reads, and
    only without data: for what is asked here, an error (section "Simple reply message").
    """
    return int.from_bytes(start[:4], "big") == wire.SIMPLE_REPLY_MAGIC


def decode_simple_error(reply: bytes, cookie: int) -> NbdRefusal:
    """The error of a simple reply to *cookie*."""
    _, code, answered = wire.SIMPLE_REPLY.unpack(reply)
    if answered != cookie or code == 0:
        raise NbdViolation("a simple reply answers no request, or says no error")
    return NbdRefusal(f"error {code}")


def decode_chunk(header: bytes, cookie: int) -> ChunkHeader:
    """Check a chunk's head against the one request in flight (section "Structured reply")."""
    magic, flags, kind, answered, payload_bytes = wire.CHUNK.unpack(header)
    if magic != wire.CHUNK_MAGIC:
        raise NbdViolation(f"a reply has the magic {magic:x}")
    if answered != cookie:
        raise NbdViolation(f"request {cookie} is in flight and {answered} answered")
    is_last = bool(flags & 1)
    if kind == wire.CHUNK_NONE and (payload_bytes or not is_last):
        raise NbdViolation("an empty chunk carries data, or is not the last")
    return ChunkHeader(is_last, kind, payload_bytes)


def decode_error(payload: bytes) -> NbdRefusal:
    """The error in a chunk with bit 15 set (section "Structured reply types").

    The message's length must fit the payload; fields after it are passed over.
    """
    if len(payload) < 6:
        raise NbdViolation("an error chunk is shorter than 6 bytes")
    code, message_bytes = struct.unpack_from(">IH", payload)
    if code == 0 or message_bytes > len(payload) - 6:
        raise NbdViolation("an error chunk says no error, or is shorter than its message")
    message = payload[6 : 6 + message_bytes].decode(errors="replace")
    return NbdRefusal(f"error {code}: {message}" if message else f"error {code}")


def decode_block_status(payload: bytes, context_id: int, asked: Extent) -> Iterator[StatusRange]:
    """The ranges that a status chunk describes: rising, touching, the first at ``asked.start``.

    They may end before ``asked.stop``: the rest has to be asked for again.  Only what is
    marked as zeros counts as such: a hole that is not ("contents undefined") has to be
    read.

    Source:
        Section "Structured reply types", NBD_REPLY_TYPE_BLOCK_STATUS.  The last descriptor
        may reach past what was asked, and is cut to it; an earlier one may not.
    """
    if len(payload) < 12 or (len(payload) - 4) % 8:
        raise NbdViolation(f"a block status of {len(payload)} bytes is not 4 and some eights")
    if int.from_bytes(payload[:4], "big") != context_id:
        raise NbdViolation("a block status names a context that was not negotiated")
    position = asked.start
    for length, flags in wire.DESCRIPTOR.iter_unpack(memoryview(payload)[4:]):
        if length == 0 or position >= asked.stop:
            raise NbdViolation(f"the block status at byte {position} makes no sense")
        stop = min(position + length, asked.stop)
        yield StatusRange(position, stop, bool(flags & wire.STATE_ZERO))
        position += length
