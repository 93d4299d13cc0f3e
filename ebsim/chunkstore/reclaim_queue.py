"""The queue of chunks whose reference count reached zero.

Entering the queue is part of the transaction that dropped the last reference, so that
nothing is forgotten; leaving it, and giving the space back, is ``reclaim.py``'s work.  A
chunk in the queue may be referenced again: it is passed over when its turn comes.
"""

from ebsim.chunkstore.reference_counts import ReferenceChanges, add_references
from ebsim.chunkstore.rows import number_key
from ebsim.metadata.transactions import Table, Transaction


def change_references(txn: Transaction, changes: ReferenceChanges) -> list[int]:
    """Add to the counts of chunk numbers; those that reach zero enter the queue.

    Returns those whose count was zero until now: new ones, ones that wait in the queue,
    and, where the caller went by an old number, ones that are gone.
    """
    emptied, revived = add_references(txn, changes)
    txn.put_many(Table.RECLAIM, [(number_key(number), b"") for number in sorted(emptied)])
    return revived
