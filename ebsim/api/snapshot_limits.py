"""How many snapshots there may be, and how often one is taken: quotas that a chaos file sets.

    {"limits": {"snapshots": 100000, "pending_direct_snapshots": 100,
                "seconds_between_snapshots": 15}}

Each is of an account and a region, the last of a volume.  Amazon's own quotas are the
numbers above; what is not in the file has no limit.  What Amazon limits by itself, five
pending snapshots of a volume and twenty copies under way, always is.

Calls that make snapshots wait for each other where they are counted, so that a quota is
kept exactly.

Source: https://docs.aws.amazon.com/general/latest/gr/ebs-service.html
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ebsim.api.faults import ApiError
from ebsim.clock import Clock
from ebsim.engine.count_snapshots import count_pending_direct_snapshots, count_snapshots
from ebsim.engine.region import Region

_VOLUMES_MAX = 4096
_NS = 10**9


@dataclass(frozen=True, slots=True)
class LimitRules:
    """The quotas; ``None`` for no limit.

    Attributes:
        snapshots: Of an account in a region, whatever their state.
        pending_direct_snapshots: Of those, begun by StartSnapshot and not yet completed.
        seconds_between_snapshots: From one CreateSnapshot of a volume that was not refused
            for this to the next.
    """

    snapshots: int | None = None
    pending_direct_snapshots: int | None = None
    seconds_between_snapshots: float = 0


class SnapshotLimits:
    """Refuses what is beyond the quotas.  Safe from many threads."""

    def __init__(self, rules: LimitRules, clock: Clock) -> None:
        self._rules = rules
        self._clock = clock
        self._lock = threading.Lock()
        self._making: dict[tuple[str, str], threading.Lock] = {}
        self._last_ns: dict[tuple[str, str], int] = {}

    def count_request(self, region: Region, volume_id: str) -> None:
        """Count a request for a snapshot of a volume.

        Raises:
            ApiError: it comes too soon after the last.
        """
        gap_ns = int(self._rules.seconds_between_snapshots * _NS)
        if not gap_ns:
            return
        key, now_ns = (region.name, volume_id), self._clock.now_ns()
        with self._lock:
            last_ns = self._last_ns.get(key)
            if last_ns is not None and now_ns - last_ns < gap_ns:
                raise ApiError(
                    "SnapshotCreationPerVolumeRateExceeded",
                    "The maximum per volume CreateSnapshot request rate has been exceeded. Use "
                    "an increasing or variable sleep interval between requests.",
                )
            if len(self._last_ns) >= _VOLUMES_MAX:
                recent = {k: t for k, t in self._last_ns.items() if now_ns - t < gap_ns}
                self._last_ns = recent
            self._last_ns[key] = now_ns

    @contextmanager
    def room_for(self, region: Region, count: int) -> Iterator[None]:
        """Room for *count* more snapshots of the account, while the body makes them.

        Raises:
            ApiError: there is none.
        """
        most = self._rules.snapshots
        if most is None:
            yield
            return
        with self._turn(region):
            if count_snapshots(region, most) + count > most:
                raise ApiError(
                    "SnapshotLimitExceeded",
                    f"You've reached the limit on the number of Amazon EBS snapshots that you "
                    f"can create: {most}.",
                )
            yield

    @contextmanager
    def room_to_start(self, region: Region) -> Iterator[None]:
        """Room for one more snapshot of the account that is written block by block.

        Raises:
            ApiError: there is none.
        """
        most, most_pending = self._rules.snapshots, self._rules.pending_direct_snapshots
        if most is None and most_pending is None:
            yield
            return
        with self._turn(region):
            if most_pending is not None and count_pending_direct_snapshots(region) >= most_pending:
                raise ApiError(
                    "ConcurrentLimitExceededException",
                    "You have reached the limit for concurrent API requests: "
                    f"{most_pending} snapshots are pending.",
                )
            if most is not None and count_snapshots(region, most) >= most:
                raise ApiError(
                    "ServiceQuotaExceededException",
                    "Your current service quotas do not allow you to perform this action: "
                    f"there are {most} snapshots.",
                    status=402,
                    fields={"Reason": "DEPENDENCY_SERVICE_QUOTA_EXCEEDED"},
                )
            yield

    def _turn(self, region: Region) -> threading.Lock:
        with self._lock:
            return self._making.setdefault((region.account_id, region.name), threading.Lock())
