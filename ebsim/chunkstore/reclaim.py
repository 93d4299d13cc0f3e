"""Giving space back: emptying the reclaim queue, punching holes, deleting empty packs.

Each step is a bounded transaction that leaves the store whole:

1. Chunks whose count is still zero lose their rows, their children lose a reference (and
   may enter the queue themselves), their records become dead extents.
2. Dead extents of 64 KiB and more are punched, then marked as punched.
3. A pack with nothing live loses its row, then its object.

A crash between any two leaves the rest for the next who comes by.  The cost follows what
is freed: nothing is walked that another snapshot still needs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ebsim.backends.backend import Backend
from ebsim.chunkstore.chunk_index import (
    find_locations,
    find_node_rows,
    find_packs,
    set_locations,
)
from ebsim.chunkstore.dead_space import dead_extents, forget_pack
from ebsim.chunkstore.pack_accounts import retire
from ebsim.chunkstore.pack_format import HEADER_SIZE, Kind, PackDamaged, decode_header
from ebsim.chunkstore.reclaim_queue import change_references
from ebsim.chunkstore.reference_counts import ReferenceChanges, get_counts
from ebsim.chunkstore.rows import (
    DeadExtent,
    Location,
    encode_chunk_number,
    encode_dead,
    number_key,
    pack_key,
)
from ebsim.ids import Digest
from ebsim.metadata.transactions import Metadata, Reader, Table, Transaction
from ebsim.units import KIB

# A node can have 128 children: this bounds a transaction at 16 384 counts, and its share
# of blocks at as many rows as they have.
_NODES_PER_STEP = 128
_CHUNKS_PER_STEP = 1024
_PACKS_PER_STEP = 256
# A sync for each pack is half of what its deletion takes; but a crash leaves as many files
# without a row, which only ``check`` finds again.
_PACKS_DELETED_PER_STEP = 16
HOLE_SIZE_MIN = 64 * KIB
_PAGE_SIZE = 4 * KIB


@dataclass(slots=True)
class Reclaimed:
    """What was given back: chunks, their records' bytes, and how the device got them."""

    chunk_count: int = 0
    freed_bytes: int = 0
    punched_bytes: int = 0
    deleted_pack_count: int = 0
    node_count: int = 0


class Reclaimer:
    """Empties the reclaim queue of a store."""

    def __init__(
        self, backend: Backend, metadata: Metadata, is_alive: Callable[[str], bool]
    ) -> None:
        """*is_alive* says whether the session of that id may still add to its packs."""
        self._backend = backend
        self._metadata = metadata
        self._is_alive = is_alive

    def run(self) -> Reclaimed:
        """Empty the queue; return what that gave back."""
        done = Reclaimed()
        touched: set[int] = set()
        while self._step(done, touched):
            pass
        self._give_back(touched, done)
        return done

    def sweep(self) -> Reclaimed:
        """Empty the queue, then look at every pack for what others left undone.

        A process that died after its transaction leaves dead extents unpunched, and a pack
        that emptied while its writer was at work is nobody's to delete.
        """
        done = self.run()
        after = 0
        while True:
            rows = self._metadata.read(
                lambda reader: reader.scan(Table.PACKS, pack_key(after), limit=_PACKS_PER_STEP)  # noqa: B023 (called at once)
            )
            numbers = [int.from_bytes(key, "big") for key, _ in rows]
            self._give_back(numbers, done)
            if len(rows) < _PACKS_PER_STEP:
                return done
            after = numbers[-1] + 1

    def _step(self, done: Reclaimed, touched: set[int]) -> bool:
        """Free some chunks of the queue; return whether there were any."""
        numbers = self._metadata.read(_queued)
        if not numbers:
            return False
        locations = self._metadata.read(lambda reader: find_locations(reader, numbers))
        numbers = _bounded(numbers, locations)
        locations = {number: locations[number] for number in numbers if number in locations}
        digests = self._digests(locations)
        freed = self._metadata.run(lambda txn: _free(txn, numbers, locations, digests))
        done.chunk_count += freed.chunk_count
        done.node_count += freed.node_count
        done.freed_bytes += freed.freed_bytes
        touched.update(location.pack_number for location in locations.values())
        return True

    def _digests(self, locations: Mapping[int, Location]) -> dict[int, Digest]:
        """The digests of chunk numbers, from their records' headers.

        One that cannot be read is left out: its row in the index then stays, points at a
        free number, counts as absent (``find_numbers``), and ``check`` removes it.
        """
        packs = {location.pack_number for location in locations.values()}
        rows = self._metadata.read(lambda reader: find_packs(reader, packs))
        digests = {}
        for number, location in locations.items():
            row = rows.get(location.pack_number)
            if row is None:
                continue
            try:
                header = self._backend.read(row.name, location.offset, HEADER_SIZE)
                record, _ = decode_header(header, location.offset)
            except (PackDamaged, FileNotFoundError):
                continue
            digests[number] = record.digest
        return digests

    def _give_back(self, pack_numbers: Iterable[int], done: Reclaimed) -> None:
        """Delete those packs that are empty, punch holes into the others."""
        rows = self._metadata.read(lambda reader: find_packs(reader, pack_numbers))
        empty = {
            pack_number: row.name
            for pack_number, row in rows.items()
            if row.live_count == 0 and not self._is_alive(session_of(row.name))
        }
        if empty:
            done.deleted_pack_count += self.delete_packs(empty)
        for pack_number, row in rows.items():
            if pack_number not in empty:
                done.punched_bytes += self._punch(pack_number, row.name)

    def delete_pack(self, pack_number: int, name: str) -> bool:
        """Delete a pack if nothing in it is live; return whether it was so."""
        return self.delete_packs({pack_number: name}) == 1

    def delete_packs(self, names: Mapping[int, str]) -> int:
        """Delete those packs, given by number, in which nothing is live; return how many.

        Nothing may be added to them any more.
        """
        count = 0
        numbers = sorted(names)
        for start in range(0, len(numbers), _PACKS_DELETED_PER_STEP):
            step = numbers[start : start + _PACKS_DELETED_PER_STEP]
            empty = self._metadata.run(lambda txn: _forget_empty(txn, step))  # noqa: B023 (called at once)
            for number in empty:
                self._backend.delete(names[number])
            count += len(empty)
        return count

    def _punch(self, pack_number: int, name: str) -> int:
        extents = self._metadata.read(lambda reader: dead_extents(reader, pack_number))
        punched = worth_punching(extents)
        given_back = sum(
            self._backend.punch(name, extent.start, extent.stop - extent.start)
            for extent in punched
        )
        if punched:
            self._metadata.run(lambda txn: _mark_punched(txn, punched))
        return given_back


def session_of(pack_name: str) -> str:
    """The id of the session that wrote a pack."""
    return pack_name.rpartition("/")[2].partition("-")[0]


def _bounded(numbers: Sequence[int], locations: Mapping[int, Location]) -> list[int]:
    """As many of *numbers* as one transaction should free: few nodes, for each has edges."""
    taken = []
    node_count = 0
    for number in numbers:
        location = locations.get(number)
        node_count += location is not None and location.kind != Kind.BLOCK
        if node_count > _NODES_PER_STEP:
            break
        taken.append(number)
    return taken


def _queued(reader: Reader) -> list[int]:
    rows = reader.scan(Table.RECLAIM, limit=_CHUNKS_PER_STEP)
    return [int.from_bytes(key, "big") for key, _ in rows]


def _forget_empty(txn: Transaction, pack_numbers: Iterable[int]) -> list[int]:
    """Drop the rows of those packs in which nothing is live; return their numbers."""
    rows = find_packs(txn, pack_numbers)
    empty = [number for number, row in rows.items() if row.live_count == 0]
    txn.delete_many(Table.PACKS, [pack_key(number) for number in empty])
    for number in empty:
        forget_pack(txn, number)
    return empty


def worth_punching(extents: Iterable[DeadExtent]) -> list[DeadExtent]:
    """Those of *extents* that a punch would give enough back for, and were not punched."""
    return [e for e in extents if not e.punched and hole_size(e) >= HOLE_SIZE_MIN]


def hole_size(extent: DeadExtent) -> int:
    """The whole pages inside *extent*, in bytes."""
    start = -(-extent.start // _PAGE_SIZE) * _PAGE_SIZE
    return extent.stop // _PAGE_SIZE * _PAGE_SIZE - start


def _mark_punched(txn: Transaction, extents: Iterable[DeadExtent]) -> None:
    """Mark those of *extents* that have not grown meanwhile."""
    for extent in extents:
        key, value = encode_dead(extent)
        if txn.get_many(Table.DEAD, [key]) == [value]:
            txn.put_many(Table.DEAD, [encode_dead(extent._replace(punched=True))])


def _free(
    txn: Transaction,
    queued: Iterable[int],
    seen: Mapping[int, Location],
    digests: Mapping[int, Digest],
) -> Reclaimed:
    """Take *queued* out of the queue, and free those that nothing references.

    One whose record is no longer where it was *seen* stays for the next step: it was
    moved, and its digest may not have been read.
    """
    waiting = [
        int.from_bytes(key, "big")
        for key, row in _rows(txn, Table.RECLAIM, queued)
        if row is not None
    ]
    counts = get_counts(txn, waiting)
    found = find_locations(txn, [number for number in waiting if counts[number] == 0])
    moved = {number for number, location in found.items() if location != seen.get(number)}
    txn.delete_many(Table.RECLAIM, [number_key(n) for n in waiting if n not in moved])
    locations = {number: at for number, at in found.items() if number not in moved}
    numbers = sorted(locations)
    _forget_digests(txn, {n: digests[n] for n in numbers if n in digests})
    nodes = _forget_nodes(txn, numbers)
    txn.delete_many(Table.DAMAGED, [number_key(number) for number in numbers])
    set_locations(txn, dict.fromkeys(numbers))
    freed_bytes = retire(txn, locations.values())
    return Reclaimed(len(numbers), freed_bytes, node_count=nodes)


def _rows(
    txn: Transaction, table: Table, numbers: Iterable[int]
) -> list[tuple[bytes, bytes | None]]:
    keys = [number_key(number) for number in sorted(numbers)]
    return list(zip(keys, txn.get_many(table, keys), strict=True))


def _forget_digests(txn: Transaction, digests: Mapping[int, Digest]) -> None:
    by_digest = sorted((digest, number) for number, digest in digests.items())
    rows = txn.get_many(Table.CHUNKS, [digest for digest, _ in by_digest])
    gone = [
        digest
        for (digest, number), row in zip(by_digest, rows, strict=True)
        if row == encode_chunk_number(number)
    ]
    txn.delete_many(Table.CHUNKS, gone)


def _forget_nodes(txn: Transaction, numbers: list[int]) -> int:
    """Drop the edges of those *numbers* that are nodes; return how many are."""
    changes = ReferenceChanges()
    nodes = []
    for number, row in zip(numbers, find_node_rows(txn, numbers), strict=True):
        if row is not None:
            changes.take_all(row.children)
            nodes.append(number_key(number))
    txn.delete_many(Table.NODES, nodes)
    change_references(txn, changes)
    return len(nodes)
