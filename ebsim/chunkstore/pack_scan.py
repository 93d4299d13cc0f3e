"""Which records a pack holds: from its footer or, where that is damaged, from the records.

A scan follows the headers from one record to the next.  Where there is none (damage, or
a hole that was punched) it looks for the next magic whose header passes its checksum.
It may so find a record inside the payload of one whose header is lost: a disk can hold a
pack.  That does no harm, since whoever reads a record proves it by the digest asked for.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ebsim.backends.backend import Backend
from ebsim.chunkstore.pack_format import (
    HEADER_SIZE,
    RECORD_MAGIC,
    TRAILER_SIZE,
    PackDamaged,
    Record,
    decode_footer,
    decode_header,
    decode_trailer,
)
from ebsim.units import MIB

_WINDOW = MIB


class PackContents(NamedTuple):
    """The records found in a pack; *complaint* is what is wrong with its footer, or empty."""

    size_bytes: int
    records: list[Record]
    complaint: str


def read_footer(backend: Backend, name: str, size_bytes: int) -> list[Record]:
    """The records that the footer of the pack *name* lists.

    Raises:
        PackDamaged: trailer or footer is damaged.
        FileNotFoundError: the pack is not there.
    """
    start = max(size_bytes - TRAILER_SIZE, 0)
    trailer = decode_trailer(backend.read(name, start, TRAILER_SIZE), size_bytes)
    return decode_footer(backend.read(name, trailer.footer_offset, trailer.footer_size), trailer)


def scan_records(backend: Backend, name: str, size_bytes: int) -> Iterator[Record]:
    """Yield the records of a pack by their headers alone, passing over what is none."""
    offset: int | None = 0
    while offset is not None and offset + HEADER_SIZE <= size_bytes:
        try:
            record, _ = decode_header(backend.read(name, offset, HEADER_SIZE), offset)
        except PackDamaged:
            offset = _next_magic(backend, name, offset + 1, size_bytes)
            continue
        if record.stop > size_bytes:
            return
        yield record
        offset = record.stop


def _next_magic(backend: Backend, name: str, start: int, size_bytes: int) -> int | None:
    """The offset of the next magic from *start* on, ``None`` if there is none."""
    while start < size_bytes:
        window = backend.read(name, start, _WINDOW)
        found = window.find(RECORD_MAGIC)
        if found >= 0:
            return start + found
        if len(window) < _WINDOW:
            return None
        # The magic may lie across the border of two windows.
        start += len(window) - len(RECORD_MAGIC) + 1
    return None


def read_pack(backend: Backend, name: str) -> PackContents:
    """The records of the pack *name*, by its footer if that is sound, else by a scan.

    Raises:
        FileNotFoundError: the pack is not there.
    """
    size_bytes = backend.size_bytes(name)
    if size_bytes is None:
        raise FileNotFoundError(name)
    try:
        return PackContents(size_bytes, read_footer(backend, name, size_bytes), "")
    except PackDamaged as error:
        records = list(scan_records(backend, name, size_bytes))
        return PackContents(size_bytes, records, str(error))
