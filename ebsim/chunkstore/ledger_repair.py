"""Putting right what an audit of the rows finds, in the transaction that audits them.

Nothing can change between the audit and the repair, at the price that writers wait for
as long as it takes: some seconds for two million chunks.
"""

from array import array
from collections.abc import Collection, Mapping

from ebsim.chunkstore.chunk_index import find_locations, find_packs, set_packs
from ebsim.chunkstore.dead_space import dead_extents
from ebsim.chunkstore.ledger import audit_rows, recount, scan_all
from ebsim.chunkstore.rows import (
    COUNTS_PER_PAGE,
    dead_key,
    decode_chunk_number,
    encode_chunk_number,
    number_key,
)
from ebsim.ids import Digest
from ebsim.metadata.transactions import Table, Transaction

_STRAYS_DROPPED = frozenset({Table.NODES, Table.RECLAIM, Table.DAMAGED, Table.DEAD})


def correct_accounts(txn: Transaction) -> list[str]:
    """Make packs' rows say what is alive in them; return what was done."""
    accounts = audit_rows(txn).accounts
    set_packs(
        txn,
        {
            one.pack_number: one.row._replace(live_bytes=one.live_bytes, live_count=one.live_count)
            for one in accounts
        },
    )
    return [f"corrected what is alive in {len(accounts)} packs"] if accounts else []


def mend_rows(txn: Transaction, *, may_free: bool) -> list[str]:
    """Correct counts, drop rows about nothing, queue what nothing references.

    Returns what was done.  *may_free* says that every reference there should be is there:
    otherwise, or where an edge leads to no chunk, no row is dropped and nothing is given
    to the reclaimer.
    """
    ledger = audit_rows(txn)
    done = []
    changed = _correct_counts(txn)
    if changed:
        done.append(f"corrected {changed} reference counts")
    if ledger.dangling or not may_free:
        return done
    strays = [(table, key) for table, key in ledger.strays if table in _STRAYS_DROPPED]
    for table, key in strays:
        txn.delete_many(table, [key])
    free = [digest for digest, number in ledger.stale if number not in ledger.numbers]
    txn.delete_many(Table.CHUNKS, sorted(free))
    if strays or free:
        done.append(f"dropped {len(strays) + len(free)} rows about nothing")
        _correct_counts(txn)
    unqueued = audit_rows(txn).unqueued
    if unqueued:
        txn.put_many(Table.RECLAIM, [(number_key(number), b"") for number in unqueued])
        done.append(f"gave {len(unqueued)} unreferenced chunks to the reclaimer")
    return done


def _correct_counts(txn: Transaction) -> int:
    """Write the counts that edges and holds add up to; return how many were others."""
    tally = recount(txn)
    empty = array("I", bytes(4 * COUNTS_PER_PAGE))
    changed = 0
    rows = []
    missing = set(tally.pages)
    for key, value in scan_all(txn, Table.COUNTS):
        page_number = int.from_bytes(key, "big")
        missing.discard(page_number)
        stored, counted = array("I", value), tally.pages.get(page_number, empty)
        if stored != counted:
            changed += sum(old != new for old, new in zip(stored, counted, strict=True))
            rows.append((key, counted.tobytes()))
    for page_number in missing:
        page = tally.pages[page_number]
        changed += sum(count != 0 for count in page)
        rows.append((number_key(page_number), page.tobytes()))
    txn.put_many(Table.COUNTS, sorted(rows))
    return changed


def mend_index(txn: Transaction, digests: Mapping[int, Digest]) -> int:
    """Make each of *digests*, read from the records, lead to its number, and no other there.

    Returns how many rows were changed.  A digest that leads to another chunk which
    exists stays: its content is readable, and that is what counts.
    """
    wrong = []
    rows = dict.fromkeys(digests.values(), 0)
    for key, value in scan_all(txn, Table.CHUNKS):
        digest, number = Digest(key), decode_chunk_number(value)
        if digest in rows:
            rows[digest] = number
        elif number in digests and digests[number] != digest:
            wrong.append(digest)
    located = find_locations(txn, rows.values())
    missing = {digest: number for number, digest in digests.items() if rows[digest] not in located}
    txn.delete_many(Table.CHUNKS, wrong)
    txn.put_many(
        Table.CHUNKS,
        [(digest, encode_chunk_number(missing[digest])) for digest in sorted(missing)],
    )
    return len(wrong) + len(missing)


def forget_overlaps(txn: Transaction, pack_number: int, starts: Collection[int]) -> None:
    """Drop dead extents that reach into live records: what is lost by it is some room."""
    known = {extent.start for extent in dead_extents(txn, pack_number)}
    keys = [dead_key(pack_number, start) for start in sorted(known.intersection(starts))]
    txn.delete_many(Table.DEAD, keys)


def is_empty_pack(txn: Transaction, pack_number: int) -> bool:
    row = find_packs(txn, [pack_number]).get(pack_number)
    return row is not None and not row.live_count
