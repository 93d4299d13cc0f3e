"""``lifecycle create``, ``enable``, ``disable`` and ``rm``."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from ebsim.catalog.lifecycle_policy import PolicyState
from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import TagType, tags_by_key
from ebsim.cli.output import print_json
from ebsim.cli.settings import Settings
from ebsim.engine.lifecycle_policies import (
    PolicyOptions,
    change_policy,
    create_policy,
    delete_policy,
)

_UNITS = {"d": "DAYS", "w": "WEEKS", "m": "MONTHS", "y": "YEARS"}


class AgeType(click.ParamType[tuple[int, str]]):
    """``30d``, ``8w``, ``6m`` or ``1y``: a number and Amazon's name of its unit."""

    name = "AGE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, str]:
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([0-9]{1,5})([dwmy])", str(value))
        if found is None:
            self.fail(f"'{value}' is not an age. Write 30d, 8w, 6m or 1y.", param, ctx)
        return int(found[1]), _UNITS[found[2]]


class _Followed(NamedTuple):
    """A region or account, and until which age of a snapshot."""

    name: str
    age: tuple[int, str] | None


class FollowedType(click.ParamType[_Followed]):
    """``NAME`` or ``NAME=AGE``."""

    name = "NAME[=AGE]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> _Followed:
        if isinstance(value, _Followed):
            return value
        name, equals, age = str(value).partition("=")
        return _Followed(name, AgeType().convert(age, param, ctx) if equals else None)


@click.command()
@click.argument(
    "file", type=click.Path(path_type=Path, dir_okay=False, exists=True), required=False
)
@click.option(
    "--target-tag",
    "target_tags",
    type=TagType(),
    multiple=True,
    help="Snapshot what has this tag; may be repeated: any of them.",
)
@click.option(
    "--instances",
    is_flag=True,
    help="Snapshot all volumes of an instance at once; its one tag is Name=NAME.",
)
@click.option("--exclude-boot-volume", is_flag=True, help="With --instances: leave it out.")
@click.option(
    "--every",
    "interval",
    type=int,
    metavar="HOURS",
    help="Take one every 1, 2, 3, 4, 6, 8, 12 or 24 hours.  [default: 24]",
)
@click.option("--at", metavar="HH:MM", help="When that begins, in UTC.  [default: 09:00]")
@click.option(
    "--cron", metavar="EXPRESSION", help="Take one when Amazon's cron(...) says so, instead."
)
@click.option("--keep", type=int, metavar="N", help="Keep the newest N of each volume.")
@click.option("--keep-for", type=AgeType(), help="Keep them for so long: 30d, 8w, 6m, 1y.")
@click.option(
    "--archive-for",
    type=AgeType(),
    help="Archive what is not kept, for so long, instead of deleting it.",
)
@click.option(
    "--tag",
    "tags",
    type=TagType(),
    multiple=True,
    callback=tags_by_key,
    help="A tag for the snapshots; may be repeated.",
)
@click.option("--copy-tags", is_flag=True, help="Give the snapshots their volume's tags as well.")
@click.option(
    "--copy-to",
    "copies",
    type=FollowedType(),
    multiple=True,
    metavar="REGION[=AGE]",
    help="Copy each to REGION, and keep it there for AGE; may be repeated.",
)
@click.option(
    "--share-with",
    "shares",
    type=FollowedType(),
    multiple=True,
    metavar="ACCOUNT[=AGE]",
    help="Let ACCOUNT use each, for AGE; may be repeated with one AGE.",
)
@click.option("--name", default="schedule", show_default=True, help="The schedule's name.")
@click.option("--description", default="", help="The policy's description.")
@click.option("--disabled", is_flag=True, help="Make it, and let it do nothing yet.")
@click.pass_obj
def create(
    settings: Settings,
    /,
    *,
    file: Path | None,
    description: str,
    disabled: bool,
    **schedule: Any,
) -> None:
    """Make a policy: what is snapshotted when, and kept.

    'ebsim serve' does what is due, or 'ebsim lifecycle run'.  FILE is PolicyDetails in JSON, as
    the AWS command line takes them, with up to four schedules.

    \b
    Examples:
        ebsim lifecycle create --target-tag backup=daily --at 03:00 --keep 7
        ebsim lifecycle create --target-tag Name=db --instances --cron 'cron(0 2 ? * SUN *)' \\
            --keep-for 6m --copy-to eu-west-1=1y
    """
    given = [key for key, value in schedule.items() if value and key != "name"]
    if file is not None and given:
        raise click.UsageError("FILE says all of it. Give no other options of a schedule with it.")
    if file is None:
        document = _document(schedule)
    else:
        try:
            document = json.loads(file.read_bytes())
        except ValueError as error:
            raise click.UsageError(f"{file} is not JSON: {error}") from error
    state = PolicyState.DISABLED if disabled else PolicyState.ENABLED
    options = PolicyOptions(document=document, description=description, state=state)
    with opened_region(settings, create=True) as region:
        policy = create_policy(region, options)
    _print_ids(settings, [policy.policy_id])


def _document(options: Mapping[str, Any]) -> dict[str, Any]:
    """``PolicyDetails`` of what the options say."""
    if (options["keep"] is None) is (options["keep_for"] is None):
        raise click.UsageError("Give either --keep or --keep-for.")
    if options["cron"] is not None and (options["interval"], options["at"]) != (None, None):
        raise click.UsageError("--cron says it all: give no --every and no --at with it.")
    schedule: dict[str, Any] = {
        "Name": options["name"],
        "CreateRule": (
            {"CronExpression": options["cron"]}
            if options["cron"] is not None
            else {
                "Interval": options["interval"] if options["interval"] is not None else 24,
                "IntervalUnit": "HOURS",
                "Times": [options["at"] or "09:00"],
            }
        ),
        "RetainRule": (
            {"Count": options["keep"]}
            if options["keep"] is not None
            else _age(options["keep_for"])
        ),
        "CopyTags": options["copy_tags"],
        "TagsToAdd": _tag_list(list(options["tags"].items())),
        "CrossRegionCopyRules": [
            {
                "TargetRegion": region_name,
                "Encrypted": False,
                "CopyTags": options["copy_tags"],
                **({"RetainRule": _age(age)} if age is not None else {}),
            }
            for region_name, age in options["copies"]
        ],
    }
    if options["archive_for"] is not None:
        tier = {"RetentionArchiveTier": _age(options["archive_for"])}
        schedule["ArchiveRule"] = {"RetainRule": tier}
    if options["shares"]:
        schedule["ShareRules"] = [_share_rule(options["shares"])]
    details: dict[str, Any] = {
        "PolicyType": "EBS_SNAPSHOT_MANAGEMENT",
        "ResourceTypes": ["INSTANCE" if options["instances"] else "VOLUME"],
        "TargetTags": _tag_list(options["target_tags"]),
        "Schedules": [schedule],
    }
    if options["exclude_boot_volume"]:
        details["Parameters"] = {"ExcludeBootVolume": True}
    return details


def _share_rule(shares: Sequence[_Followed]) -> dict[str, Any]:
    ages = {share.age for share in shares}
    if len(ages) > 1:
        raise click.UsageError("--share-with has one AGE for all accounts.")
    rule: dict[str, Any] = {"TargetAccounts": [share.name for share in shares]}
    (age,) = ages
    if age is not None:
        rule |= {"UnshareInterval": age[0], "UnshareIntervalUnit": age[1]}
    return rule


def _age(age: tuple[int, str]) -> dict[str, Any]:
    return {"Interval": age[0], "IntervalUnit": age[1]}


def _tag_list(tags: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags]


def _print_ids(settings: Settings, policy_ids: Sequence[str]) -> None:
    if settings.wants_json:
        print_json({"Policies": [{"PolicyId": policy_id} for policy_id in policy_ids]})
    else:
        click.echo("\n".join(policy_ids))


@click.command()
@click.argument("policy_ids", nargs=-1, required=True, metavar="POLICY...")
@click.pass_obj
def enable(settings: Settings, *, policy_ids: tuple[str, ...]) -> None:
    """Let policies do what is due from now on.

    \b
    Example:
        ebsim lifecycle enable policy-0a1b2c
    """
    _set_state(settings, policy_ids, PolicyState.ENABLED)


@click.command()
@click.argument("policy_ids", nargs=-1, required=True, metavar="POLICY...")
@click.pass_obj
def disable(settings: Settings, *, policy_ids: tuple[str, ...]) -> None:
    """Let policies do nothing until they are enabled.

    Nothing is deleted either.

    \b
    Example:
        ebsim lifecycle disable policy-0a1b2c
    """
    _set_state(settings, policy_ids, PolicyState.DISABLED)


def _set_state(settings: Settings, names: Sequence[str], state: PolicyState) -> None:
    with opened_region(settings) as region:
        changed = [change_policy(region, name, state=state).policy_id for name in names]
    _print_ids(settings, changed)


@click.command()
@click.argument("policy_ids", nargs=-1, required=True, metavar="POLICY...")
@click.pass_obj
def rm(settings: Settings, *, policy_ids: tuple[str, ...]) -> None:
    """Remove policies; their snapshots stay.

    \b
    Example:
        ebsim lifecycle rm policy-0a1b2c
    """
    with opened_region(settings) as region:
        gone = [delete_policy(region, name).policy_id for name in policy_ids]
    _print_ids(settings, gone)
