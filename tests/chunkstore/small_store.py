"""A chunk store small enough to try everything on, and an audit that believes no counter."""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from ebsim.backends.backend import Backend
from ebsim.backends.memory import Memory
from ebsim.chunkstore.chunk_index import find_locations
from ebsim.chunkstore.chunk_reader import ChunkReader
from ebsim.chunkstore.chunk_writer import ChunkWriter
from ebsim.chunkstore.compaction import (
    Compacted,
    Compaction,
    CompactionPlan,
    plan_compaction,
)
from ebsim.chunkstore.node_commit import NewNode
from ebsim.chunkstore.pack_format import HEADER_SIZE, Kind
from ebsim.chunkstore.reclaim import Reclaimer
from ebsim.chunkstore.reclaim_queue import change_references
from ebsim.chunkstore.reference_counts import ReferenceChanges, get_counts
from ebsim.chunkstore.rows import (
    LOCATIONS_PER_PAGE,
    Holder,
    Location,
    PackRow,
    decode_chunk_number,
    decode_dead,
    decode_hold,
    decode_node_row,
    decode_pack,
    hold_prefix,
)
from ebsim.chunkstore.sessions import Session, Sessions
from ebsim.content.digest import block_digest, node_digest
from ebsim.ids import Digest
from ebsim.metadata.memory_metadata import MemoryMetadata
from ebsim.metadata.transactions import Metadata, Reader, Table, Transaction
from ebsim.progress import Unwatched

ALL = 1 << 30


def block_of(seed: int, size_bytes: int = 5000) -> bytes:
    """A block that does not compress, always the same for the same *seed*."""
    return Random(seed).randbytes(size_bytes)


def leaf_node(holder: Holder, blocks: Sequence[bytes], *, marks: bool = True) -> NewNode:
    """A leaf of *blocks*, none of whose chunk numbers is known."""
    digests = [block_digest(block) for block in blocks]
    return NewNode(
        digest=node_digest(b"leaf" + b"".join(digests)),
        kind=Kind.LEAF,
        encoded=b"leaf" + b"".join(digests),
        bitmap=((1 << len(blocks)) - 1).to_bytes(16, "little"),
        children=array("Q", bytes(8 * len(blocks))),
        unknown=list(enumerate(digests)),
        fingerprints=b"".join(digest[:16] for digest in digests) if marks else b"",
        holder=holder,
        block_indexes={digest: index for index, digest in enumerate(digests)},
    )


def inner_node(
    holder: Holder, children: Sequence[Digest], child_indexes: Sequence[int] = ()
) -> NewNode:
    """An inner node over *children*; takes over its owner's holds at *child_indexes*."""
    return NewNode(
        digest=node_digest(b"inner" + b"".join(children)),
        kind=Kind.INNER,
        encoded=b"inner" + b"".join(children),
        bitmap=((1 << len(children)) - 1).to_bytes(16, "little"),
        children=array("Q", bytes(8 * len(children))),
        unknown=list(enumerate(children)),
        fingerprints=b"",
        holder=holder,
        child_indexes=child_indexes,
    )


class SmallStore:
    """A store in memory (or of the parts given), whose sessions are files in *directory*."""

    def __init__(
        self,
        directory: Path,
        backend: Backend | None = None,
        metadata: Metadata | None = None,
    ) -> None:
        self.backend = backend or Memory()
        self.metadata = metadata or MemoryMetadata()
        self.sessions = Sessions(directory, Random(1))
        self.reader = ChunkReader(self.backend, self.metadata)
        self.reclaimer = Reclaimer(self.backend, self.metadata, self.sessions.is_alive)

    def writer(self, session: Session, blocks: Sequence[bytes] = ()) -> ChunkWriter:
        """A writer that can read *blocks* again, by index."""
        return ChunkWriter(
            self.backend,
            self.metadata,
            session,
            level=1,
            read_again=lambda index: blocks[index] if index < len(blocks) else None,
        )

    @contextmanager
    def writing(self, blocks: Sequence[bytes] = ()) -> Iterator[ChunkWriter]:
        """A writer in a session of its own; flushed, and the session over, at the end."""
        session = self.sessions.open()
        writer = self.writer(session, blocks)
        try:
            yield writer
            writer.flush()
        finally:
            writer.close()
            session.close()

    def put_leaf(self, owner: str, blocks: Sequence[bytes], place: int = 0) -> Digest:
        """Store a leaf of *blocks*, held by *owner*, in a pack of its own; its digest."""
        with self.writing(blocks) as writer:
            return put_leaf(writer, owner, blocks, place)

    def release(self, owner: str) -> None:
        """Drop all holds of *owner*."""

        def drop(txn: Transaction) -> None:
            prefix = hold_prefix(owner)
            rows = txn.scan(Table.HOLDS, prefix, prefix + b"\xff" * 10, limit=ALL)
            changes = ReferenceChanges()
            changes.take_all([decode_hold(value)[0] for _, value in rows])
            txn.delete_many(Table.HOLDS, [key for key, _ in rows])
            change_references(txn, changes)

        self.metadata.run(drop)

    def compact(self, plan: CompactionPlan | None = None) -> Compacted:
        """One compaction, in a session of its own, of what is worth it or as *plan* says."""
        plan = plan or plan_compaction(self.backend, self.metadata, self.sessions.is_alive)
        session = self.sessions.open()
        compaction = Compaction(self.backend, self.metadata, session, self.reclaimer)
        done = compaction.execute(plan, Unwatched())
        session.close()
        return done

    def has(self, digest: Digest) -> bool:
        return self.reader.find([digest]) != [None]

    def location(self, digest: Digest) -> Location:
        (found,) = self.reader.find([digest])
        assert found is not None, "the chunk is in the store"
        return found.location

    def packs(self) -> dict[int, PackRow]:
        """All rows of packs, by number."""
        rows = self.rows(Table.PACKS)
        return {int.from_bytes(key, "big"): decode_pack(value) for key, value in rows.items()}

    def rows(self, table: Table) -> dict[bytes, bytes]:
        return dict(self.metadata.read(lambda reader: reader.scan(table, limit=ALL)))

    def count(self, digest: Digest) -> int:
        """The reference count of a chunk of the store."""
        (found,) = self.reader.find([digest])
        assert found is not None, "the chunk is in the store"
        return self.metadata.read(lambda r: get_counts(r, [found.number]))[found.number]

    def overwrite(self, pack_name: str, offset_bytes: int, data: bytes) -> None:
        """Damage a pack."""
        size = self.backend.size_bytes(pack_name)
        assert size is not None, "only what is there can be damaged"
        raw = bytearray(self.backend.read(pack_name, 0, size))
        raw[offset_bytes : offset_bytes + len(data)] = data
        self.backend.put(pack_name, bytes(raw))


def put_leaf(writer: ChunkWriter, owner: str, blocks: Sequence[bytes], place: int = 0) -> Digest:
    """Put a leaf of *blocks* without flushing; return its digest."""
    node = leaf_node(Holder(owner, 0, place), blocks)
    writer.put_blocks([(block_digest(block), block) for block in blocks])
    writer.put_node(node)
    return node.digest


def faults(store: SmallStore) -> list[str]:
    """What is wrong with the store's books, found by counting everything anew."""
    found = store.metadata.read(_count_anew)
    for digest in store.rows(Table.CHUNKS):
        if store.has(Digest(digest)):
            try:
                store.reader.read(Digest(digest))
            except Exception as error:  # noqa: BLE001 (whatever it is, it is a fault)
                found.append(f"chunk {digest.hex()[:8]}: {error!r}")
    return found


def _count_anew(reader: Reader) -> list[str]:
    locations = _all_locations(reader)
    references: Counter[int] = Counter()
    for key, value in reader.scan(Table.NODES, limit=ALL):
        if int.from_bytes(key, "big") not in locations:
            return [f"edges of chunk {int.from_bytes(key, 'big')}, which is gone"]
        references.update(decode_node_row(value).children)
    references.update(decode_hold(value)[0] for _, value in reader.scan(Table.HOLDS, limit=ALL))
    queued = {int.from_bytes(key, "big") for key, _ in reader.scan(Table.RECLAIM, limit=ALL)}
    named = [decode_chunk_number(value) for _, value in reader.scan(Table.CHUNKS, limit=ALL)]
    counts = get_counts(reader, locations.keys() | references.keys())
    found = [
        f"chunk {number}: {count} references by its count, {references[number]} by counting"
        for number, count in counts.items()
        if count != references[number]
    ]
    gone = references.keys() - locations.keys()
    lost = locations.keys() - references.keys() - queued
    nameless = locations.keys() - set(named)
    found += [f"chunk {number} is referenced and gone" for number in gone]
    found += [f"chunk {number} is unreferenced and in no queue" for number in lost]
    found += [f"chunk {number} has no digest" for number in nameless]
    return found + _pack_faults(reader, locations)


def _all_locations(reader: Reader) -> dict[int, Location]:
    pages = [int.from_bytes(key, "big") for key, _ in reader.scan(Table.LOCATIONS, limit=ALL)]
    numbers = [page * LOCATIONS_PER_PAGE + i for page in pages for i in range(LOCATIONS_PER_PAGE)]
    return find_locations(reader, numbers)


def _pack_faults(reader: Reader, locations: dict[int, Location]) -> list[str]:
    spans: dict[int, list[tuple[int, int, str]]] = {}
    live: Counter[int] = Counter()
    live_bytes: Counter[int] = Counter()
    for location in locations.values():
        size = HEADER_SIZE + location.payload_size
        live[location.pack_number] += 1
        live_bytes[location.pack_number] += size
        span = (location.offset, location.offset + size, "live")
        spans.setdefault(location.pack_number, []).append(span)
    for key, value in reader.scan(Table.DEAD, limit=ALL):
        extent = decode_dead(key, value)
        spans.setdefault(extent.pack_number, []).append((extent.start, extent.stop, "dead"))
    found = []
    for key, value in reader.scan(Table.PACKS, limit=ALL):
        number, row = int.from_bytes(key, "big"), decode_pack(value)
        if (row.live_count, row.live_bytes) != (live[number], live_bytes[number]):
            found.append(f"pack {number}: {row}, {live[number]} and {live_bytes[number]} live")
        position, before = 0, ""
        for start, stop, state in sorted(spans.pop(number, [])):
            if start < position or (start == position and state == before == "dead"):
                found.append(f"pack {number}: {state} at {start} meets {before} to {position}")
            position, before = stop, state
    return found + [f"pack {number} has no row" for number in spans]
