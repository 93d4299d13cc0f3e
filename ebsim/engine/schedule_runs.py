"""What schedules have done, so that nothing is done twice: by rows, and by the snapshots.

    table   key                                                    value
    STORE   lifecycle/POLICY-ID/target id/schedule's name          due time done, u64 BE

The row is written after the snapshot.  A crash between the two leaves a snapshot that
carries the policy's tags and began after the due time: that counts as done as well.  The
row is for the snapshot that somebody deleted by hand since.
"""

from ebsim.catalog.lifecycle_policy import POLICY_TAG, SCHEDULE_TAG
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.snapshot_index import having
from ebsim.catalog.snapshot_terms import tag_term
from ebsim.engine.region import Region
from ebsim.engine.snapshot_pages import page_of
from ebsim.metadata.transactions import Reader, Table, Transaction

_RUNS = "lifecycle/"
_RUNS_MAX = 1 << 20


def done_until(reader: Reader, policy_id: str, target_id: str, schedule_name: str) -> int:
    """The due time up to which the schedule is done for the target; 0 for none."""
    (row,) = reader.get_many(Table.STORE, [_key(policy_id, target_id, schedule_name)])
    return int.from_bytes(row or b"", "big")


def note_done(
    txn: Transaction, policy_id: str, target_id: str, schedule_name: str, due_ns: int
) -> None:
    """The schedule is done for the target up to *due_ns*."""
    key = _key(policy_id, target_id, schedule_name)
    txn.put_many(Table.STORE, [(key, due_ns.to_bytes(8, "big"))])


def forget_runs(txn: Transaction, policy_id: str) -> None:
    """Remove all that is noted of a policy."""
    start = f"{_RUNS}{policy_id}/".encode()
    rows = txn.scan(Table.STORE, start, start + b"\xff", limit=_RUNS_MAX)
    txn.delete_many(Table.STORE, [key for key, _ in rows])


def snapshots_of_policy(region: Region, policy_id: str) -> list[Snapshot]:
    """The account's snapshots and copies in *region* that the policy made, oldest first."""

    def chosen(reader: Reader, snapshot: Snapshot) -> Snapshot | None:
        del reader
        return snapshot if snapshot.tags.get(POLICY_TAG) == policy_id else None

    streams = [having(tag_term(region.account_id, POLICY_TAG, policy_id))]
    return list(page_of(region, streams, chosen, max_results=None, next_token=None).snapshots)


def of_schedule(snapshots: list[Snapshot], schedule_name: str) -> list[Snapshot]:
    """Those of *snapshots* that the schedule of that name made."""
    return [one for one in snapshots if one.tags.get(SCHEDULE_TAG) == schedule_name]


def _key(policy_id: str, target_id: str, schedule_name: str) -> bytes:
    return f"{_RUNS}{policy_id}/{target_id}/{schedule_name}".encode()
