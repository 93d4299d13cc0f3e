"""Reading chunks: every byte returned was proved by its digest.

A record may be moved by compaction, in any process, between the look-up and the read.
Whoever does not find what the index said looks it up once more, and calls it damage only
when the index still says the same.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ebsim.backends.backend import Backend
from ebsim.chunkstore.chunk_index import find_chunks, find_packs
from ebsim.chunkstore.pack_format import HEADER_SIZE, Kind, PackDamaged, Record, decode_header
from ebsim.chunkstore.rows import Location
from ebsim.content.compression import CodecError, decode
from ebsim.content.digest import block_digest, node_digest
from ebsim.content.fingerprint import checksum
from ebsim.errors import ChunkCorrupt, ChunkMissing
from ebsim.ids import Digest
from ebsim.metadata.transactions import Metadata, Reader

Buffer = bytes | bytearray | memoryview


class Found(NamedTuple):
    """A chunk as the index knows it."""

    digest: Digest
    number: int
    location: Location
    pack_name: str


def verified_chunk(digest: Digest, raw: Buffer, offset: int) -> Buffer:
    """The chunk in the record *raw*, which lies at *offset*.

    Raises:
        PackDamaged: it is not the record of *digest*, whole and undamaged.
    """
    record, _ = decode_header(raw, offset)
    if record.digest != digest:
        raise PackDamaged("another chunk's record")
    payload = memoryview(raw)[HEADER_SIZE:]
    try:
        chunk = decode(record.codec, payload, record.chunk_size)
    except CodecError as error:
        raise PackDamaged(str(error)) from error
    proof = block_digest if record.kind == Kind.BLOCK else node_digest
    found = proof(chunk)
    if found != digest:
        raise PackDamaged(f"its bytes now hash to {found.hex()[:16]}")
    return chunk


def _proved_record(digest: Digest, raw: Buffer, offset: int) -> Buffer:
    """*raw*, if it is the record of *digest*."""
    verified_chunk(digest, raw, offset)
    return raw


def verified_payload(record: Record, raw: Buffer) -> Buffer:
    """The payload in *raw*, by its checksum only: at the speed of the disk, undecoded.

    Raises:
        PackDamaged: header or payload fail, or are another record's.
    """
    found, payload_checksum = decode_header(raw, record.offset)
    payload = memoryview(raw)[HEADER_SIZE:]
    if found != record:
        raise PackDamaged("the record is not the one that the index describes")
    if len(payload) != record.payload_size or checksum(payload) != payload_checksum:
        raise PackDamaged("the payload fails its checksum")
    return payload


class ChunkReader:
    """Reads chunks by digest.  Safe to use from many threads."""

    def __init__(self, backend: Backend, metadata: Metadata) -> None:
        self._backend = backend
        self._metadata = metadata
        # Numbers and names of packs are never used again, so this never goes stale.
        self._pack_names: dict[int, str] = {}

    def find(self, digests: Sequence[Digest]) -> list[Found | None]:
        """Where each of *digests* lies, ``None`` for one that the store does not have."""
        return self._metadata.read(lambda reader: self._find(reader, digests))

    def _find(self, reader: Reader, digests: Sequence[Digest]) -> list[Found | None]:
        chunks = find_chunks(reader, digests)
        unknown = {place.pack_number for _, place in chunks.values()} - self._pack_names.keys()
        for pack_number, row in find_packs(reader, unknown).items() if unknown else ():
            self._pack_names[pack_number] = row.name
        found: list[Found | None] = []
        for digest in digests:
            number, location = chunks.get(digest, (0, None))
            name = self._pack_names.get(location.pack_number) if location else None
            found.append(
                Found(digest, number, location, name) if location and name is not None else None
            )
        return found

    def read(self, digest: Digest) -> Buffer:
        """The chunk's bytes.

        Raises:
            ChunkMissing: the store has no such chunk.
            ChunkCorrupt: it is damaged; nothing of it is returned.
            StorageUnavailable: the disk failed.
        """
        (found,) = self.find([digest])
        if found is None:
            raise ChunkMissing(digest)
        return self.read_found(found)

    def read_found(self, found: Found) -> Buffer:
        """The bytes of a chunk that ``find`` found, wherever it has moved since."""
        return self._proved(found, lambda raw, at: verified_chunk(found.digest, raw, at))

    def read_as_stored(self, found: Found) -> tuple[Record, Buffer]:
        """The record of a chunk as it lies, and its payload, proved by decoding it."""
        raw = self._proved(found, lambda raw, at: _proved_record(found.digest, raw, at))
        record, _ = decode_header(raw, 0)
        return record, memoryview(raw)[HEADER_SIZE:]

    def _proved(self, found: Found, prove: Callable[[Buffer, int], Buffer]) -> Buffer:
        while True:
            try:
                return prove(self.read_record(found), found.location.offset)
            except (PackDamaged, FileNotFoundError) as error:
                (again,) = self.find([found.digest])
                if again is None:
                    raise ChunkMissing(found.digest) from error
                if again == found:
                    raise _corrupt(found, error) from error
            # Moved since it was found.  That ends: nobody moves the pack of a live session.
            found = again

    def read_record(self, found: Found) -> bytes:
        """The record's bytes as they lie in the pack, unproved.

        Raises:
            FileNotFoundError: the pack is gone.
        """
        location = found.location
        return self._backend.read(
            found.pack_name, location.offset, HEADER_SIZE + location.payload_size
        )


def _corrupt(found: Found, error: Exception) -> ChunkCorrupt:
    return ChunkCorrupt(
        digest=found.digest,
        pack=found.pack_name,
        offset_bytes=found.location.offset,
        found=str(error) if isinstance(error, PackDamaged) else "the pack is not there",
    )
