"""Reading an archive: packs that hold one snapshot complete, and that no index knows.

Their footers are read once, into arrays of 20 bytes a chunk, sorted by the first eight
bytes of the digests: 40 MB for two million chunks.  A chunk may be there more than once;
then one that is whole is found.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from ebsim.backends.backend import Backend
from ebsim.chunkstore.chunk_reader import Buffer, Found, verified_chunk
from ebsim.chunkstore.pack_format import HEADER_SIZE, PackDamaged, Record, decode_header
from ebsim.chunkstore.pack_scan import read_pack
from ebsim.chunkstore.rows import Location
from ebsim.errors import ChunkCorrupt, ChunkMissing
from ebsim.ids import Digest

_KEY_SIZE = 8
_OFFSET_BITS = 32


class ArchiveReader:
    """The chunks in *pack_names*.  Safe to use from many threads.

    Attributes:
        complaints: Packs that are missing, or whose footers are damaged, and how; what of
            such a pack can be found is found.
    """

    def __init__(self, backend: Backend, pack_names: Sequence[str]) -> None:
        self._backend = backend
        self._names = list(pack_names)
        self.complaints: dict[str, str] = {}
        keys, places, sizes = array("Q"), array("Q"), array("I")
        for pack_index, name in enumerate(self._names):
            for record in self._records(name):
                keys.append(_key(record.digest))
                places.append(pack_index << _OFFSET_BITS | record.offset)
                sizes.append(record.payload_size)
        order = sorted(range(len(keys)), key=keys.__getitem__)
        self._keys = array("Q", (keys[at] for at in order))
        self._places = array("Q", (places[at] for at in order))
        self._sizes = array("I", (sizes[at] for at in order))

    def _records(self, name: str) -> Sequence[Record]:
        try:
            contents = read_pack(self._backend, name)
        except FileNotFoundError:
            self.complaints[name] = "the pack is not there"
            return ()
        if contents.complaint:
            self.complaints[name] = contents.complaint
        return contents.records

    def find(self, digests: Sequence[Digest]) -> list[Found | None]:
        """Where each of *digests* may lie, ``None`` for one that is not there."""
        return [next(self._candidates(digest), None) for digest in digests]

    def _candidates(self, digest: Digest) -> Iterator[Found]:
        key = _key(digest)
        at = bisect_left(self._keys, key)
        while at < len(self._keys) and self._keys[at] == key:
            pack_index, offset = divmod(self._places[at], 1 << _OFFSET_BITS)
            location = Location(pack_index + 1, offset, self._sizes[at], 0, 0)
            yield Found(digest, 0, location, self._names[pack_index])
            at += 1

    def read(self, digest: Digest) -> Buffer:
        """The chunk's bytes.

        Raises:
            ChunkMissing: the archive has no such chunk.
            ChunkCorrupt: it is damaged, wherever it is.
        """
        return self._proved(digest)[1]

    def read_as_stored(self, found: Found) -> tuple[Record, Buffer]:
        """The record of a chunk as it lies, and its payload, proved by decoding it."""
        raw, _ = self._proved(found.digest)
        record, _ = decode_header(raw, 0)
        return record, memoryview(raw)[HEADER_SIZE:]

    def _proved(self, digest: Digest) -> tuple[bytes, Buffer]:
        """The record and the chunk of *digest*."""
        damage: ChunkCorrupt | None = None
        for found in self._candidates(digest):
            at = found.location.offset
            size = HEADER_SIZE + found.location.payload_size
            try:
                raw = self._backend.read(found.pack_name, at, size)
                return raw, verified_chunk(digest, raw, at)
            except (PackDamaged, FileNotFoundError) as error:
                what = "the pack is not there" if isinstance(error, OSError) else str(error)
                damage = ChunkCorrupt(
                    digest=digest, pack=found.pack_name, offset_bytes=at, found=what
                )
        raise damage or ChunkMissing(digest)


def _key(digest: Digest) -> int:
    return int.from_bytes(digest[:_KEY_SIZE], "big")
