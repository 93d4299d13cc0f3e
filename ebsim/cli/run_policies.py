"""``lifecycle run``, ``ls`` and ``show``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import click

from ebsim.catalog.lifecycle_policy import LifecyclePolicy
from ebsim.cli.exit_codes import ExitCode
from ebsim.cli.messages import say
from ebsim.cli.opened_region import opened_region
from ebsim.cli.output import Column, print_json, print_table
from ebsim.cli.settings import Settings
from ebsim.clock import SystemClock, to_datetime, to_iso8601
from ebsim.engine.deliver_events import never
from ebsim.engine.lifecycle_policies import get_policy, list_policies
from ebsim.engine.region import Region
from ebsim.engine.run_lifecycle import PolicyRun, next_due, run_policy
from ebsim.waiting import wait_until

POLICY_COLUMNS = (
    Column("policy"),
    Column("state"),
    Column("of"),
    Column("due next"),
    Column("targets"),
    Column("schedules"),
    Column("description"),
)

_ROUND_SECONDS = 20.0


@click.command()
@click.argument("policy_ids", nargs=-1, metavar="[POLICY...]")
@click.option("--now", is_flag=True, help="Do what is due now, and end.")
@click.pass_obj
def run(settings: Settings, *, policy_ids: tuple[str, ...], now: bool) -> None:
    """Do what is due, whenever it is, or now and be done.

    Runs all policies of the account, or those named, until Ctrl-C or SIGTERM.  A due time that
    has passed since the policy was enabled is made good once, however many were missed.  With
    --now, from cron or a timer, say: ends with 4 if something failed.

    \b
    Examples:
        ebsim lifecycle run --now
        ebsim lifecycle run
    """
    with opened_region(settings) as region:
        runs = _run_all(settings, region, policy_ids)
        while not now:
            wait_until(never, _ROUND_SECONDS)
            runs = _run_all(settings, region, policy_ids)
    if settings.wants_json:
        print_json({"Runs": [_run_document(one) for one in runs]})
    if any(one.failures for one in runs):
        raise click.exceptions.Exit(ExitCode.CONFLICT)


def _run_all(settings: Settings, region: Region, names: Sequence[str]) -> list[PolicyRun]:
    @contextmanager
    def open_other(name: str) -> Iterator[Region]:
        if name == region.name:
            yield region
            return
        with opened_region(replace(settings, region_name=name), create=True) as other:
            yield other

    policies = [get_policy(region, name) for name in names] or list_policies(region)
    runs = [run_policy(region, policy, open_other) for policy in policies]
    for one in runs:
        _tell(settings, one)
    return runs


def _tell(settings: Settings, one: PolicyRun) -> None:
    """One line for each snapshot on standard output, failures on standard error."""
    for failure in one.failures:
        say(f"{one.policy_id}: {failure}")
    if settings.wants_json:
        return
    for what, ids in (
        ("created", one.created),
        ("copied", one.copied),
        ("archived", one.archived),
        ("deleted", one.deleted),
    ):
        for snapshot_id in ids:
            click.echo(f"{what}  {snapshot_id}")
    for snapshot_id in one.locked:
        if not settings.is_quiet:
            say(f"{snapshot_id} is locked, and kept")


def _run_document(one: PolicyRun) -> dict[str, object]:
    return {
        "PolicyId": one.policy_id,
        "Created": one.created,
        "Copied": one.copied,
        "Archived": one.archived,
        "Deleted": one.deleted,
        "Locked": one.locked,
        "Failures": one.failures,
    }


@click.command()
@click.pass_obj
def ls(settings: Settings) -> None:
    """List policies, and when each is due next.

    \b
    Example:
        ebsim lifecycle ls
    """
    with opened_region(settings) as region:
        policies = list_policies(region)
    if settings.wants_json:
        print_json({"Policies": [_summary(policy) for policy in policies]})
    else:
        print_table(POLICY_COLUMNS, [_row(policy) for policy in policies])


@click.command()
@click.argument("policy_id", metavar="POLICY")
@click.pass_obj
def show(settings: Settings, *, policy_id: str) -> None:
    """Show everything about one policy.

    Prints JSON in the shape of Data Lifecycle Manager's policies.

    \b
    Example:
        ebsim lifecycle show policy-0a1b2c
    """
    with opened_region(settings) as region:
        policy = get_policy(region, policy_id)
    print_json(
        {
            "Policy": {
                **_summary(policy),
                "DateCreated": to_iso8601(policy.create_time_ns),
                "DateModified": to_iso8601(policy.modify_time_ns),
                "ExecutionRoleArn": policy.role_arn,
                "PolicyDetails": dict(policy.document),
            }
        }
    )


def _summary(policy: LifecyclePolicy) -> dict[str, object]:
    return {
        "PolicyId": policy.policy_id,
        "Description": policy.description,
        "State": policy.state.value,
        "Tags": dict(policy.tags),
        "PolicyType": "EBS_SNAPSHOT_MANAGEMENT",
    }


def _row(policy: LifecyclePolicy) -> list[str]:
    details = policy.details
    due = next_due(policy, to_datetime(SystemClock().now_ns()))
    return [
        policy.policy_id,
        policy.state.value,
        details.target_kind.value,
        f"{due:%Y-%m-%dT%H:%M:%SZ}" if due is not None else "",
        ",".join(f"{key}={value}" for key, value in details.target_tags),
        ",".join(schedule.name for schedule in details.schedules),
        policy.description,
    ]
