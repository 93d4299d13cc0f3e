"""The rows by which the store finds and counts its chunks.  Pure: bytes in, bytes out.

    table      key                          value
    CHUNKS     digest                       chunk number, 5 bytes BE
    LOCATIONS  page, 8 BE (64 numbers)      64 x (pack u32, offset u32, size u24, kind/codec u8)
    COUNTS     page, 8 BE (256 numbers)     256 x u32, the reference counts
    NODES      chunk number, 8 BE           a node's children, a leaf's fingerprints: see NodeRow
    PACKS      pack number, 4 BE            u64 size, u64 live bytes, u32 live records, name
    DEAD       pack number, offset, 4+4 BE  u32 stop, u8 punched: bytes nothing references
    RECLAIM    chunk number, 8 BE           empty: its count reached zero
    DAMAGED    chunk number, 8 BE           text: what was found
    HOLDS      owner "/" level u8 index 8   chunk number 8, digest: a reference from outside

Chunk and pack numbers begin at 1, are local to the store, and are never used again.
Integers in values are little endian, in keys big endian so that rows sort by number.
A full leaf's row is 3100 bytes: one page of LMDB, whose next smaller size would not
hold the fingerprints.
"""

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ebsim.content.fingerprint import FINGERPRINT_SIZE
from ebsim.errors import MetadataCorrupt

LOCATIONS_PER_PAGE = 64
COUNTS_PER_PAGE = 256
CHUNK_NUMBER_MAX = (1 << 40) - 1

_LOCATION = struct.Struct("<III")
LOCATION_SIZE = _LOCATION.size
_PACK = struct.Struct("<QQI")
_DEAD_KEY = struct.Struct(">II")
_DEAD = struct.Struct("<IB")
_NODE = struct.Struct("<BBHI16s")
_number_key = struct.Struct(">Q").pack
_pack_key = struct.Struct(">I").pack

number_key = _number_key
"""The key of the row about a chunk number, or of a page of them."""

pack_key = _pack_key


class Location(NamedTuple):
    """Where a chunk's record lies."""

    pack_number: int
    offset: int
    payload_size: int
    kind: int
    codec: int


def encode_chunk_number(number: int) -> bytes:
    return number.to_bytes(5, "big")


def decode_chunk_number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def encode_location(location: Location | None) -> bytes:
    """One slot of a locations page; ``None`` is a number that is free."""
    if location is None:
        return bytes(LOCATION_SIZE)
    pack_number, offset, payload_size, kind, codec = location
    return _LOCATION.pack(pack_number, offset, payload_size | kind << 24 | codec << 28)


def decode_location(page: bytes, slot: int) -> Location | None:
    pack_number, offset, packed = _LOCATION.unpack_from(page, slot * LOCATION_SIZE)
    if pack_number == 0:
        return None
    return Location(pack_number, offset, packed & 0xFFFFFF, packed >> 24 & 0xF, packed >> 28)


class PackRow(NamedTuple):
    """What the store knows of a pack."""

    size_bytes: int
    live_bytes: int
    live_count: int
    name: str


def encode_pack(row: PackRow) -> bytes:
    return _PACK.pack(row.size_bytes, row.live_bytes, row.live_count) + row.name.encode()


def decode_pack(value: bytes) -> PackRow:
    size_bytes, live_bytes, live_count = _PACK.unpack_from(value)
    return PackRow(size_bytes, live_bytes, live_count, value[_PACK.size :].decode())


def dead_key(pack_number: int, offset: int) -> bytes:
    return _DEAD_KEY.pack(pack_number, offset)


class DeadExtent(NamedTuple):
    """A range of a pack that nothing references; *punched* once its space was given back."""

    pack_number: int
    start: int
    stop: int
    punched: bool


def encode_dead(extent: DeadExtent) -> tuple[bytes, bytes]:
    """The row of *extent*: key and value."""
    return (
        _DEAD_KEY.pack(extent.pack_number, extent.start),
        _DEAD.pack(extent.stop, extent.punched),
    )


def decode_dead(key: bytes, value: bytes) -> DeadExtent:
    pack_number, start = _DEAD_KEY.unpack(key)
    stop, punched = _DEAD.unpack(value)
    return DeadExtent(pack_number, start, stop, bool(punched))


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node's edges, by chunk number, in the order of its children.

    Attributes:
        kind: ``Kind.LEAF`` or ``Kind.INNER``.
        bitmap: The node's presence bitmap, 16 bytes; which child is where.
        children: Chunk numbers, as many as the bitmap has bits set.
        fingerprints: A leaf's blocks' fingerprints, 16 bytes each; empty for an inner
            node, and for a leaf that has lost them.
    """

    kind: int
    bitmap: bytes
    children: "array[int]"
    fingerprints: bytes


def encode_node_row(row: NodeRow) -> bytes:
    head = _NODE.pack(row.kind, bool(row.fingerprints), 0, len(row.children), row.bitmap)
    return head + row.children.tobytes() + row.fingerprints


def decode_node_row(value: bytes) -> NodeRow:
    """The row in *value*.

    Raises:
        MetadataCorrupt: its parts do not add up.
    """
    if len(value) < _NODE.size:
        raise MetadataCorrupt(where="a node row", found=f"{len(value)} bytes")
    kind, has_fingerprints, _, count, bitmap = _NODE.unpack_from(value)
    stop = _NODE.size + 8 * count
    if len(value) != stop + (count * FINGERPRINT_SIZE if has_fingerprints else 0):
        raise MetadataCorrupt(where="a node row", found=f"{len(value)} bytes, {count} children")
    return NodeRow(kind, bitmap, array("Q", value[_NODE.size : stop]), value[stop:])


class Holder(NamedTuple):
    """Who holds a reference on a node from outside the trees, and for what.

    A snapshot holds its root; one being taken, each finished subtree; a reader at work,
    the root that it reads.  *level* and *place*, its index on that level, say where in the
    holder's map it is.
    """

    owner: str
    level: int
    place: int

    def key(self) -> bytes:
        return hold_prefix(self.owner) + bytes((self.level,)) + _number_key(self.place)


def hold_prefix(owner: str) -> bytes:
    return owner.encode() + b"/"


def hold_keys(owner: str, level: int, places: Sequence[int]) -> list[bytes]:
    """The keys of the owner's holds at *places* of *level*."""
    head = hold_prefix(owner) + bytes((level,)) if places else b""
    return [head + _number_key(place) for place in places]


def decode_holder(key: bytes) -> Holder:
    owner = key[:-10].decode()
    return Holder(owner, key[-9], int.from_bytes(key[-8:], "big"))


def encode_hold(number: int, digest: bytes) -> bytes:
    return _number_key(number) + digest


def decode_hold(value: bytes) -> tuple[int, bytes]:
    """The chunk number and the digest of the node held."""
    return int.from_bytes(value[:8], "big"), value[8:]
