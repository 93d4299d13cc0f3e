"""Bytes of packs that nothing references, until their space is given back.

Neighbours are merged, so that two dead records of 40 KiB make a hole of 80 KiB worth
punching.  An extent that was punched stays, marked, so that a later neighbour can be
told from live data; the rows of a pack go when the pack does.
"""

from collections.abc import Sequence

from ebsim.chunkstore.rows import DeadExtent, dead_key, decode_dead, encode_dead
from ebsim.metadata.transactions import Reader, Table, Transaction


def add_dead(txn: Transaction, extents: Sequence[DeadExtent]) -> None:
    """Note that *extents* are dead, merging each with the dead extents that it touches.

    A merged extent counts as not punched: punching twice does no harm.
    """
    for extent in _joined(sorted(extents)):
        before = _touching_before(txn, extent)
        after = _touching_after(txn, extent)
        start = before.start if before else extent.start
        stop = after.stop if after else extent.stop
        if after:
            txn.delete_many(Table.DEAD, [dead_key(after.pack_number, after.start)])
        merged = DeadExtent(extent.pack_number, start, stop, punched=False)
        txn.put_many(Table.DEAD, [encode_dead(merged)])


def _joined(extents: Sequence[DeadExtent]) -> list[DeadExtent]:
    """Sorted *extents*, those that touch each other made one."""
    joined: list[DeadExtent] = []
    for extent in extents:
        last = joined[-1] if joined else None
        if last and (last.pack_number, last.stop) == (extent.pack_number, extent.start):
            joined[-1] = last._replace(stop=extent.stop)
        else:
            joined.append(extent)
    return joined


def _touching_before(txn: Transaction, extent: DeadExtent) -> DeadExtent | None:
    rows = txn.scan(
        Table.DEAD,
        dead_key(extent.pack_number, 0),
        dead_key(extent.pack_number, extent.start),
        limit=1,
        reverse=True,
    )
    found = decode_dead(*rows[0]) if rows else None
    return found if found and found.stop == extent.start else None


def _touching_after(txn: Transaction, extent: DeadExtent) -> DeadExtent | None:
    key = dead_key(extent.pack_number, extent.stop)
    (value,) = txn.get_many(Table.DEAD, [key])
    return decode_dead(key, value) if value is not None else None


def dead_extents(reader: Reader, pack_number: int, limit: int = 1 << 17) -> list[DeadExtent]:
    """The dead extents of a pack, by rising offset."""
    rows = reader.scan(
        Table.DEAD, dead_key(pack_number, 0), dead_key(pack_number + 1, 0), limit=limit
    )
    return [decode_dead(key, value) for key, value in rows]


def forget_pack(txn: Transaction, pack_number: int) -> None:
    """Drop the dead extents of a pack that is being deleted."""
    extents = dead_extents(txn, pack_number)
    txn.delete_many(Table.DEAD, [dead_key(pack_number, extent.start) for extent in extents])
