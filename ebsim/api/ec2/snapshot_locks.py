"""Locking snapshots, and finding those that are."""

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.ec2 import ids
from ebsim.api.ec2.shapes import filters_in, page_size, refuse_ids_with_page
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.snapshot_filter import fits_pattern
from ebsim.catalog.snapshot_lock import LockMode, LockState
from ebsim.clock import to_datetime
from ebsim.engine.list_snapshots import show_snapshot
from ebsim.engine.lock_snapshot import (
    LockRequest,
    list_locked_snapshots,
    lock_snapshot,
    unlock_snapshot,
)


def lock(call: Call, params: Params) -> Answer:
    """Lock a snapshot, or change its lock."""
    name = ids.snapshot_id(params["SnapshotId"])
    duration, date = params.get("LockDuration"), params.get("ExpirationDate")
    if (duration is None) == (date is None):
        raise ApiError(
            "InvalidParameterCombination",
            "Either LockDuration or ExpirationDate must be specified, and not both.",
        )
    mode = LockMode(params["LockMode"])
    if mode is LockMode.GOVERNANCE and "CoolOffPeriod" in params:
        raise ApiError(
            "InvalidParameterCombination",
            "CoolOffPeriod cannot be specified when LockMode is governance.",
        )
    request = LockRequest(
        mode,
        duration_days=duration,
        expires_time_ns=None if date is None else round(date.timestamp() * 1000) * 10**6,
        cool_off_hours=params.get("CoolOffPeriod"),
    )
    region = call.region
    return _lock_row(lock_snapshot(region, name, request), region.clock.now_ns())


def _lock_row(snapshot: Snapshot, now_ns: int) -> Answer:
    lock = snapshot.lock
    assert lock is not None, "it was locked, or listed as such"
    times = {
        "CoolOffPeriodExpiresOn": lock.cool_off_expires_time_ns,
        "LockCreatedOn": lock.created_time_ns,
        "LockExpiresOn": lock.expires_time_ns,
        "LockDurationStartTime": lock.start_time_ns,
    }
    return {
        "SnapshotId": snapshot.snapshot_id,
        "LockState": lock.state_at(now_ns).value,
        "LockDuration": lock.duration_days,
        "CoolOffPeriod": lock.cool_off_hours,
        **{name: None if time is None else to_datetime(time) for name, time in times.items()},
    }


def unlock(call: Call, params: Params) -> Answer:
    """Take the lock off a snapshot."""
    name = ids.snapshot_id(params["SnapshotId"])
    return {"SnapshotId": unlock_snapshot(call.region, name).snapshot_id}


def describe(call: Call, params: Params) -> Answer:
    """The locks of the account's snapshots that are named, or all, a page at a time."""
    refuse_ids_with_page(params, "SnapshotIds")
    states = _states(params)
    region = call.region
    now_ns = region.clock.now_ns()
    if params.get("SnapshotIds"):
        named = dict.fromkeys(ids.snapshot_id(text) for text in params["SnapshotIds"])
        found = [show_snapshot(region, name) for name in named]
        snapshots = [
            one
            for one in found
            if one.owner_id == call.account_id
            and one.lock is not None
            and one.lock.state_at(now_ns) in states
        ]
        token = None
    else:
        page = list_locked_snapshots(
            region,
            states=states,
            max_results=page_size(params),
            next_token=params.get("NextToken"),
        )
        snapshots, token = list(page.snapshots), page.next_token
    rows = [{**_lock_row(one, now_ns), "OwnerId": one.owner_id} for one in snapshots]
    return {"Snapshots": rows, "NextToken": token}


def _states(params: Params) -> set[LockState]:
    """The states that the filters let through."""
    states = set(LockState)
    for one in filters_in(params):
        if one.name != "lock-state":
            raise ApiError("InvalidParameterValue", f"The filter '{one.name}' is invalid")
        states = {
            state for state in states if any(fits_pattern(text, state) for text in one.values)
        }
    return states


ACTIONS = (
    action(
        "LockSnapshot",
        lock,
        "SnapshotId",
        "LockMode",
        "LockDuration",
        "ExpirationDate",
        "CoolOffPeriod",
    ),
    action("UnlockSnapshot", unlock, "SnapshotId"),
    action(
        "DescribeLockedSnapshots", describe, "SnapshotIds", "Filters", "MaxResults", "NextToken"
    ),
)
