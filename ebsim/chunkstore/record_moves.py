"""Writing a chunk's record anew, and pointing the index at it.

The new record is durable before the transaction that repoints; the old one is dead from
then on.  A chunk that was freed or moved meanwhile is left as it is, and the new record
counts as dead at once.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ebsim.backends.backend import Backend
from ebsim.chunkstore.chunk_index import find_locations, find_numbers
from ebsim.chunkstore.node_commit import Committed, PackInProgress, register_records
from ebsim.chunkstore.pack_accounts import retire
from ebsim.chunkstore.pack_format import HEADER_SIZE, PACK_SIZE_MAX, Record
from ebsim.chunkstore.pack_writer import PackWriter, Placed
from ebsim.chunkstore.rows import Location, number_key
from ebsim.chunkstore.sessions import Session
from ebsim.metadata.transactions import Metadata, Table, Transaction

if TYPE_CHECKING:
    from ebsim.ids import Digest

Buffer = bytes | bytearray | memoryview


class NewRecord(NamedTuple):
    """A record to be written in place of the one at *old*; its payload was proved."""

    number: int
    old: Location
    record: Record
    payload: Buffer


def write_records_anew(
    backend: Backend, metadata: Metadata, session: Session, records: Iterable[NewRecord]
) -> list[int]:
    """Write *records* and repoint the index; return the numbers that were repointed.

    Holds no more than a pack's worth of them in memory.
    """
    writer = PackWriter(backend, session.next_pack_name)
    done: list[int] = []
    pack_numbers: dict[int, int] = {}
    waiting: list[tuple[NewRecord, Placed]] = []
    waiting_bytes = 0
    try:
        for new in records:
            placed = writer.append_encoded(new.record, new.payload)
            waiting.append((new._replace(payload=b""), placed))
            waiting_bytes += HEADER_SIZE + len(new.payload)
            if waiting_bytes > PACK_SIZE_MAX:
                done += _commit(metadata, writer, waiting, pack_numbers)
                waiting, waiting_bytes = [], 0
        done += _commit(metadata, writer, waiting, pack_numbers)
    finally:
        writer.close()
    return done


def _commit(
    metadata: Metadata,
    writer: PackWriter,
    waiting: Sequence[tuple[NewRecord, Placed]],
    pack_numbers: dict[int, int],
) -> list[int]:
    if not waiting:
        return []
    writer.flush()
    packs = {
        placed.pack_index: PackInProgress(
            writer.names[placed.pack_index],
            writer.sizes[placed.pack_index],
            pack_numbers.get(placed.pack_index, 0),
        )
        for _, placed in waiting
    }
    done, numbers = metadata.run(lambda txn: _repoint(txn, waiting, packs))
    pack_numbers.update(done.pack_numbers)
    return numbers


def _repoint(
    txn: Transaction,
    waiting: Sequence[tuple[NewRecord, Placed]],
    packs: dict[int, PackInProgress],
) -> tuple[Committed, list[int]]:
    numbers = find_numbers(txn, [new.record.digest for new, _ in waiting])
    locations = find_locations(txn, [new.number for new, _ in waiting])
    placed: dict[Digest, Placed] = {}
    useful: dict[Digest, int] = {}
    for new, place in waiting:
        digest = new.record.digest
        placed[digest] = place
        if numbers.get(digest) == new.number and locations.get(new.number) == new.old:
            useful[digest] = new.number
    done = Committed()
    retire(txn, [locations[number] for number in useful.values()])
    register_records(txn, useful, placed.keys() - useful.keys(), placed, packs, done=done)
    txn.delete_many(Table.DAMAGED, sorted(number_key(number) for number in useful.values()))
    return done, sorted(useful.values())
