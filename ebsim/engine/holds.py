"""References from outside the trees: a snapshot's on its root, a reader's on what it reads."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from ebsim.chunkstore.chunk_index import find_node_rows, find_numbers
from ebsim.chunkstore.reclaim_queue import change_references
from ebsim.chunkstore.reference_counts import ReferenceChanges
from ebsim.chunkstore.rows import Holder, decode_hold, encode_hold, hold_prefix
from ebsim.chunkstore.sessions import Session
from ebsim.engine.region import Region
from ebsim.errors import ChunkMissing, StorageUnavailable
from ebsim.ids import Digest, SnapshotId, VolumeId
from ebsim.metadata.transactions import Table, Transaction

# Above every level that a tree can have: the hold on a whole map.
_WHOLE_MAP_LEVEL = 255
_HOLDS_PER_STEP = 1024


def root_holder(snapshot_id: SnapshotId) -> Holder:
    """A completed snapshot's hold on its root."""
    return Holder(snapshot_id, _WHOLE_MAP_LEVEL, 0)


def volume_holder(volume_id: VolumeId) -> Holder:
    """A volume's hold on the block map that it was made from."""
    return Holder(volume_id, _WHOLE_MAP_LEVEL, 0)


def reader_of(session_id: str) -> str:
    """The owner of the holds of a session that reads."""
    return f"reader-{session_id}"


def take_hold(txn: Transaction, holder: Holder, root: Digest) -> None:
    """Reference *root* for *holder*.

    Raises:
        ChunkMissing: the store no longer has it.
    """
    numbers = find_numbers(txn, [root])
    if root not in numbers:
        raise ChunkMissing(root)
    change_references(txn, ReferenceChanges({numbers[root]: 1}))
    txn.put_many(Table.HOLDS, [(holder.key(), encode_hold(numbers[root], root))])


def hold_present_nodes(txn: Transaction, wanted: Mapping[Holder, Digest]) -> set[Holder]:
    """Reference those nodes of *wanted* that the store has, with all that is below them.

    Returns the holders that hold theirs now.  A node without edges, as a rebuild may leave
    one, is not one that can be relied on.
    """
    numbers = find_numbers(txn, wanted.values())
    order = list(numbers.items())
    rows = find_node_rows(txn, [number for _, number in order])
    whole = {d: number for (d, number), row in zip(order, rows, strict=True) if row is not None}
    keys = {holder: holder.key() for holder, digest in wanted.items() if digest in whole}
    held = dict(zip(keys, txn.get_many(Table.HOLDS, list(keys.values())), strict=True))
    changes = ReferenceChanges()
    taken = []
    for holder in sorted(keys, key=keys.__getitem__):
        digest = wanted[holder]
        if held[holder] is None:
            changes.singles[whole[digest]] += 1
            taken.append((keys[holder], encode_hold(whole[digest], digest)))
    change_references(txn, changes)
    txn.put_many(Table.HOLDS, taken)
    return set(keys)


def drop_holds(txn: Transaction, owner: str, *, keep: Holder | None = None) -> bool:
    """Drop the owner's holds but *keep*, a bounded number; return whether more may be left."""
    prefix = hold_prefix(owner)
    rows = txn.scan(Table.HOLDS, prefix, prefix + b"\xff" * 10, limit=_HOLDS_PER_STEP)
    kept = keep.key() if keep else None
    dropped = [(key, value) for key, value in rows if key != kept]
    changes = ReferenceChanges()
    changes.take_all([decode_hold(value)[0] for _, value in dropped])
    txn.delete_many(Table.HOLDS, [key for key, _ in dropped])
    change_references(txn, changes)
    return len(rows) == _HOLDS_PER_STEP


def drop_all_holds(region: Region, owner: str, *, keep: Holder | None = None) -> None:
    """Drop the owner's holds but *keep*, in as many transactions as it takes."""
    while region.metadata.run(lambda txn: drop_holds(txn, owner, keep=keep)):
        pass


@contextmanager
def reading(region: Region, *roots: Digest) -> Iterator[Session]:
    """Hold *roots* while the body reads what is below them, whoever deletes it meanwhile.

    Works on a full disk: a store that has no room must still give back what it holds.
    """
    session = region.reserve.use_if_full(lambda: _begin_reading(region, roots))
    try:
        yield session
    finally:
        _end_reading(region, session)


def _begin_reading(region: Region, roots: Sequence[Digest]) -> Session:
    session = region.open_session()
    owner = reader_of(session.session_id)

    def take(txn: Transaction) -> None:
        for index, root in enumerate(roots):
            take_hold(txn, Holder(owner, _WHOLE_MAP_LEVEL, index), root)

    try:
        region.metadata.run(take)
    except BaseException:
        # Whether the transaction took effect is not always known: recovery finds out.
        session.abandon()
        raise
    return session


def _end_reading(region: Region, session: Session) -> None:
    owner = reader_of(session.session_id)
    try:
        region.reserve.use_if_full(lambda: drop_all_holds(region, owner))
        region.reclaimer().run()
    except StorageUnavailable:
        # What was read was read well.  The holds of an abandoned session are dropped by
        # whoever writes to the region next, who also meets the failure if it lasts.
        session.abandon()
    session.close()
