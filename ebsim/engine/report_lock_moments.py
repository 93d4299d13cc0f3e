"""Reporting what happens to locks by themselves: cool-offs and locks that end.

Nobody has to be there at that moment: whoever calls this afterwards has each reported, once,
in the order of time.  The transaction that writes the events moves a mark past their rows.
"""

from dataclasses import replace

from ebsim.catalog.records import find_snapshot
from ebsim.catalog.snapshot_index import COOL_OFF_ENDS, snapshot_id_in
from ebsim.catalog.snapshot_lock import LockMode
from ebsim.engine.record_access_events import cool_off_expired, lock_expired
from ebsim.engine.region import Region
from ebsim.metadata.transactions import Reader, Table, Transaction

_REPORTED = b"lock_moment_reported"
_ROWS_PER_STEP = 256


def report_lock_moments(region: Region) -> None:
    """Report every cool-off and lock that has ended since this was done last.

    Costs one look-up when none has.
    """
    while region.metadata.read(lambda reader: _due(reader, region)):
        with region.session():
            region.metadata.run(lambda txn: _report(txn, region))


def _due(reader: Reader, region: Region) -> list[bytes]:
    (mark,) = reader.get_many(Table.STORE, [_REPORTED])
    start = mark + b"\0" if mark is not None else b""
    stop = (region.clock.now_ns() + 1).to_bytes(8, "big")
    rows = reader.scan(Table.LOCK_MOMENTS, start, stop, limit=_ROWS_PER_STEP)
    return [key for key, _ in rows]


def _report(txn: Transaction, region: Region) -> None:
    keys = _due(txn, region)
    for key in keys:
        snapshot = find_snapshot(txn, snapshot_id_in(key))
        lock = snapshot.lock if snapshot is not None else None
        if snapshot is None or lock is None:
            continue
        of_owner = replace(region, account_id=snapshot.owner_id)
        if key[8:9] != COOL_OFF_ENDS:
            lock_expired(txn, of_owner, snapshot, lock)
        elif lock.mode is LockMode.COMPLIANCE:
            cool_off_expired(txn, of_owner, snapshot, lock)
    if keys:
        txn.put_many(Table.STORE, [(_REPORTED, keys[-1])])
