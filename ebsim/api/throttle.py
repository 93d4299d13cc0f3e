"""Refusing calls of the EBS direct APIs that come faster than Amazon allows.

For client programs that are to be tried against a service that throttles.  Each rate is a
bucket that holds a second's worth of calls and fills as time goes by.

Source: https://docs.aws.amazon.com/general/latest/gr/ebs-service.html
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from ebsim.api.call import Call
from ebsim.api.faults import ApiError
from ebsim.api.params import Params
from ebsim.clock import Clock

_ACCOUNT_RATES: Mapping[str, int] = {
    "StartSnapshot": 10,
    "CompleteSnapshot": 10,
    "ListSnapshotBlocks": 50,
    "ListChangedBlocks": 50,
    "GetSnapshotBlock": 1000,
    "PutSnapshotBlock": 1000,
}
_LARGE_REGIONS = frozenset({"us-east-1", "us-east-2", "us-west-2", "ap-southeast-1", "eu-west-1"})
_LARGE_RATE = 5000
_SNAPSHOT_RATES: Mapping[str, int] = {"GetSnapshotBlock": 1000, "PutSnapshotBlock": 1000}

# Full ones are forgotten then: they say nothing.
_BUCKETS_MAX = 4096


@dataclass(slots=True)
class Bucket:
    """What may still be called at once, as of a time."""

    rate: float
    left: float
    time_ns: int

    def fill(self, now_ns: int) -> None:
        grown = (now_ns - self.time_ns) * self.rate / 1e9
        self.left = min(max(1.0, self.rate), self.left + max(0.0, grown))
        self.time_ns = now_ns

    @property
    def is_full(self) -> bool:
        return self.left >= max(1.0, self.rate)


class Throttle:
    """Counts calls, and refuses those beyond the rates.  Safe from many threads."""

    def __init__(self, clock: Clock, factor: float) -> None:
        """*factor* times Amazon's rates are allowed."""
        self._clock = clock
        self._factor = factor
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, ...], Bucket] = {}

    def count(self, call: Call, params: Params) -> None:
        """Count a call; an account's rates go before a snapshot's.

        Raises:
            ApiError: it comes too fast.
        """
        if call.service != "ebs":
            return
        rate = _ACCOUNT_RATES[call.action]
        if call.action in _SNAPSHOT_RATES and call.region_name in _LARGE_REGIONS:
            rate = _LARGE_RATE
        if not self._takes((call.account_id, call.region_name, call.action), rate):
            raise ApiError("ThrottlingException", "Rate exceeded")
        snapshot_rate = _SNAPSHOT_RATES.get(call.action)
        if snapshot_rate is not None and not self._takes(
            (str(params["SnapshotId"]), call.action), snapshot_rate
        ):
            raise ApiError(
                "RequestThrottledException",
                "Rate exceeded for the snapshot",
                fields={"Reason": "RESOURCE_LEVEL_THROTTLE"},
            )

    def _takes(self, key: tuple[str, ...], rate: int) -> bool:
        """Take one call out of a bucket; return whether there was one."""
        now_ns, allowed = self._clock.now_ns(), rate * self._factor
        with self._lock:
            if key not in self._buckets:
                self._forget_full(now_ns)
                self._buckets[key] = Bucket(allowed, max(1.0, allowed), now_ns)
            bucket = self._buckets[key]
            bucket.fill(now_ns)
            if bucket.left < 1:
                return False
            bucket.left -= 1
            return True

    def _forget_full(self, now_ns: int) -> None:
        if len(self._buckets) < _BUCKETS_MAX:
            return
        for bucket in self._buckets.values():
            bucket.fill(now_ns)
        self._buckets = {key: one for key, one in self._buckets.items() if not one.is_full}
