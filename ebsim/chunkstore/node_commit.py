"""The transaction that makes finished nodes, and the chunks they name, part of the store.

Chunk numbers are given, locations written, edges counted and holds taken in one
transaction, after the packs that hold the records are durable.  So:

1. A row never speaks of a record that a crash can lose.
2. A chunk that is in the index has a reference, or waits in the reclaim queue.
3. A chunk found in the index when its block was read, and freed since, is noticed here:
   nothing is committed, and the caller stores it again.
4. A node's edges are counted once, however many holders it has.  A node that was there
   already takes a hold and none of its children.
5. When an inner node is committed, its edges take over the holds that its owner had on
   its children: no count changes for that.
6. No edge leads to a chunk that is gone.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ebsim.chunkstore.chunk_index import (
    NEXT_CHUNK_NUMBER,
    NEXT_PACK_NUMBER,
    allocate_node_numbers,
    allocate_numbers,
    find_locations,
    find_node_rows,
    find_numbers,
    set_locations,
)
from ebsim.chunkstore.pack_accounts import add_live, retire
from ebsim.chunkstore.pack_format import HEADER_SIZE, Record
from ebsim.chunkstore.pack_writer import Placed
from ebsim.chunkstore.reclaim_queue import change_references
from ebsim.chunkstore.reference_counts import ReferenceChanges
from ebsim.chunkstore.rows import (
    Holder,
    Location,
    NodeRow,
    PackRow,
    decode_hold,
    encode_chunk_number,
    encode_hold,
    encode_node_row,
    hold_keys,
    number_key,
)
from ebsim.errors import Conflict
from ebsim.ids import Digest
from ebsim.metadata.transactions import Reader, Row, Table, Transaction

if TYPE_CHECKING:
    from array import array


class ChunksFreed(Exception):
    """Chunks that nodes rely on were deleted before the nodes could refer to them."""

    def __init__(self, digests: set[Digest]) -> None:
        super().__init__(f"{len(digests)} chunks were freed")
        self.digests = digests


@dataclass(frozen=True, slots=True)
class NewNode:
    """A finished node that waits for its commit.

    Attributes:
        encoded: The node's bytes, kept so that its record can be written once more.
        children: Chunk numbers in order; 0 where *unknown* gives the digest instead.
        unknown: (position in *children*, digest).
        fingerprints: Of a leaf's blocks, joined; empty for an inner node.
        holder: Who holds the node once it is committed, and its place in the map.
        child_indexes: The places on the level below of the children that the holder may
            hold: all that it stored; empty for a leaf.
        block_indexes: For a leaf, where to read the blocks of *unknown* again.
        added: For a leaf, the positions in *children* that the parent's leaf has not.
        replaced: The chunk numbers that the parent's leaf has, and this one has not there.
    """

    digest: Digest
    kind: int
    encoded: bytes
    bitmap: bytes
    children: "array[int]"
    unknown: Sequence[tuple[int, Digest]]
    fingerprints: bytes
    holder: Holder
    child_indexes: Sequence[int] = ()
    block_indexes: Mapping[Digest, int] = field(default_factory=dict)
    added: Sequence[int] = ()
    replaced: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class PackInProgress:
    """A sealed pack of the writer; *number* is 0 until something in it is committed."""

    name: str
    size_bytes: int
    number: int = 0


@dataclass(slots=True)
class Committed:
    """What a commit did.

    Attributes:
        pack_numbers: The numbers that packs got by it, by their index.
        chunk_count: Chunks that the store did not have.
        stored_bytes: Their records' bytes.
        referenced_bytes: By how much the records that the leaves refer to, each counted as
            often as it is referred to, are more than those of the parent's leaves.
    """

    pack_numbers: dict[int, int] = field(default_factory=dict)
    chunk_count: int = 0
    stored_bytes: int = 0
    referenced_bytes: int = 0


def commit_nodes(
    txn: Transaction,
    nodes: Sequence[NewNode],
    placed: Mapping[Digest, Placed],
    packs: Mapping[int, PackInProgress],
) -> Committed:
    """Commit *nodes*, children before parents, whose new records are in *placed*.

    *packs* are the sealed packs by index.  Cost: proportional to the children of *nodes*.

    Raises:
        ChunksFreed: a chunk is neither in the index nor placed.
        Conflict: a child known by number alone is gone.
    """
    held = _held_children(txn, nodes)
    wanted = {node.digest for node in nodes}
    for node in nodes:
        wanted.update(digest for _, digest in node.unknown)
    # What is held is in the index: most changed children of an inner node.
    numbers = {digest: number for number, digest in held.values() if digest in wanted}
    numbers.update(find_numbers(txn, wanted - numbers.keys()))
    missing = wanted - numbers.keys() - placed.keys()
    if missing:
        raise ChunksFreed(missing)
    stored_nodes = _with_edges(txn, {node.digest for node in nodes} & numbers.keys(), numbers)
    fresh_numbers, done = admit_chunks(
        txn, numbers, wanted, placed, packs, nodes={node.digest for node in nodes}
    )
    revived = _refer(txn, nodes, numbers, stored_nodes, held)
    _refuse_gone(txn, set(revived) - set(fresh_numbers.values()))
    sizes = {n: HEADER_SIZE + placed[d].record.payload_size for d, n in fresh_numbers.items()}
    done.referenced_bytes = _referenced_change(txn, nodes, sizes)
    return done


def admit_chunks(
    txn: Transaction,
    numbers: dict[Digest, int],
    wanted: Set[Digest],
    placed: Mapping[Digest, Placed],
    packs: Mapping[int, PackInProgress],
    *,
    nodes: Set[Digest] = frozenset(),
) -> tuple[dict[Digest, int], Committed]:
    """Bring those of *wanted* into the index that are not in *numbers*, and add them there.

    Their records are in *placed*; a record of a chunk that the index has replaces one that
    is known to be damaged, or is waste.  *nodes* get their numbers from runs of their own.
    Returns the new numbers, and what was done.
    """
    written_again = {d: numbers[d] for d in numbers if d in placed}
    healed = _damaged(txn, written_again)
    fresh = sorted(
        (d for d in wanted if d not in numbers),
        key=lambda digest: (placed[digest].pack_index, placed[digest].record.offset),
    )
    fresh_numbers = _number(txn, fresh, nodes)
    numbers.update(fresh_numbers)
    txn.put_many(Table.CHUNKS, [(d, encode_chunk_number(numbers[d])) for d in sorted(fresh)])
    retire(txn, find_locations(txn, healed.values()).values())
    done = Committed(chunk_count=len(fresh))
    useless = written_again.keys() - healed.keys()
    register_records(txn, fresh_numbers | healed, useless, placed, packs, done=done)
    txn.delete_many(Table.DAMAGED, sorted(number_key(number) for number in healed.values()))
    return fresh_numbers, done


def _number(txn: Transaction, fresh: Sequence[Digest], nodes: Set[Digest]) -> dict[Digest, int]:
    """New numbers for *fresh*, in their order; nodes get theirs from runs of their own."""
    fresh_nodes = [digest for digest in fresh if digest in nodes]
    blocks = [digest for digest in fresh if digest not in nodes]
    first = allocate_numbers(txn, NEXT_CHUNK_NUMBER, len(blocks)) if blocks else 0
    numbers = dict(zip(blocks, range(first, first + len(blocks)), strict=True))
    if fresh_nodes:
        node_numbers = allocate_node_numbers(txn, len(fresh_nodes))
        numbers.update(zip(fresh_nodes, node_numbers, strict=True))
    return numbers


def _referenced_change(
    txn: Transaction, nodes: Sequence[NewNode], fresh_sizes: Mapping[int, int]
) -> int:
    """The leaves' change of bytes referred to; *fresh_sizes* are of records just brought in."""
    added = [node.children[position] for node in nodes for position in node.added]
    replaced = [number for node in nodes for number in node.replaced]
    fresh_bytes = sum(fresh_sizes.get(number, 0) for number in added)
    others = [number for number in added if number not in fresh_sizes]
    return fresh_bytes + record_bytes(txn, others) - record_bytes(txn, replaced)


def record_bytes(reader: Reader, numbers: Sequence[int]) -> int:
    """The bytes of the records of *numbers*, each as often as it is named."""
    locations = find_locations(reader, numbers)
    return sum(
        HEADER_SIZE + locations[number].payload_size for number in numbers if number in locations
    )


def _with_edges(
    txn: Transaction, digests: Set[Digest], numbers: Mapping[Digest, int]
) -> set[Digest]:
    """Those nodes whose edges are counted: one that a rebuild found missing has none."""
    order = sorted(digests)
    rows = txn.get_many(Table.NODES, [number_key(numbers[digest]) for digest in order])
    return {digest for digest, row in zip(order, rows, strict=True) if row is not None}


def _damaged(txn: Transaction, numbers: Mapping[Digest, int]) -> dict[Digest, int]:
    """Those of *numbers* that are known to be damaged."""
    digests = sorted(numbers, key=numbers.__getitem__)
    rows = txn.get_many(Table.DAMAGED, [number_key(numbers[digest]) for digest in digests])
    return {d: numbers[d] for d, row in zip(digests, rows, strict=True) if row is not None}


def _refuse_gone(txn: Transaction, numbers: Set[int]) -> None:
    """Chunks that nothing referenced may wait in the queue still; if not, they are gone."""
    gone = numbers - find_locations(txn, numbers).keys()
    if gone:
        raise Conflict(
            f"{len(gone)} chunks that new nodes refer to were deleted meanwhile. "
            "No snapshot was made. Run the command again."
        )


def register_records(
    txn: Transaction,
    useful: Mapping[Digest, int],
    useless: Set[Digest],
    placed: Mapping[Digest, Placed],
    packs: Mapping[int, PackInProgress],
    *,
    done: Committed,
) -> None:
    """Write the locations of the *useful* records, and count the *useless* as dead.

    Adds the numbers of packs that had none, and the useful records' bytes, to *done*.
    """
    indexes = sorted({placed[digest].pack_index for digest in useful.keys() | useless})
    unnumbered = [index for index in indexes if packs[index].number == 0]
    if unnumbered:
        first = allocate_numbers(txn, NEXT_PACK_NUMBER, len(unnumbered))
        last = first + len(unnumbered)
        done.pack_numbers = dict(zip(unnumbered, range(first, last), strict=True))
    pack_numbers = {i: done.pack_numbers.get(i, packs[i].number) for i in indexes}
    new_packs = {
        number: PackRow(packs[index].size_bytes, 0, 0, packs[index].name)
        for index, number in done.pack_numbers.items()
    }

    def location(digest: Digest) -> Location:
        return location_of(placed[digest].record, pack_numbers[placed[digest].pack_index])

    locations = {number: location(digest) for digest, number in useful.items()}
    set_locations(txn, locations)
    wasted = [location(digest) for digest in useless]
    add_live(txn, [*locations.values(), *wasted], new_packs)
    retire(txn, wasted)
    done.stored_bytes = sum(HEADER_SIZE + place.payload_size for place in locations.values())


def location_of(record: Record, pack_number: int) -> Location:
    """The index's entry for *record* in the pack of that number."""
    return Location(pack_number, record.offset, record.payload_size, record.kind, record.codec)


def _refer(
    txn: Transaction,
    nodes: Sequence[NewNode],
    numbers: Mapping[Digest, int],
    stored_before: set[Digest],
    held_before: Mapping[bytes, tuple[int, Digest]],
) -> list[int]:
    """Write the edges of *nodes*, move holds up, take the new holds, count it all.

    Returns the chunk numbers whose count was zero before.
    """
    counts = ReferenceChanges()
    holds: dict[bytes, tuple[int, Digest]] = {}
    dropped: list[bytes] = []
    edges: list[Row] = []
    known = set(stored_before)
    for node in nodes:
        for position, digest in node.unknown:
            node.children[position] = numbers[digest]
        number = numbers[node.digest]
        if node.digest not in known:
            known.add(node.digest)
            counts.add_all(node.children)
            edges.append((number_key(number), encode_node_row(_row(node))))
        elif node.fingerprints:
            edges.extend(_regained(txn, node, number))
        for key in _child_keys(node) if node.child_indexes else ():
            held = holds.pop(key, None)
            if held is None and key in held_before:
                held = held_before[key]
                dropped.append(key)
            if held is not None:
                counts.singles[held[0]] -= 1
        counts.singles[number] += 1
        holds[node.holder.key()] = (number, node.digest)
    edges.sort()
    txn.put_many(Table.NODES, edges)
    txn.delete_many(Table.HOLDS, sorted(dropped))
    txn.put_many(Table.HOLDS, sorted((key, encode_hold(*held)) for key, held in holds.items()))
    return change_references(txn, counts)


def _row(node: NewNode) -> NodeRow:
    return NodeRow(node.kind, node.bitmap, node.children, node.fingerprints)


def _regained(txn: Transaction, node: NewNode, number: int) -> list[Row]:
    """The row of a stored leaf that had lost its fingerprints, with them again."""
    (stored,) = find_node_rows(txn, [number])
    if stored is None or stored.fingerprints:
        return []
    return [(number_key(number), encode_node_row(_row(node)))]


def _child_keys(node: NewNode) -> list[bytes]:
    """The keys of the holds that *node*'s owner may have on its children."""
    return hold_keys(node.holder.owner, node.holder.level - 1, node.child_indexes)


def _held_children(txn: Transaction, nodes: Sequence[NewNode]) -> dict[bytes, tuple[int, Digest]]:
    """The holds, taken in commits before, that give way to edges of *nodes*: by key."""
    wanted = {key for node in nodes if node.child_indexes for key in _child_keys(node)}
    if not wanted:
        return {}  # Leaves alone, as most commits are.
    keys = sorted(wanted - {node.holder.key() for node in nodes})
    rows = zip(keys, txn.get_many(Table.HOLDS, keys), strict=True)
    found = {key: decode_hold(row) for key, row in rows if row is not None}
    return {key: (number, Digest(digest)) for key, (number, digest) in found.items()}
