"""Writing packs: records go into an open pack; a full one is sealed behind.

One thread seals, in the order in which packs were filled, while others go on appending
to the next pack: ``fdatasync`` of 64 MiB takes as long as compressing it.  At most
``_SEALS_WAITING_MAX`` packs wait, so that a slow disk slows the writers and not the
memory.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

from ebsim.backends.backend import Backend, ObjectWriter
from ebsim.chunkstore.pack_format import (
    ENTRY_SIZE,
    HEADER_SIZE,
    PACK_RECORDS_MAX,
    PACK_SIZE_MAX,
    TRAILER_SIZE,
    Record,
    encode_footer,
    encode_header,
)
from ebsim.content.compression import encode
from ebsim.ids import Digest

_SEALS_WAITING_MAX = 3

Buffer = bytes | bytearray | memoryview


class Placed(NamedTuple):
    """A record that was appended: the how-many-th pack of this writer, and where in it."""

    pack_index: int
    record: Record


class _OpenPack:
    """A pack that still takes records."""

    __slots__ = ("index", "name", "records", "size_bytes", "writer")

    def __init__(self, index: int, name: str, writer: ObjectWriter) -> None:
        self.index = index
        self.name = name
        self.writer = writer
        self.records: list[Record] = []
        self.size_bytes = 0

    def has_room(self, payload_size: int) -> bool:
        count = len(self.records) + 1
        size = self.size_bytes + HEADER_SIZE + payload_size + count * ENTRY_SIZE + TRAILER_SIZE
        return size <= PACK_SIZE_MAX and count <= PACK_RECORDS_MAX


class PackWriter:
    """Appends records to packs of its own.  Safe to use from many threads."""

    def __init__(self, backend: Backend, name_pack: Callable[[], str]) -> None:
        """*name_pack* gives each pack a name that was never used before."""
        self._backend = backend
        self._name_pack = name_pack
        self._lock = threading.Lock()
        self._sealer = ThreadPoolExecutor(1, "seal")
        self._seals: list[Future[None]] = []
        self._open: _OpenPack | None = None
        self._unsealed: dict[int, _OpenPack] = {}
        self._sealed_count = 0
        self._failure: BaseException | None = None
        self.names: list[str] = []
        self.sizes: list[int] = []

    @property
    def sealed_count(self) -> int:
        """How many packs are durable: those of index 0 up to this, exclusive."""
        return self._sealed_count

    def append(self, kind: int, digest: Digest, chunk: Buffer, level: int) -> Placed:
        """Encode *chunk* and append its record.

        Raises:
            StorageFull, StorageUnavailable: now or before, in any thread, or while an
                earlier pack was sealed.
        """
        codec, payload = encode(chunk, level)
        return self.append_encoded(
            Record(digest, 0, len(payload), len(chunk), kind, codec), payload
        )

    def append_encoded(self, record: Record, payload: Buffer) -> Placed:
        """Append a record whose payload is encoded already; its offset is set here."""
        header = encode_header(record, payload)
        with self._lock:
            self._raise_failure()
            try:
                return self._append(record, header, payload)
            except BaseException as error:
                self._failure = error
                raise

    def _append(self, record: Record, header: bytes, payload: Buffer) -> Placed:
        pack = self._open
        if pack is None or not pack.has_room(len(payload)):
            pack = self._next_pack()
        placed = record._replace(offset=pack.writer.append((header, payload)))
        pack.records.append(placed)
        pack.size_bytes = placed.stop
        return Placed(pack.index, placed)

    def flush(self) -> None:
        """Return once every record appended so far is durable.

        Raises:
            StorageFull, StorageUnavailable: some of them never will be.
        """
        with self._lock:
            self._raise_failure()
            self._close_open()
            seals, self._seals = self._seals, []
        for seal in seals:
            seal.result()
        self._raise_failure()

    def close(self) -> None:
        """Give up what is not sealed and end the sealing thread."""
        self._sealer.shutdown(wait=True, cancel_futures=True)
        unsealed, self._unsealed = self._unsealed, {}
        self._open = None
        with ExitStack() as discards:
            # All of them, also when one fails: an open one would stay locked by us.
            for pack in unsealed.values():
                discards.callback(pack.writer.discard)

    def _raise_failure(self) -> None:
        # A pack that an append broke off in must take no more, and one appended to after
        # a failed seal never becomes durable: whoever comes later is told of the first.
        if self._failure is not None:
            raise self._failure

    def _next_pack(self) -> _OpenPack:
        self._close_open()
        while len(self._seals) >= _SEALS_WAITING_MAX:
            self._seals.pop(0).result()
        name = self._name_pack()
        pack = self._open = _OpenPack(len(self.names), name, self._backend.create(name))
        self._unsealed[pack.index] = pack
        self.names.append(name)
        self.sizes.append(0)
        return pack

    def _close_open(self) -> None:
        pack, self._open = self._open, None
        if pack is not None:
            self._seals.append(self._sealer.submit(self._seal, pack))

    def _seal(self, pack: _OpenPack) -> None:
        # A pack that failed must not be overtaken by a later one: what was appended in
        # order becomes durable in order, and sealed_count would otherwise lie.
        if self._failure is not None:
            return
        try:
            pack.writer.append((encode_footer(pack.records),))
            self.sizes[pack.index] = pack.writer.size_bytes
            pack.writer.seal()
        except BaseException as error:
            self._failure = error
            raise
        del self._unsealed[pack.index]
        self._sealed_count += 1
