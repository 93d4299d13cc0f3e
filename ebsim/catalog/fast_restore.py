"""Fast snapshot restore: volumes of a snapshot that are loaded before anybody asks for them.

    state         what it means                                        what follows
    enabling      asked for                                            optimizing
    optimizing    the pool gets its first volume                       enabled
    enabled       a volume is taken from the pool for each credit      disabling
    disabling     the pool is being emptied                            disabled
    disabled      nothing is left but the record                       enabling

Credits come by the clock, from none when it was enabled, as many in an hour as Amazon gives,
and no more of them at once than its bucket holds.

Source: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-fast-snapshot-restore.html
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from ebsim.errors import MetadataCorrupt
from ebsim.ids import AccountId, SnapshotId, VolumeId
from ebsim.metadata.transactions import Reader, Table, Transaction

SIZE_GIB_MAX = 16 * 1024
_CREDITS_MAX = 10
_GIB_PER_CREDIT = 1024
_HOUR_NS = 3600 * 10**9


class FastRestoreState(StrEnum):
    """Amazon's states."""

    ENABLING = "enabling"
    OPTIMIZING = "optimizing"
    ENABLED = "enabled"
    DISABLING = "disabling"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class FastRestore:
    """Fast restore of a snapshot in a zone, for one account.

    Attributes:
        owner_id: The account that enabled it, which may be another than the snapshot's.
        times_ns: When each state began that it has had since it was last enabled.
        credits: What there was at *credit_time_ns*.
        pool: Volumes that are loaded, or being loaded, for whoever comes next.
    """

    owner_id: AccountId
    snapshot_id: SnapshotId
    zone: str
    size_gib: int
    state: FastRestoreState
    reason: str
    times_ns: Mapping[str, int]
    credits: float = 0.0
    credit_time_ns: int = 0
    pool: tuple[VolumeId, ...] = ()

    @property
    def credits_max(self) -> int:
        """How many credits there can be at once."""
        return max(1, min(_CREDITS_MAX, _GIB_PER_CREDIT // max(self.size_gib, 1)))

    def credits_at(self, now_ns: int) -> float:
        """How many volumes could be taken at *now_ns*; what is not whole is on its way."""
        if self.state is not FastRestoreState.ENABLED:
            return 0.0
        per_hour = min(float(_CREDITS_MAX), _GIB_PER_CREDIT / max(self.size_gib, 1))
        hours = max(now_ns - self.credit_time_ns, 0) / _HOUR_NS
        return min(float(self.credits_max), self.credits + hours * per_hour)

    def spent(self, now_ns: int) -> "FastRestore":
        """It, with one credit less."""
        return replace(self, credits=self.credits_at(now_ns) - 1, credit_time_ns=now_ns)

    def moved(self, state: FastRestoreState, now_ns: int, reason: str) -> "FastRestore":
        """It, in *state* from *now_ns* on."""
        begins = state is FastRestoreState.ENABLING
        return replace(
            self,
            state=state,
            reason=reason,
            times_ns={**({} if begins else self.times_ns), state.value: now_ns},
            credits=0.0,
            credit_time_ns=now_ns,
        )


def fast_restore_key(owner_id: AccountId, snapshot_id: SnapshotId, zone: str) -> bytes:
    return f"{owner_id}{snapshot_id}{zone}".encode()


def _to_json(record: FastRestore) -> dict[str, Any]:
    return asdict(record)


def _from_json(values: Mapping[str, Any]) -> FastRestore:
    try:
        state, pool = FastRestoreState(values["state"]), tuple(values["pool"])
        return FastRestore(**{**values, "state": state, "pool": pool})
    except (KeyError, TypeError, ValueError) as error:
        raise MetadataCorrupt(where="a fast restore's record", found=repr(error)) from error


def put_fast_restore(txn: Transaction, record: FastRestore) -> None:
    row = json.dumps(_to_json(record), separators=(",", ":")).encode()
    key = fast_restore_key(record.owner_id, record.snapshot_id, record.zone)
    txn.put_many(Table.FAST_RESTORES, [(key, row)])


def remove_fast_restore(txn: Transaction, record: FastRestore) -> None:
    key = fast_restore_key(record.owner_id, record.snapshot_id, record.zone)
    txn.delete_many(Table.FAST_RESTORES, [key])


def find_fast_restore(
    reader: Reader, owner_id: AccountId, snapshot_id: SnapshotId, zone: str
) -> FastRestore | None:
    key = fast_restore_key(owner_id, snapshot_id, zone)
    (row,) = reader.get_many(Table.FAST_RESTORES, [key])
    return None if row is None else _from_json(json.loads(row))


def scan_fast_restores(reader: Reader, owner_id: AccountId | None = None) -> Iterator[FastRestore]:
    """Those of an account, or of all, by account, snapshot and zone."""
    prefix = (owner_id or "").encode()
    start = prefix
    while True:
        rows = reader.scan(Table.FAST_RESTORES, start, prefix + b"\xff", limit=256)
        for _, row in rows:
            yield _from_json(json.loads(row))
        if len(rows) < 256:
            return
        start = rows[-1][0] + b"\0"
