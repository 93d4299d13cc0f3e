"""Running lifecycle policies: what is due is snapshotted, what is old is deleted.

For each target of each schedule of an enabled policy:

    1  the newest due time that has come since the policy was enabled, if it is not done
       yet, makes one snapshot (of an instance: one set), however many times were missed
    2  its row says that the due time is done (``schedule_runs.py``)
    3  the newest snapshots are copied, shared and kept ready as the schedule says
    4  snapshots and copies that are too many or too old are archived or deleted; locked
       ones stay

Running again does nothing that is done, and goes on where a crash broke off.  Two processes
never run one policy at once.  What fails for one target is told, tried again with the next
run, and holds up no other.

Source: https://docs.aws.amazon.com/ebs/latest/userguide/dlm-elements.html
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from ebsim.catalog.lifecycle_policy import LifecyclePolicy, PolicyState, dlm_tags
from ebsim.catalog.policy_details import CopyRule, PolicyDetails, Schedule, TargetKind
from ebsim.catalog.records import scan_instances, scan_volumes, volumes_attached_to
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.catalog.volume import Volume
from ebsim.clock import to_datetime, to_iso8601
from ebsim.engine.archive_snapshot import archive_snapshot
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.lifecycle_followups import copy_newest, keep_ready, keep_shared
from ebsim.engine.lifecycle_policies import policy_lock
from ebsim.engine.lifecycle_retention import archived, surplus
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.schedule_runs import done_until, note_done, of_schedule, snapshots_of_policy
from ebsim.engine.snapshot_options import SnapshotOptions
from ebsim.engine.snapshot_volumes import create_snapshot_set
from ebsim.errors import EbsimError
from ebsim.metadata.transactions import Reader

OpenRegion = Callable[[str], AbstractContextManager[Region]]
"""Opens another region of the home, as the same account."""

EPOCH = to_datetime(0)


@dataclass(slots=True)
class PolicyRun:
    """What running a policy did.

    Attributes:
        created, copied, archived, deleted: Ids of snapshots; copies are in other regions.
        locked: Snapshots that a lock kept from being deleted.
        failures: What went wrong, a sentence each.
    """

    policy_id: str
    created: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    archived: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Target(NamedTuple):
    """What one snapshot or set is of: a volume, or an instance and its volumes."""

    target_id: str
    volumes: Sequence[Volume]
    is_instance: bool


def run_policy(region: Region, policy: LifecyclePolicy, open_region: OpenRegion) -> PolicyRun:
    """Do what is due of *policy* now; nothing of one that is disabled or run elsewhere.

    Acts as the policy's owner.  What fails is in the result, not raised.
    """
    done = PolicyRun(policy.policy_id)
    if policy.state is not PolicyState.ENABLED:
        return done
    region = replace(region, account_id=policy.owner_id)
    with _alone(region, policy) as is_ours:
        if is_ours:
            recover(region)
            for schedule in policy.details.schedules:
                _Running(region, policy, schedule, open_region, done).run()
    return done


def next_due(policy: LifecyclePolicy, now: datetime) -> datetime | None:
    """When a schedule of the policy is due next after *now*; none for one that is disabled."""
    if policy.state is not PolicyState.ENABLED:
        return None
    times = [one.create_rule.next_after(now) for one in policy.details.schedules]
    return min((time for time in times if time is not None), default=None)


@contextmanager
def _alone(region: Region, policy: LifecyclePolicy) -> Iterator[bool]:
    descriptor = region.files.open_or_create(policy_lock(region, policy))
    try:
        yield region.files.lock(descriptor, wait=False)
    finally:
        region.files.close(descriptor)


def targets_of(reader: Reader, region: Region, details: PolicyDetails) -> list[Target]:
    """What the policy snapshots: volumes or instances that have one of its tags, by id."""
    wanted = set(details.target_tags)
    if details.target_kind is TargetKind.VOLUME:
        return [
            Target(volume.volume_id, [volume], is_instance=False)
            for volume in scan_volumes(reader, region.account_id)
            if wanted & set(volume.tags.items())
        ]
    found = []
    for instance in scan_instances(reader, region.account_id):
        if not wanted & set(instance.shown_tags.items()):
            continue
        first = 1 if details.exclude_boot_volume else 0
        attached = volumes_attached_to(reader, instance)
        volumes = [
            volume
            for place, volume in enumerate(attached)
            if place >= first
            and (place == 0 or not set(details.excluded_tags) & set(volume.tags.items()))
        ]
        found.append(Target(instance.instance_id, volumes, is_instance=True))
    return found


class _Running:
    """One schedule of a policy, being run."""

    def __init__(
        self,
        region: Region,
        policy: LifecyclePolicy,
        schedule: Schedule,
        open_region: OpenRegion,
        done: PolicyRun,
    ) -> None:
        self._region = region
        self._policy = policy
        self._schedule = schedule
        self._open_region = open_region
        self._done = done
        self._now = to_datetime(region.clock.now_ns())

    def run(self) -> None:
        region, policy, schedule = self._region, self._policy, self._schedule
        due = schedule.create_rule.newest_within(to_datetime(policy.since_ns), self._now)
        if due is not None:
            details = policy.details
            targets = region.metadata.read(lambda reader: targets_of(reader, region, details))
            for target in targets:
                self._trying(target.target_id, lambda: self._take_if_due(target, due))  # noqa: B023 (called at once)
        self._follow_up()
        self._retain()

    def _trying(self, what: str, act: Callable[[], None]) -> None:
        """Do something whose failure is told, and holds up nothing else."""
        try:
            act()
        except EbsimError as error:
            self._done.failures.append(f"{self._schedule.name}: {what}: {error}")

    def _snapshots(self) -> list[Snapshot]:
        found = snapshots_of_policy(self._region, self._policy.policy_id)
        return of_schedule(found, self._schedule.name)

    def _take_if_due(self, target: Target, due: datetime) -> None:
        """Steps 1 and 2."""
        policy_id, name = self._policy.policy_id, self._schedule.name
        due_ns = round((due - EPOCH).total_seconds()) * 10**9
        metadata = self._region.metadata
        done_ns = metadata.read(
            lambda reader: done_until(reader, policy_id, target.target_id, name)
        )
        if done_ns >= due_ns or not target.volumes:
            return
        volume_ids = {volume.volume_id for volume in target.volumes}
        taken = [
            one
            for one in self._snapshots()
            if one.volume_id in volume_ids
            and one.start_time_ns >= due_ns
            and one.state is SnapshotState.COMPLETED
        ]
        if not taken:
            self._done.created += [one.snapshot_id for one in self._take(target)]
        metadata.run(lambda txn: note_done(txn, policy_id, target.target_id, name, due_ns))

    def _take(self, target: Target) -> list[Snapshot]:
        schedule, policy_id = self._schedule, self._policy.policy_id
        tags = dict(schedule.tags_to_add)
        values = {
            "$(instance-id)": target.target_id,
            "$(timestamp)": to_iso8601(self._region.clock.now_ns()),
        }
        tags.update({key: values[value] for key, value in schedule.variable_tags.items()})
        options = SnapshotOptions(
            description=f"Created for policy: {policy_id} schedule: {schedule.name}",
            tags=tags,
            copies_volume_tags=schedule.copy_tags,
            system_tags=dlm_tags(policy_id, schedule.name),
        )
        names = [volume.volume_id for volume in target.volumes]
        if target.is_instance or target.volumes[0].is_local:
            return create_snapshot_set(self._region, names, options).snapshots
        return [create_snapshot(self._region, names[0], options)]

    def _follow_up(self) -> None:
        """Step 3, and step 4 of the copies."""
        schedule, taken = self._schedule, self._snapshots()
        rule = schedule.share_rule
        if rule is not None:
            self._trying("sharing", lambda: keep_shared(self._region, taken, rule, self._now))
        fast = schedule.fast_restore_rule
        if fast is not None:
            self._trying("fast restore", lambda: keep_ready(self._region, taken, fast, self._now))
        for copy_rule in schedule.copy_rules:
            self._trying(
                copy_rule.region_name,
                lambda: self._copy(taken, copy_rule),  # noqa: B023 (called at once)
            )

    def _copy(self, taken: Sequence[Snapshot], rule: CopyRule) -> None:
        policy_id, name = self._policy.policy_id, self._schedule.name
        with self._open_region(rule.region_name) as opened:
            other = replace(opened, account_id=self._region.account_id)
            copies = of_schedule(snapshots_of_policy(other, policy_id), name)
            self._done.copied += copy_newest(
                other, self._region, taken, copies, rule=rule, tags=dlm_tags(policy_id, name)
            )
            if rule.age is not None:
                cutoff = rule.age.before(self._now)
                mine = [c for c in copies if c.copied_from.startswith(f"{self._region.name}/")]
                self._delete(other, [c for c in mine if to_datetime(c.start_time_ns) <= cutoff])

    def _retain(self) -> None:
        """Step 4."""
        schedule = self._schedule
        own = [one for one in self._snapshots() if not one.copied_from]
        if schedule.archive_rule is None:
            self._delete(self._region, surplus(own, schedule.retain_rule, self._now))
            return
        in_archive = [one for one in own if one.archive is not None]
        here = [one for one in own if one.archive is None]
        for one in surplus(here, schedule.retain_rule, self._now):
            if one.state is SnapshotState.COMPLETED:
                self._trying(one.snapshot_id, lambda: self._archive(one))  # noqa: B023 (called at once)
            else:
                self._delete(self._region, [one])
        old = surplus(in_archive, schedule.archive_rule, self._now, archived)
        self._delete(self._region, old)

    def _archive(self, snapshot: Snapshot) -> None:
        archive_snapshot(self._region, snapshot.snapshot_id)
        self._done.archived.append(snapshot.snapshot_id)

    def _delete(self, region: Region, surplus: Sequence[Snapshot]) -> None:
        now_ns = region.clock.now_ns()
        for one in surplus:
            if one.lock is not None and one.lock.forbids_deletion_at(now_ns):
                self._done.locked.append(one.snapshot_id)
                continue
            self._trying(
                one.snapshot_id,
                lambda: self._delete_one(region, one),  # noqa: B023 (called at once)
            )

    def _delete_one(self, region: Region, snapshot: Snapshot) -> None:
        delete_snapshots(region, [snapshot.snapshot_id])
        self._done.deleted.append(snapshot.snapshot_id)
