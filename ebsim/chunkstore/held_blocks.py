"""Blocks that are held one by one, before any node refers to them.

A holder holds the block that it was given last.  As with nodes (``node_commit.py``), a
block's number, location and count, and the hold, are written in one transaction after the
pack with its record is durable.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ebsim.chunkstore.chunk_index import find_numbers
from ebsim.chunkstore.node_commit import ChunksFreed, Committed, PackInProgress, admit_chunks
from ebsim.chunkstore.pack_writer import Placed
from ebsim.chunkstore.reclaim_queue import change_references
from ebsim.chunkstore.reference_counts import ReferenceChanges
from ebsim.chunkstore.rows import Holder, decode_hold, encode_hold, hold_prefix
from ebsim.ids import Digest
from ebsim.metadata.transactions import Reader, Table, Transaction


class HeldBlock(NamedTuple):
    """A block, and its place in what holds it."""

    place: int
    digest: Digest
    number: int


def commit_held_blocks(
    txn: Transaction,
    held: Sequence[tuple[Holder, Digest]],
    placed: Mapping[Digest, Placed],
    packs: Mapping[int, PackInProgress],
) -> Committed:
    """Let each holder hold its block, and no longer what it held before.

    Records in *placed*, of sealed *packs*, that no block of *held* needs are not looked at.

    Raises:
        ChunksFreed: a block is neither in the index nor placed.
    """
    last = dict(held)
    wanted = set(last.values())
    numbers = find_numbers(txn, wanted)
    missing = wanted - numbers.keys() - placed.keys()
    if missing:
        raise ChunksFreed(missing)
    _, done = admit_chunks(txn, numbers, wanted, placed, packs)
    keys = {holder.key(): digest for holder, digest in last.items()}
    order = sorted(keys)
    counts = ReferenceChanges()
    for row in txn.get_many(Table.HOLDS, order):
        if row is not None:
            counts.singles[decode_hold(row)[0]] -= 1
    for digest in last.values():
        counts.singles[numbers[digest]] += 1
    change_references(txn, counts)
    txn.put_many(Table.HOLDS, [(key, encode_hold(numbers[keys[key]], keys[key])) for key in order])
    return done


def scan_held_blocks(reader: Reader, owner: str, start: int, limit: int) -> list[HeldBlock]:
    """At most *limit* blocks that *owner* holds from place *start* on, by rising place."""
    first = Holder(owner, 0, start).key()
    stop = hold_prefix(owner) + b"\x00" + b"\xff" * 9
    return [
        HeldBlock(int.from_bytes(key[-8:], "big"), Digest(digest), number)
        for key, value in reader.scan(Table.HOLDS, first, stop, limit=limit)
        for number, digest in (decode_hold(value),)
    ]
