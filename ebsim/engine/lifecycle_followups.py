"""What a schedule does with a snapshot that it took: copy it, share it, keep it ready."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from ebsim.catalog.fast_restore import FastRestoreState
from ebsim.catalog.policy_details import CopyRule, FastRestoreRule, ShareRule
from ebsim.catalog.snapshot import Snapshot, SnapshotState
from ebsim.clock import to_datetime
from ebsim.engine.copy_snapshot import CopyOptions, copy_snapshot
from ebsim.engine.fast_restore import (
    disable_fast_restore,
    enable_fast_restore,
    list_fast_restores,
)
from ebsim.engine.lifecycle_retention import surplus
from ebsim.engine.region import Region
from ebsim.engine.share_snapshot import Grantees, share_snapshot, unshare_snapshot
from ebsim.engine.tags import RESERVED_PREFIX

_ON = {FastRestoreState.ENABLING, FastRestoreState.OPTIMIZING, FastRestoreState.ENABLED}


def copy_newest(
    region: Region,
    source: Region,
    taken: Sequence[Snapshot],
    copies: Sequence[Snapshot],
    *,
    rule: CopyRule,
    tags: Mapping[str, str],
) -> list[str]:
    """Copy each volume's newest snapshot of *taken* to *region*, unless it is among *copies*.

    One that is older than copies are kept is not copied again.  Returns the new copies' ids.
    """
    now = to_datetime(region.clock.now_ns())
    have = {copy.copied_from for copy in copies}
    newest = {one.volume_id: one for one in taken if one.state is SnapshotState.COMPLETED}
    made: list[str] = []
    for one in newest.values():
        is_old = rule.age is not None and to_datetime(one.start_time_ns) <= rule.age.before(now)
        is_there = f"{source.name}/{one.snapshot_id}" in have
        if is_old or is_there or one.copied_from or one.is_archived:
            continue
        copied_tags = {
            key: value
            for key, value in one.tags.items()
            if rule.copy_tags and not key.startswith(RESERVED_PREFIX)
        }
        options = CopyOptions(description=one.description, tags=copied_tags, system_tags=tags)
        copied = copy_snapshot(region, source, one.snapshot_id, options)
        made.append(copied.snapshot.snapshot_id)
    return made


def keep_shared(region: Region, taken: Sequence[Snapshot], rule: ShareRule, now: datetime) -> None:
    """Share each volume's newest snapshot of *taken*, and stop sharing those that are too old."""
    accounts = set(rule.accounts) - {region.account_id}
    grantees = Grantees(frozenset(accounts))
    whole = [o for o in taken if o.state is SnapshotState.COMPLETED and not o.is_archived]
    newest = {one.volume_id: one.snapshot_id for one in whole}
    for one in whole:
        shared = accounts & set(one.shared_with)
        is_old = rule.age is not None and to_datetime(one.start_time_ns) <= rule.age.before(now)
        if is_old:
            if shared:
                unshare_snapshot(region, one.snapshot_id, grantees)
        elif newest[one.volume_id] == one.snapshot_id and shared != accounts:
            share_snapshot(region, one.snapshot_id, grantees)


def keep_ready(
    region: Region, taken: Sequence[Snapshot], rule: FastRestoreRule, now: datetime
) -> None:
    """Have fast restore of the snapshots of *taken* that *rule* says, and of no others of them."""
    whole = [o for o in taken if o.state is SnapshotState.COMPLETED and not o.is_archived]
    not_wanted = {one.snapshot_id for one in surplus(whole, rule.keep, now)}
    wanted = {
        (one.snapshot_id, zone)
        for one in whole
        for zone in rule.zones
        if one.snapshot_id not in not_wanted
    }
    ours = {one.snapshot_id for one in taken}
    on = {
        (one.snapshot_id, one.zone)
        for one in list_fast_restores(region)
        if one.state in _ON and one.snapshot_id in ours
    }
    for snapshot_id, zone in sorted(on - wanted):
        disable_fast_restore(region, snapshot_id, zone)
    for snapshot_id, zone in sorted(wanted - on):
        enable_fast_restore(region, snapshot_id, zone)
