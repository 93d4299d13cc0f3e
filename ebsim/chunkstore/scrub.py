"""Scrubbing: proving that live records are what was written, at the speed of the disk.

Every record read is proved by the checksums of its header and payload, which show any
accident.  One in ``_DECODED_ONE_IN``, chosen by chance, is decoded as well and proved by
its digest: that would show a record which was written wrong, and costs ten times as much.
Bytes that nothing references are not read.
"""

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import NamedTuple

from ebsim.backends.backend import Backend
from ebsim.chunkstore.chunk_reader import verified_chunk, verified_payload
from ebsim.chunkstore.pack_format import HEADER_SIZE, PackDamaged, Record
from ebsim.units import KIB, MIB

Buffer = bytes | bytearray | memoryview

_SPAN_MAX = 4 * MIB
_GAP_MAX = 64 * KIB
_DECODED_ONE_IN = 16


class Scrubbed(NamedTuple):
    """A record that was read: its chunk if it was decoded, what is wrong with it or empty."""

    record: Record
    chunk: Buffer | None
    complaint: str


def scrub_records(
    backend: Backend,
    name: str,
    records: Iterable[Record],
    random: Random | None,
) -> Iterator[Scrubbed]:
    """Read and prove *records* of a pack, which are in the order of their offsets.

    *random* chooses those to decode; with ``None`` each is.  A chunk is valid until the
    next is asked for.

    Raises:
        FileNotFoundError: the pack is not there.
    """
    for span in _spans(records):
        start = span[0].offset
        raw = memoryview(backend.read(name, start, span[-1].stop - start))
        for record in span:
            view = raw[record.offset - start : record.stop - start]
            decoded = random is None or not random.getrandbits(32) % _DECODED_ONE_IN
            yield _prove(record, view, decoded=decoded)


def _spans(records: Iterable[Record]) -> Iterator[Sequence[Record]]:
    """Yield runs of records that are read at once."""
    span: list[Record] = []
    for record in records:
        if span and (
            record.stop - span[0].offset > _SPAN_MAX or record.offset - span[-1].stop > _GAP_MAX
        ):
            yield span
            span = []
        span.append(record)
    if span:
        yield span


def _prove(record: Record, raw: memoryview, *, decoded: bool) -> Scrubbed:
    if len(raw) < HEADER_SIZE + record.payload_size:
        return Scrubbed(record, None, "the pack ends inside the record")
    try:
        verified_payload(record, raw)
        chunk = verified_chunk(record.digest, raw, record.offset) if decoded else None
    except PackDamaged as error:
        return Scrubbed(record, None, str(error))
    return Scrubbed(record, chunk, "")
