"""What lies inside the options that carry more than a name.

Source:
    https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, section "Option types"
"""

import struct
from typing import NamedTuple

from ebsim.nbd import wire


class InvalidOption(Exception):
    """The option's data is not laid out as the specification says (NBD_REP_ERR_INVALID)."""


class InfoRequest(NamedTuple):
    """The data of INFO and GO: an export, and which kinds of information are wanted."""

    export_name: bytes
    wanted: tuple[int, ...]


class MetaRequest(NamedTuple):
    """The data of LIST_META_CONTEXT and SET_META_CONTEXT."""

    export_name: bytes
    queries: tuple[bytes, ...]


def decode_info_request(data: bytes) -> InfoRequest:
    """32 bits length, name, 16 bits count, that many 16-bit kinds, and nothing more.

    Raises:
        InvalidOption: *data* is anything else.
    """
    export_name, position = _take_string(data, 0)
    rest = data[position:]
    if len(rest) < 2 or len(rest) != 2 + 2 * int.from_bytes(rest[:2], "big"):
        raise InvalidOption("the list of information kinds has another length than it says")
    return InfoRequest(export_name, struct.unpack(f">{len(rest) // 2 - 1}H", rest[2:]))


def decode_meta_request(data: bytes) -> MetaRequest:
    """32 bits length, name, 32 bits count, that many strings, and nothing more.

    Raises:
        InvalidOption: *data* is anything else, or a query has no namespace.
    """
    export_name, position = _take_string(data, 0)
    (count,) = wire.LENGTH.unpack(_take(data, position, 4))
    position += 4
    queries = []
    for _ in range(count):  # each takes four bytes at least: the data ends it
        query, position = _take_string(data, position)
        if b":" not in query:
            raise InvalidOption("a query names no namespace")
        queries.append(query)
    if position != len(data):
        raise InvalidOption("something follows the last query")
    return MetaRequest(export_name, tuple(queries))


def _take_string(data: bytes, position: int) -> tuple[bytes, int]:
    (length,) = wire.LENGTH.unpack(_take(data, position, 4))
    # Section "Strings".
    if length > wire.STRING_BYTES_MAX:
        raise InvalidOption(f"a string announces {length} bytes")
    start = position + 4
    return _take(data, start, length), start + length


def _take(data: bytes, start: int, length: int) -> bytes:
    taken = data[start : start + length]
    if len(taken) < length:
        raise InvalidOption("the data ends early")
    return taken
