"""Beginning a snapshot that is then written block by block."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from ebsim.catalog.client_tokens import TokenUse, find_answer, note_answer
from ebsim.catalog.direct_snapshot import DirectSnapshot, put_direct, puts_owner
from ebsim.catalog.records import find_snapshot, find_volume, put_snapshot, put_volume
from ebsim.catalog.snapshot import (
    Snapshot,
    SnapshotState,
    lineage_of,
    snapshot_from_json,
    snapshot_to_json,
)
from ebsim.catalog.volume import UNKNOWN_VOLUME
from ebsim.chunkstore.rows import Holder
from ebsim.engine.direct.refusals import (
    ForeignBlockSize,
    ParentPending,
    SnapshotUnusable,
    VolumeSizeRefused,
)
from ebsim.engine.holds import take_hold
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region, next_generation
from ebsim.engine.tags import check_description, check_tags
from ebsim.errors import InvalidRequest, SnapshotNotFound
from ebsim.ids import SnapshotId, new_snapshot_id
from ebsim.metadata.transactions import Reader, Transaction
from ebsim.units import GIB, KIB

DIRECT_BLOCK_SIZE = 512 * KIB
VOLUME_SIZE_GIB_MAX = 65536
TIMEOUT_MINUTES_DEFAULT = 60
TIMEOUT_MINUTES_MIN, TIMEOUT_MINUTES_MAX = 10, 4320

# Above every level that a tree can have, and above the puts.
_PARENT_LEVEL = 255


@dataclass(frozen=True, slots=True)
class DirectOptions:
    """What a snapshot is to be.

    Attributes:
        parent_id: A completed snapshot of the same account, whose blocks are inherited.
        timeout_minutes: After so long without a put it fails.
        client_token: Names the request: sent again, it gets the same answer.
    """

    volume_size_gib: int
    parent_id: SnapshotId | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    timeout_minutes: int = TIMEOUT_MINUTES_DEFAULT
    client_token: str | None = None

    def check(self) -> None:
        """Refuse what Amazon refuses.

        Raises:
            InvalidRequest: a size, timeout, tag or the description.
        """
        if not 1 <= self.volume_size_gib <= VOLUME_SIZE_GIB_MAX:
            raise VolumeSizeRefused(
                f"Volume size {self.volume_size_gib} is not valid, expected 1 to "
                f"{VOLUME_SIZE_GIB_MAX} GiB."
            )
        if not TIMEOUT_MINUTES_MIN <= self.timeout_minutes <= TIMEOUT_MINUTES_MAX:
            raise InvalidRequest(
                f"Timeout {self.timeout_minutes} is not valid, expected {TIMEOUT_MINUTES_MIN} "
                f"to {TIMEOUT_MINUTES_MAX} minutes."
            )
        check_tags(self.tags)
        check_description(self.description)


def started_before(region: Region, options: DirectOptions) -> Snapshot | None:
    """What was returned for the client token, if it was.

    Raises:
        ClientTokenReused: the token came with another request.
    """
    use = _token_use(region, options)
    return None if use is None else region.metadata.read(lambda reader: _answered(reader, use))


def _answered(reader: Reader, use: TokenUse) -> Snapshot | None:
    answer = find_answer(reader, use)
    return None if answer is None else snapshot_from_json(answer)


def start_direct_snapshot(region: Region, options: DirectOptions) -> Snapshot:
    """Begin a snapshot and return it, pending; or what was returned for the client token.

    Raises:
        InvalidRequest: an option makes no sense.
        SnapshotNotFound: the account has no such parent, or that failed.
        ParentPending: it is not completed.
        SnapshotUnusable: its blocks are not of 512 KiB.
        VolumeSizeRefused: it is larger than the volume.
        ClientTokenReused: the token came with another request.
    """
    options.check()
    recover(region)
    return region.metadata.run(lambda txn: _start(txn, region, options))


def _start(txn: Transaction, region: Region, options: DirectOptions) -> Snapshot:
    use = _token_use(region, options)
    if use is not None and (answered := _answered(txn, use)) is not None:
        return answered
    parent = None if options.parent_id is None else _parent(txn, region, options)
    now_ns = region.clock.now_ns()
    snapshot_id = new_snapshot_id(region.random)
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        volume_id=UNKNOWN_VOLUME.volume_id,
        owner_id=region.account_id,
        state=SnapshotState.PENDING,
        start_time_ns=now_ns,
        size_bytes=options.volume_size_gib * GIB,
        block_size=DIRECT_BLOCK_SIZE,
        generation=next_generation(txn, now_ns),
        parent_id=options.parent_id,
        description=options.description,
        tags=dict(options.tags),
        lineage=lineage_of(parent) if parent is not None else snapshot_id,
    )
    put_snapshot(txn, snapshot)
    if find_volume(txn, UNKNOWN_VOLUME.volume_id) is None:
        put_volume(txn, UNKNOWN_VOLUME)
    put_direct(txn, snapshot_id, _record(txn, options, snapshot_id, parent, now_ns))
    if use is not None:
        note_answer(txn, use, snapshot_to_json(snapshot), now_ns)
    return snapshot


def _token_use(region: Region, options: DirectOptions) -> TokenUse | None:
    if options.client_token is None:
        return None
    parameters = asdict(options)
    del parameters["client_token"]
    return TokenUse(region.account_id, "StartSnapshot", options.client_token, parameters)


def _record(
    txn: Transaction,
    options: DirectOptions,
    snapshot_id: SnapshotId,
    parent: Snapshot | None,
    now_ns: int,
) -> DirectSnapshot:
    """The record of a new one, which holds its parent's block map until it is completed."""
    if parent is None or parent.root is None:
        return DirectSnapshot(options.timeout_minutes, now_ns)
    take_hold(txn, Holder(puts_owner(snapshot_id), _PARENT_LEVEL, 0), parent.root)
    return DirectSnapshot(
        options.timeout_minutes,
        now_ns,
        parent.root.hex(),
        parent.block_count,
        parent.referenced_bytes,
    )


def _parent(reader: Reader, region: Region, options: DirectOptions) -> Snapshot:
    assert options.parent_id is not None, "a parent was named"
    parent = find_snapshot(reader, options.parent_id)
    # One that was shared with the account can be read and cannot be a parent.
    if parent is None or parent.owner_id != region.account_id or parent.bin_stay is not None:
        raise SnapshotNotFound(options.parent_id)
    if parent.state is SnapshotState.PENDING:
        raise ParentPending(parent.snapshot_id)
    if parent.state is not SnapshotState.COMPLETED:
        raise SnapshotNotFound(options.parent_id)
    if parent.block_size != DIRECT_BLOCK_SIZE:
        raise ForeignBlockSize(parent.snapshot_id, parent.block_size)
    if parent.is_archived_at(region.clock.now_ns()):
        raise SnapshotUnusable("Archived snapshots are not supported")
    if options.volume_size_gib < parent.volume_size_gib:
        raise VolumeSizeRefused(
            f"Volume size {options.volume_size_gib} is smaller than the parent snapshot's "
            f"{parent.volume_size_gib} GiB."
        )
    return parent
