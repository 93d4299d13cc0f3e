"""What the server does of events and schedules, in threads of their own.

Events are sent every second to sinks that have their time, to each in a turn of its own
(``engine.sink_turns``).  Lifecycle policies are run when something is due, by the regions'
clock, and every ten minutes for what has grown too old.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from ebsim.api.chores import Chore
from ebsim.api.regions import Regions
from ebsim.catalog.lifecycle_policy import LifecyclePolicy, PolicyState
from ebsim.clock import to_datetime
from ebsim.engine.lifecycle_policies import all_policies
from ebsim.engine.region import Region
from ebsim.engine.run_lifecycle import next_due, run_policy
from ebsim.engine.sink_turns import SinkTurns

_ROUND_SECONDS = 1.0
_AT_LEAST_EVERY = timedelta(minutes=10)


def delivering(turns: SinkTurns) -> Chore:
    """Send events to the sinks."""
    return Chore("events", _ROUND_SECONDS, turns.begin)


def scheduling(regions: Regions, tell: Callable[[str], None]) -> Chore:
    """Run lifecycle policies; what fails is told once until it changes."""
    schedules = _Schedules(regions, tell)
    return Chore("lifecycle", _ROUND_SECONDS, schedules.run)


class _Schedules:
    """The policies of all regions, and when each is to be looked at again."""

    def __init__(self, regions: Regions, tell: Callable[[str], None]) -> None:
        self._regions = regions
        self._tell = tell
        # Of each policy as it was then: when it was run, and when it is to be run again.
        self._planned: dict[str, tuple[LifecyclePolicy, int, int]] = {}
        self._told: dict[str, list[str]] = {}

    def run(self, region: Region) -> None:
        for policy in all_policies(region):
            if policy.state is PolicyState.ENABLED and self._is_due(region, policy):
                self._run(region, policy)

    def _is_due(self, region: Region, policy: LifecyclePolicy) -> bool:
        planned = self._planned.get(policy.policy_id)
        if planned is None or planned[0] != policy:
            return True
        # A clock that was set back was driven: nothing planned by the old one counts.
        return not planned[1] <= region.clock.now_ns() < planned[2]

    def _run(self, region: Region, policy: LifecyclePolicy) -> None:
        now_ns = region.clock.now_ns()
        now = to_datetime(now_ns)
        done = run_policy(region, policy, self._other)
        again = now + _AT_LEAST_EVERY
        due = next_due(policy, now)
        if due is not None and not done.failures:
            again = min(again, due)
        wait_ns = round((again - now).total_seconds() * 1e9)
        self._planned[policy.policy_id] = (policy, now_ns, now_ns + wait_ns)
        for failure in done.failures:
            if failure not in self._told.get(policy.policy_id, []):
                self._tell(f"{policy.policy_id}: {failure}")
        self._told[policy.policy_id] = done.failures

    @contextmanager
    def _other(self, name: str) -> Iterator[Region]:
        """Another region of the home, shared as all are."""
        yield self._regions.region(name, create=True)
