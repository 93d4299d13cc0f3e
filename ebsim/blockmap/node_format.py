"""Node format, version 1: how a page of the block map is written.

    offset  size  field
    0       1     level        0 = leaf, 1 and up = inner node
    1       1     version      1
    2       2     reserved     zero
    4       16    presence     u128 LE, bit i = slot i is present
    20      32 n  digests      of the present slots, by rising slot
    ...     8 n   generations  leaves only: u64 LE, in the same order

n is the number of bits set in *presence*.  A leaf's digests name blocks and its
generations say when each block was last written; an inner node's digests name nodes one
level down.

Invariants, checked when a node is made and again when it is decoded:

1. The encoding is canonical: equal nodes have equal bytes, and every byte string is the
   encoding of one node or of none.
2. An inner node has at least one child.  A leaf without blocks is legal as the root of
   the empty map and nowhere else (``node_store.py`` sees to that).
3. No slot lies at or beyond ``BLOCKS_MAX``.

Nodes are kept as packed columns and not as lists of entries: a leaf is decoded by two
slices, edited by splicing, and 128 entries cost two objects.

This module is pure: it turns nodes into bytes and back, and loads nothing.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast

from ebsim.blockmap.geometry import GEOMETRY, Geometry
from ebsim.content.digest import node_digest
from ebsim.errors import IntegrityError, UnsupportedFormat
from ebsim.ids import DIGEST_SIZE, Digest

FORMAT_VERSION = 1
GENERATION_SIZE = 8
GENERATION_MAX = (1 << 64) - 1

_PREFIX = struct.Struct("<BBH")
PREFIX_SIZE = _PREFIX.size
assert PREFIX_SIZE == 4, "the table above and the struct must agree"


class NodeMalformed(IntegrityError):
    """Bytes that should be a node of the block map are not one.

    Their digest was right, so they were written like that: no other copy will help.
    """

    def __init__(self, digest: Digest, found: str) -> None:
        self.digest = digest
        self.found = found
        super().__init__(
            f"block-map node {digest.hex()[:16]} makes no sense: {found}. Nothing was changed. "
            "Run 'ebsim store check' to see which snapshots it belongs to."
        )


@dataclass(frozen=True, slots=True)
class Leaf:
    """The digests and write generations of the blocks that one leaf covers, as columns."""

    bitmap: int
    digests: bytes
    generations: bytes

    def __post_init__(self) -> None:
        count = self.bitmap.bit_count()
        assert len(self.digests) == count * DIGEST_SIZE, "one digest for each present slot"
        assert len(self.generations) == count * GENERATION_SIZE, "one generation likewise"

    @property
    def level(self) -> int:
        return 0

    @property
    def children(self) -> Sequence[Digest]:
        """The blocks' digests by rising slot."""
        return _split_digests(self.digests)

    def get(self, slot: int) -> tuple[Digest, int] | None:
        """The digest and generation in *slot*, or ``None`` where no block is present."""
        if not self.bitmap >> slot & 1:
            return None
        position = _position(self.bitmap, slot)
        start = position * GENERATION_SIZE
        generation = self.generations[start : start + GENERATION_SIZE]
        return _digest_at(self.digests, position), int.from_bytes(generation, "little")

    def entries(self) -> dict[int, tuple[Digest, int]]:
        """Digest and generation of each present block by slot, in rising order."""
        generations = struct.unpack(f"<{self.bitmap.bit_count()}Q", self.generations)
        columns = zip(self.children, generations, strict=True)
        return dict(zip(slots_of(self.bitmap), columns, strict=True))

    def with_changes(self, changes: Mapping[int, tuple[Digest, int] | None]) -> "Leaf | None":
        """This leaf with the slots of *changes* set, or cleared where the value is ``None``.

        Returns ``None`` where no block remains.
        """
        bitmap = self.bitmap
        digests, generations = bytearray(self.digests), bytearray(self.generations)
        for slot, entry in changes.items():
            start = _position(bitmap, slot)
            stop = start + (bitmap >> slot & 1)
            if entry is None:
                bitmap &= ~(1 << slot)
                digest, generation = b"", b""
            else:
                bitmap |= 1 << slot
                digest, generation = entry[0], entry[1].to_bytes(GENERATION_SIZE, "little")
                assert len(digest) == DIGEST_SIZE, "a block's digest"
            digests[start * DIGEST_SIZE : stop * DIGEST_SIZE] = digest
            generations[start * GENERATION_SIZE : stop * GENERATION_SIZE] = generation
        return Leaf(bitmap, bytes(digests), bytes(generations)) if bitmap else None


@dataclass(frozen=True, slots=True)
class Inner:
    """The digests of an inner node's children."""

    level: int
    bitmap: int
    digests: bytes

    def __post_init__(self) -> None:
        assert self.level > 0, "an inner node is above the leaves"
        assert self.bitmap, "an inner node has a child"
        assert len(self.digests) == self.bitmap.bit_count() * DIGEST_SIZE, "one for each slot"

    @property
    def children(self) -> Sequence[Digest]:
        """The children's digests by rising slot."""
        return _split_digests(self.digests)

    def get(self, slot: int) -> Digest | None:
        """The child in *slot*, or ``None`` where nothing is present below it."""
        if not self.bitmap >> slot & 1:
            return None
        return _digest_at(self.digests, _position(self.bitmap, slot))

    def entries(self) -> dict[int, Digest]:
        """The children's digests by slot, in rising order."""
        return dict(zip(slots_of(self.bitmap), self.children, strict=True))


Node = Leaf | Inner

EMPTY_LEAF = Leaf(0, b"", b"")
"""The root of a map without blocks."""


def inner_node(level: int, children: Mapping[int, Digest]) -> Inner | None:
    """The inner node with *children* by slot, or ``None`` where there are none."""
    bitmap = 0
    for slot, digest in children.items():
        assert len(digest) == DIGEST_SIZE, "a node's digest"
        bitmap |= 1 << slot
    if not bitmap:
        return None
    return Inner(level, bitmap, b"".join(children[slot] for slot in sorted(children)))


def encode_node(node: Node, geometry: Geometry = GEOMETRY) -> bytes:
    """The bytes of *node*."""
    assert not node.bitmap >> geometry.slots_at(node.level), "a slot beyond the last block"
    prefix = _PREFIX.pack(node.level, FORMAT_VERSION, 0)
    bitmap = node.bitmap.to_bytes(geometry.bitmap_size, "little")
    generations = node.generations if isinstance(node, Leaf) else b""
    return b"".join((prefix, bitmap, node.digests, generations))


def decode_node(data: bytes, geometry: Geometry = GEOMETRY) -> Node:
    """The node that *data* encodes.

    Raises:
        NodeMalformed: *data* is not the canonical encoding of a node.
        UnsupportedFormat: the node was written by a newer ebsim.
    """
    header_size = PREFIX_SIZE + geometry.bitmap_size
    if len(data) < header_size:
        raise _malformed(data, f"{len(data)} bytes, expected at least {header_size}")
    level, version, reserved = _PREFIX.unpack_from(data)
    if version > FORMAT_VERSION:
        raise UnsupportedFormat(
            f"block-map node {node_digest(data).hex()[:16]} has format version {version}, this "
            f"ebsim reads up to {FORMAT_VERSION}. Nothing was changed. Install a newer ebsim."
        )
    if version != FORMAT_VERSION or reserved:
        raise _malformed(data, f"version {version}, reserved field {reserved:#06x}")
    if level > geometry.level_max:
        raise _malformed(data, f"level {level}, expected at most {geometry.level_max}")
    bitmap = int.from_bytes(data[PREFIX_SIZE:header_size], "little")
    if bitmap >> geometry.slots_at(level):
        raise _malformed(data, f"slot {bitmap.bit_length() - 1} at level {level}")
    if level and not bitmap:
        raise _malformed(data, f"no children at level {level}")
    digests_end = header_size + bitmap.bit_count() * DIGEST_SIZE
    size = digests_end + (0 if level else bitmap.bit_count() * GENERATION_SIZE)
    if len(data) != size:
        raise _malformed(data, f"{len(data)} bytes, expected {size}")
    digests = data[header_size:digests_end]
    return Inner(level, bitmap, digests) if level else Leaf(bitmap, digests, data[digests_end:])


def slots_of(bitmap: int) -> Iterator[int]:
    """Yield the positions of the bits set in *bitmap*, lowest first."""
    if not bitmap & (bitmap + 1):  # A run from slot 0 on, as in every full node.
        yield from range(bitmap.bit_length())
        return
    while bitmap:
        lowest = bitmap & -bitmap
        yield lowest.bit_length() - 1
        bitmap ^= lowest


def _malformed(data: bytes, found: str) -> NodeMalformed:
    return NodeMalformed(node_digest(data), found)


def _position(bitmap: int, slot: int) -> int:
    """Where in a column the value of *slot* is, or would go."""
    return (bitmap & ((1 << slot) - 1)).bit_count()


def _digest_at(digests: bytes, position: int) -> Digest:
    return Digest(digests[position * DIGEST_SIZE : (position + 1) * DIGEST_SIZE])


def _split_digests(digests: bytes) -> Sequence[Digest]:
    # Four times as fast as slicing, and this is in every path.
    return cast("Sequence[Digest]", _digests_struct(len(digests) // DIGEST_SIZE).unpack(digests))


@cache
def _digests_struct(count: int) -> struct.Struct:
    return struct.Struct(f"{DIGEST_SIZE}s" * count)
