"""What of each pack is alive: kept in the transaction that brings a record in or retires it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from ebsim.chunkstore.chunk_index import find_packs, set_packs
from ebsim.chunkstore.dead_space import add_dead
from ebsim.chunkstore.pack_format import HEADER_SIZE
from ebsim.chunkstore.rows import DeadExtent, Location, PackRow
from ebsim.errors import MetadataCorrupt
from ebsim.metadata.transactions import Transaction


def add_live(
    txn: Transaction, locations: Iterable[Location], new_packs: Mapping[int, PackRow]
) -> None:
    """Count the records at *locations* as live.  *new_packs* are the rows of packs not yet
    known, with nothing live in them."""
    sizes: defaultdict[int, list[int]] = defaultdict(list)
    for location in locations:
        sizes[location.pack_number].append(HEADER_SIZE + location.payload_size)
    rows = {**new_packs, **find_packs(txn, sizes)}
    for pack_number, added in sizes.items():
        row = rows[pack_number]
        rows[pack_number] = row._replace(
            live_bytes=row.live_bytes + sum(added), live_count=row.live_count + len(added)
        )
    set_packs(txn, rows)


def retire(txn: Transaction, locations: Iterable[Location]) -> int:
    """Count the records at *locations* as dead; return their bytes.

    Records of packs that the store has lost are counted out of nothing.

    Raises:
        MetadataCorrupt: more would be dead than the pack has: its account has drifted.
    """
    dead: defaultdict[int, list[DeadExtent]] = defaultdict(list)
    for location in locations:
        stop = location.offset + HEADER_SIZE + location.payload_size
        dead[location.pack_number].append(
            DeadExtent(location.pack_number, location.offset, stop, punched=False)
        )
    rows = find_packs(txn, dead)
    for pack_number, row in rows.items():
        size = sum(extent.stop - extent.start for extent in dead[pack_number])
        count = len(dead[pack_number])
        if row.live_bytes < size or row.live_count < count:
            raise MetadataCorrupt(
                where=f"the account of {row.name}",
                found=f"{row.live_count} live records of {row.live_bytes} bytes, "
                f"{count} of {size} bytes to retire",
            )
        rows[pack_number] = row._replace(
            live_bytes=row.live_bytes - size, live_count=row.live_count - count
        )
    set_packs(txn, rows)
    known = [extent for pack_number in rows for extent in dead[pack_number]]
    add_dead(txn, known)
    return sum(extent.stop - extent.start for extents in dead.values() for extent in extents)
