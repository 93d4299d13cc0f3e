"""Pack format, version 1: how chunks lie in a pack.  Pure: opens no file.

A pack is written once, front to back, and renamed into place.  It is a run of records,
then a footer index, then a trailer.  All integers are little endian.

Record: 64 bytes of header, then the payload.

    offset  size  field
    0       4     magic             b"EbsC"
    4       1     kind              0 = block, 1 = leaf node, 2 = inner node
    5       1     codec             0 = stored, 1 = zstd; 2 and 3 reserved (delta, encrypted)
    6       2     reserved          zero
    8       4     payload_size      bytes
    12      4     chunk_size        bytes after decoding
    16      32    digest            BLAKE3-256 of the decoded chunk (nodes: own context)
    48      8     payload_checksum  XXH3-64 of the payload
    56      8     header_checksum   XXH3-64 of bytes 0 to 55

Footer entry: 48 bytes for each record, in order.

    0       32    digest
    32      4     offset            of the record's header
    36      4     payload_size
    40      4     chunk_size
    44      1     kind
    45      1     codec
    46      2     reserved          zero

Trailer: the last 48 bytes.

    0       8     magic             b"EbsimPk1"
    8       2     version           1
    10      2     features          bits a reader must know; none yet
    12      4     record_count
    16      8     footer_offset
    24      16    footer_checksum   XXH3-128 of all footer entries
    40      8     trailer_checksum  XXH3-64 of bytes 0 to 39

Invariants:

1. Records touch: each begins where the one before it ends, the first at 0.
2. The footer says nothing that the records do not: it may be lost and made again.
3. The space of a record that nothing references may read as zeros (a punched hole), in
   whole or in part; the footer and the trailer stay.
4. A pack is at most ``PACK_SIZE_MAX`` bytes, footer and trailer included, and has at
   most ``PACK_RECORDS_MAX`` records, so that whoever reads or writes one knows how much
   memory its list takes.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from xxhash import xxh3_64_digest, xxh3_128_digest

from ebsim.ids import Digest
from ebsim.units import MIB

PACK_SIZE_MAX = 64 * MIB
PACK_RECORDS_MAX = 1 << 16

CHUNK_SIZE_MAX = 4 * MIB
VERSION = 1

_RECORD = struct.Struct("<4sBBHII32s8s")
_ENTRY = struct.Struct("<32sIIIBBH")
_TRAILER = struct.Struct("<8sHHIQ16s")
RECORD_MAGIC = b"EbsC"
TRAILER_MAGIC = b"EbsimPk1"
HEADER_SIZE = _RECORD.size + 8
ENTRY_SIZE = _ENTRY.size
TRAILER_SIZE = _TRAILER.size + 8
assert (HEADER_SIZE, ENTRY_SIZE, TRAILER_SIZE) == (64, 48, 48), "the tables above must agree"

Buffer = bytes | bytearray | memoryview


class Kind(IntEnum):
    """What a chunk is; the number is on disk."""

    BLOCK = 0
    LEAF = 1
    INNER = 2


class PackDamaged(Exception):
    """Bytes that are no pack, footer or record; the caller knows which pack, and says so."""


class Record(NamedTuple):
    """A record's header, without its checksums."""

    digest: Digest
    offset: int
    payload_size: int
    chunk_size: int
    kind: int
    codec: int

    @property
    def stop(self) -> int:
        """The offset just past the record."""
        return self.offset + HEADER_SIZE + self.payload_size


def encode_header(record: Record, payload: Buffer) -> bytes:
    """The 64 bytes that go before *payload*."""
    head = _RECORD.pack(
        RECORD_MAGIC,
        record.kind,
        record.codec,
        0,
        record.payload_size,
        record.chunk_size,
        record.digest,
        xxh3_64_digest(payload),
    )
    return head + xxh3_64_digest(head)


def decode_header(header: Buffer, offset: int) -> tuple[Record, bytes]:
    """The record whose header lies at *offset*, and the checksum of its payload.

    Raises:
        PackDamaged: the bytes are no header, or a damaged one.
    """
    if len(header) < HEADER_SIZE:
        raise PackDamaged("the pack ends inside a record's header")
    magic, kind, codec, reserved, payload_size, chunk_size, digest, payload_checksum = (
        _RECORD.unpack_from(header)
    )
    if magic != RECORD_MAGIC:
        found = "zeros" if not any(header[:HEADER_SIZE]) else "other bytes"
        raise PackDamaged(f"{found} where a record's header should be")
    if xxh3_64_digest(header[: _RECORD.size]) != header[_RECORD.size : HEADER_SIZE]:
        raise PackDamaged("the record's header fails its checksum")
    if reserved or kind > Kind.INNER or chunk_size > CHUNK_SIZE_MAX:
        raise PackDamaged("the record's header has values that no version 1 writes")
    record = Record(Digest(digest), offset, payload_size, chunk_size, kind, codec)
    return record, payload_checksum


def encode_footer(records: Sequence[Record]) -> bytes:
    """The footer index and the trailer of a pack of *records*."""
    footer = b"".join(
        _ENTRY.pack(r.digest, r.offset, r.payload_size, r.chunk_size, r.kind, r.codec, 0)
        for r in records
    )
    offset = records[-1].stop if records else 0
    trailer = _TRAILER.pack(
        TRAILER_MAGIC, VERSION, 0, len(records), offset, xxh3_128_digest(footer)
    )
    return footer + trailer + xxh3_64_digest(trailer)


class Trailer(NamedTuple):
    """Where a pack's footer lies."""

    record_count: int
    footer_offset: int
    footer_checksum: bytes

    @property
    def footer_size(self) -> int:
        return self.record_count * ENTRY_SIZE


def decode_trailer(trailer: Buffer, pack_size: int) -> Trailer:
    """What the last 48 bytes of a pack of *pack_size* bytes say.

    Raises:
        PackDamaged: they are no trailer, or speak of another pack.
    """
    if len(trailer) != TRAILER_SIZE:
        raise PackDamaged("the pack is shorter than its trailer")
    magic, version, features, count, offset, footer_checksum = _TRAILER.unpack_from(trailer)
    if magic != TRAILER_MAGIC or xxh3_64_digest(trailer[:-8]) != trailer[-8:]:
        raise PackDamaged("the trailer is damaged or was never written")
    if version != VERSION or features:
        raise PackDamaged(f"pack version {version}, features {features:#x}: not readable here")
    found = Trailer(count, offset, footer_checksum)
    if count > PACK_RECORDS_MAX or offset + found.footer_size + TRAILER_SIZE != pack_size:
        raise PackDamaged("the pack's size is not the one its trailer gives")
    return found


def decode_footer(footer: Buffer, trailer: Trailer) -> list[Record]:
    """The records that *footer* lists, in order.

    Raises:
        PackDamaged: it fails its checksum, or its records do not touch.
    """
    if xxh3_128_digest(footer) != trailer.footer_checksum:
        raise PackDamaged("the footer fails its checksum")
    records = []
    offset = 0
    for digest, start, payload_size, chunk_size, kind, codec, reserved in _ENTRY.iter_unpack(
        footer
    ):
        record = Record(Digest(digest), start, payload_size, chunk_size, kind, codec)
        if start != offset or reserved:
            raise PackDamaged("the footer's records do not touch")
        offset = record.stop
        records.append(record)
    if offset != trailer.footer_offset:
        raise PackDamaged("the footer's records do not reach to the footer")
    return records
