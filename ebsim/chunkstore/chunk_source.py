"""What reading a block map and its blocks needs of a store.

Implemented by the region's own (``chunk_reader.py``) and by an archive
(``archive_reader.py``).
"""

from collections.abc import Sequence
from typing import Protocol

from ebsim.chunkstore.chunk_reader import Buffer, Found
from ebsim.chunkstore.pack_format import Record
from ebsim.ids import Digest


class ChunkSource(Protocol):
    """Chunks by digest; every byte returned was proved.  Safe to use from many threads."""

    def find(self, digests: Sequence[Digest]) -> list[Found | None]:
        """Where each of *digests* lies, ``None`` for one that is not there."""

    def read(self, digest: Digest) -> Buffer:
        """The chunk's bytes.

        Raises:
            ChunkMissing, ChunkCorrupt: it is not there, or damaged.
        """

    def read_as_stored(self, found: Found) -> tuple[Record, Buffer]:
        """The record of a chunk as it lies, and its payload."""
