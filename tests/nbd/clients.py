"""What NBD clients say, right and wrong, as bytes; and what they are told."""

import struct
from typing import NamedTuple

STRUCTURED, LIST, STARTTLS, INFO, GO = 8, 3, 5, 6, 7
LIST_META, SET_META, ABORT, EXPORT_NAME = 9, 10, 2, 1
ACK, SERVER, INFORMATION, META = 1, 2, 3, 4
ERROR = 1 << 31

READ, WRITE, DISCONNECT, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO = (1 << bit for bit in range(5))

GREETING = b"NBDMAGICIHAVEOPT\x00\x03"


class OptionReply(NamedTuple):
    option: int
    kind: int
    payload: bytes


def flags(value: int = 3) -> bytes:
    return struct.pack(">I", value)


def option(number: int, data: bytes = b"") -> bytes:
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def go(name: bytes = b"", *kinds: int, number: int = GO) -> bytes:
    wanted = struct.pack(f">H{len(kinds)}H", len(kinds), *kinds)
    return option(number, text(name) + wanted)


def meta(*queries: bytes, name: bytes = b"", number: int = SET_META) -> bytes:
    listed = b"".join(text(query) for query in queries)
    return option(number, text(name) + struct.pack(">I", len(queries)) + listed)


def option_replies(data: bytes) -> list[OptionReply]:
    replies = []
    while data:
        magic, number, kind, length = struct.unpack_from(">QIII", data)
        assert magic == 0x3E889045565A9
        assert len(data) >= 20 + length
        replies.append(OptionReply(number, kind, data[20 : 20 + length]))
        data = data[20 + length :]
    return replies


def request(
    command: int, offset: int = 0, length: int = 0, *, flags: int = 0, cookie: int = 1
) -> bytes:
    return struct.pack(">IHHQQI", 0x25609513, flags, command, cookie, offset, length)


def write(offset: int, data: bytes, *, flags: int = 0, cookie: int = 1) -> bytes:
    return request(WRITE, offset, len(data), flags=flags, cookie=cookie) + data
