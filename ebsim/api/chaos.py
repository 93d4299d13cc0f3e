"""A service that is slow, throttles and fails on purpose, for client programs to be tried on.

    {"seed": 7,
     "pending_seconds": 20,
     "latency":    [{"action": "ec2:Describe*", "seconds": 0.2}],
     "throttling": [{"action": "ec2:*", "calls_per_second": 5}],
     "errors":     [{"action": "ebs:Put*", "rate": 0.1, "code": "ServiceUnavailableException",
                     "status": 503, "message": "...", "after": false}],
     "limits": {"snapshots": 100000, "pending_direct_snapshots": 100,
                "seconds_between_snapshots": 15}}

``action`` is a service and an action, with ``*`` for anything.  All rules of latency that
fit add up; the first rules of the others that fit count.  An error comes before anything is
done, or ``after`` everything was, as when an answer is lost.  ``pending_seconds`` is how
long a snapshot stays pending at the least; ``limits`` are quotas (``snapshot_limits.py``).
All of it is off by default.
"""

import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from random import Random
from typing import Any, NoReturn

from ebsim.api.call import Call
from ebsim.api.faults import ApiError
from ebsim.api.snapshot_limits import LimitRules, SnapshotLimits
from ebsim.api.throttle import Bucket
from ebsim.clock import Clock
from ebsim.errors import InvalidRequest
from ebsim.waiting import wait_until

_ERROR_DEFAULTS: Mapping[str, tuple[str, int]] = {
    "ec2": ("InternalError", 500),
    "sts": ("InternalFailure", 500),
}
_ERROR_DEFAULT = ("InternalServerException", 500)
_EC2_THROTTLE = ("RequestLimitExceeded", 503, "Request limit exceeded.")
_THROTTLE = ("ThrottlingException", 400, "Rate exceeded")


@dataclass(frozen=True, slots=True)
class _Latency:
    action: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Quota:
    action: str
    calls_per_second: float


@dataclass(frozen=True, slots=True)
class _Failure:
    action: str
    rate: float
    code: str
    status: int | None
    message: str
    after: bool


@dataclass(frozen=True, slots=True)
class ChaosRules:
    """What goes wrong, and how often.

    Attributes:
        pending_seconds: How long a snapshot stays pending at the least.
    """

    seed: int
    pending_seconds: float
    latencies: Sequence[_Latency]
    quotas: Sequence[_Quota]
    failures: Sequence[_Failure]
    limits: LimitRules


class Chaos:
    """Makes calls slow and lets some fail.  Safe from many threads."""

    def __init__(self, rules: ChaosRules, clock: Clock) -> None:
        self._rules = rules
        self._clock = clock
        self._lock = threading.Lock()
        self._random = Random(rules.seed)
        self._buckets: dict[tuple[str, ...], Bucket] = {}
        self.limits = SnapshotLimits(rules.limits, clock)

    def before(self, call: Call) -> None:
        """What happens to a call before it is carried out.

        Raises:
            ApiError: it is throttled, or fails.
        """
        seconds = sum(r.seconds for r in self._rules.latencies if _fits(r.action, call))
        if seconds:
            wait_until(lambda: False, seconds)
        self._throttle(call)
        self._fail(call, after=False)

    def after(self, call: Call) -> None:
        """What happens to a call that was carried out.

        Raises:
            ApiError: its answer is lost.
        """
        self._fail(call, after=True)

    def _throttle(self, call: Call) -> None:
        rule = next((r for r in self._rules.quotas if _fits(r.action, call)), None)
        if rule is None:
            return
        key = (rule.action, call.account_id, call.region_name)
        now_ns = self._clock.now_ns()
        with self._lock:
            bucket = self._buckets.get(key)
            if bucket is None:
                rate = rule.calls_per_second
                bucket = self._buckets[key] = Bucket(rate, max(1.0, rate), now_ns)
            bucket.fill(now_ns)
            if bucket.left >= 1:
                bucket.left -= 1
                return
        code, status, message = _EC2_THROTTLE if call.service == "ec2" else _THROTTLE
        raise ApiError(code, message, status=status)

    def _fail(self, call: Call, *, after: bool) -> None:
        for rule in self._rules.failures:
            if rule.after is not after or not _fits(rule.action, call):
                continue
            with self._lock:
                is_struck = self._random.random() < rule.rate
            if is_struck:
                code, status = _ERROR_DEFAULTS.get(call.service, _ERROR_DEFAULT)
                raise ApiError(rule.code or code, rule.message, status=rule.status or status)
            return


def _fits(pattern: str, call: Call) -> bool:
    return fnmatchcase(f"{call.service}:{call.action}", pattern)


def read_chaos(text: bytes) -> ChaosRules:
    """The rules that a file says.

    Raises:
        InvalidRequest: it says something else, and what.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the chaos file is not JSON: {error}. Nothing is served.") from error
    fields = _Fields(values, "it")
    rules = ChaosRules(
        seed=int(fields.number("seed", 0)),
        pending_seconds=fields.number("pending_seconds", 0),
        latencies=[_latency(one) for one in fields.listed("latency")],
        quotas=[_quota(one) for one in fields.listed("throttling")],
        failures=[_failure(one) for one in fields.listed("errors")],
        limits=_limits(fields.inner("limits")),
    )
    fields.end()
    return rules


class _Fields:
    """An object of the file, read field by field; what is left over is refused."""

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, dict):
            _refuse(f"{where} is no object")
        self._left: dict[str, Any] = dict(values)
        self._where = where

    def inner(self, name: str) -> "_Fields":
        return _Fields(self._left.pop(name, {}), f"'{name}'")

    def count(self, name: str) -> int | None:
        value = self._left.pop(name, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            _refuse(f"{self._where} has a '{name}' that is no count from 0 on")
        return value

    def number(self, name: str, default: float, most: float = math.inf) -> float:
        value = self._left.pop(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            _refuse(f"{self._where} has a '{name}' that is no number from 0 on")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        value = self._left.pop(name, default)
        if not isinstance(value, str):
            _refuse(f"{self._where} has no '{name}' that is text")
        return value

    def flag(self, name: str) -> bool:
        value = self._left.pop(name, False)
        if not isinstance(value, bool):
            _refuse(f"{self._where} has a '{name}' that is neither true nor false")
        return value

    def listed(self, name: str) -> list[Any]:
        value = self._left.pop(name, [])
        if not isinstance(value, list):
            _refuse(f"{self._where} has a '{name}' that is no list")
        return value

    def end(self) -> None:
        for name in self._left:
            _refuse(f"{self._where} has '{name}', which means nothing here")


def _limits(fields: _Fields) -> LimitRules:
    rules = LimitRules(
        snapshots=fields.count("snapshots"),
        pending_direct_snapshots=fields.count("pending_direct_snapshots"),
        seconds_between_snapshots=fields.number("seconds_between_snapshots", 0),
    )
    fields.end()
    return rules


def _latency(values: object) -> _Latency:
    fields = _Fields(values, "a rule of latency")
    rule = _Latency(_action(fields), fields.number("seconds", 0))
    fields.end()
    return rule


def _quota(values: object) -> _Quota:
    fields = _Fields(values, "a rule of throttling")
    rule = _Quota(_action(fields), fields.number("calls_per_second", 0))
    fields.end()
    return rule


def _failure(values: object) -> _Failure:
    fields = _Fields(values, "a rule of errors")
    status = int(fields.number("status", 0))
    rule = _Failure(
        action=_action(fields),
        rate=fields.number("rate", 1, most=1),
        code=fields.text("code", ""),
        status=status or None,
        message=fields.text("message", "It failed on purpose: the server has a chaos file."),
        after=fields.flag("after"),
    )
    fields.end()
    if status and not 400 <= status <= 599:
        _refuse("a rule of errors has a 'status' that is not from 400 to 599")
    return rule


def _action(fields: _Fields) -> str:
    action = fields.text("action")
    if ":" not in action and action != "*":
        _refuse(f"'{action}' is no action. Write SERVICE:ACTION, such as ec2:Describe*")
    return action


def _refuse(why: str) -> NoReturn:
    raise InvalidRequest(f"the chaos file cannot be used: {why}. Nothing is served.")
