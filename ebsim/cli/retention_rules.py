"""``recycle-bin rule``: create, ls, update, rm, lock and unlock."""

from collections.abc import Sequence

import click

from ebsim.catalog.retention_rule import ResourceType, RetentionRule
from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import TagType
from ebsim.cli.output import Column, print_json, print_table
from ebsim.cli.settings import Settings
from ebsim.clock import to_iso8601
from ebsim.engine.retention_rules import (
    RuleChange,
    RuleRequest,
    create_rule,
    delete_rule,
    list_rules,
    lock_rule,
    unlock_rule,
    update_rule,
)

_TYPES = {"snapshot": ResourceType.SNAPSHOT, "volume": ResourceType.VOLUME}
_COLUMNS = (
    Column("rule"),
    Column("keeps"),
    Column("days", is_number=True),
    Column("lock"),
    Column("tags"),
    Column("but not"),
    Column("description"),
)

Pairs = tuple[tuple[str, str], ...]


@click.command()
@click.option(
    "--of", "kind", type=click.Choice([*_TYPES]), default="snapshot", show_default=True,
    help="What to keep.",
)  # fmt: skip
@click.option(
    "--days", type=int, required=True, metavar="DAYS",
    help="For how long: 1 to 365, volumes 1 to 7.",
)  # fmt: skip
@click.option("--tag", "tags", type=TagType(), multiple=True, help="Only what has this tag.")
@click.option(
    "--exclude", "excluded", type=TagType(), multiple=True, help="Not what has this tag."
)
@click.option("--description", default="", metavar="TEXT", help="What the rule is for.")
@click.option(
    "--unlock-delay", type=int, metavar="DAYS",
    help="Lock the rule: an unlock takes 7 to 30 days then.",
)  # fmt: skip
@click.pass_obj
def create(
    settings: Settings,
    *,
    kind: str,
    days: int,
    tags: Pairs,
    excluded: Pairs,
    description: str,
    unlock_delay: int | None,
) -> None:
    """Keep what is deleted from now on for DAYS days.

    With --tag, what has any of those tags; otherwise everything.  Of several rules that
    match, the longest time counts.

    \b
    Example:
        ebsim recycle-bin rule create --days 14 --tag keep=yes
    """
    request = RuleRequest(
        _TYPES[kind],
        days,
        description=description,
        resource_tags=tags,
        exclude_tags=excluded,
        unlock_delay_days=unlock_delay,
    )
    with opened_region(settings, create=True) as region:
        _report(settings, create_rule(region, request), region.clock.now_ns())


@click.command()
@click.pass_obj
def ls(settings: Settings) -> None:
    """List the rules.

    \b
    Example:
        ebsim recycle-bin rule ls
    """
    with opened_region(settings) as region:
        rules, now_ns = list_rules(region), region.clock.now_ns()
    if settings.wants_json:
        print_json({"Rules": [_document(rule, now_ns) for rule in rules]})
    else:
        print_table(_COLUMNS, [_row(rule, now_ns) for rule in rules])


@click.command()
@click.argument("rule_id", metavar="RULE")
@click.option("--days", type=int, metavar="DAYS", help="For how long.")
@click.option("--tag", "tags", type=TagType(), multiple=True, help="Only what has this tag.")
@click.option(
    "--exclude", "excluded", type=TagType(), multiple=True, help="Not what has this tag."
)
@click.option("--description", metavar="TEXT", help="What the rule is for.")
@click.pass_obj
def update(
    settings: Settings,
    *,
    rule_id: str,
    days: int | None,
    tags: Pairs,
    excluded: Pairs,
    description: str | None,
) -> None:
    """Change the rule RULE, for what is deleted from now on.

    \b
    Example:
        ebsim recycle-bin rule update a1B2c3D4e5F --days 30
    """
    change = RuleChange(
        retention_days=days,
        description=description,
        resource_tags=tags or None,
        exclude_tags=excluded or None,
    )
    with opened_region(settings) as region:
        _report(settings, update_rule(region, rule_id, change), region.clock.now_ns())


@click.command()
@click.argument("rule_id", metavar="RULE")
@click.pass_obj
def rm(settings: Settings, *, rule_id: str) -> None:
    """Remove the rule RULE; what is in the bin stays until its time.

    \b
    Example:
        ebsim recycle-bin rule rm a1B2c3D4e5F
    """
    with opened_region(settings) as region:
        delete_rule(region, rule_id)
    if settings.wants_json:
        print_json({"Identifier": rule_id})
    else:
        click.echo(rule_id)


@click.command()
@click.argument("rule_id", metavar="RULE")
@click.option(
    "--unlock-delay", type=int, required=True, metavar="DAYS", help="An unlock takes 7 to 30 days."
)
@click.pass_obj
def lock(settings: Settings, *, rule_id: str, unlock_delay: int) -> None:
    """Let nobody change or remove the rule RULE.

    \b
    Example:
        ebsim recycle-bin rule lock a1B2c3D4e5F --unlock-delay 7
    """
    with opened_region(settings) as region:
        _report(settings, lock_rule(region, rule_id, unlock_delay), region.clock.now_ns())


@click.command()
@click.argument("rule_id", metavar="RULE")
@click.pass_obj
def unlock(settings: Settings, *, rule_id: str) -> None:
    """Have the rule RULE unlocked when its delay is over.

    \b
    Example:
        ebsim recycle-bin rule unlock a1B2c3D4e5F
    """
    with opened_region(settings) as region:
        _report(settings, unlock_rule(region, rule_id), region.clock.now_ns())


def _report(settings: Settings, rule: RetentionRule, now_ns: int) -> None:
    if settings.wants_json:
        print_json(_document(rule, now_ns))
    else:
        click.echo(rule.rule_id)


def _row(rule: RetentionRule, now_ns: int) -> list[str]:
    return [
        rule.rule_id,
        rule.resource_type.value,
        str(rule.retention_days),
        rule.lock_state_at(now_ns).value,
        _text(rule.resource_tags),
        _text(rule.exclude_tags),
        rule.description,
    ]


def _text(pairs: Sequence[tuple[str, str]]) -> str:
    return ",".join(f"{key}={value}" for key, value in pairs)


def _document(rule: RetentionRule, now_ns: int) -> dict[str, object]:
    """As GetRule has it."""
    document: dict[str, object] = {
        "Identifier": rule.rule_id,
        "Description": rule.description,
        "ResourceType": rule.resource_type.value,
        "RetentionPeriod": {
            "RetentionPeriodValue": rule.retention_days,
            "RetentionPeriodUnit": "DAYS",
        },
        "ResourceTags": _tag_documents(rule.resource_tags),
        "ExcludeResourceTags": _tag_documents(rule.exclude_tags),
        "Status": "available",
        "LockState": rule.lock_state_at(now_ns).value,
    }
    if rule.unlock_delay_days is not None:
        document["LockConfiguration"] = {
            "UnlockDelay": {
                "UnlockDelayValue": rule.unlock_delay_days,
                "UnlockDelayUnit": "DAYS",
            }
        }
    if rule.lock_end_time_ns is not None:
        document["LockEndTime"] = to_iso8601(rule.lock_end_time_ns)
    return document


def _tag_documents(pairs: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"ResourceTagKey": key, "ResourceTagValue": value} for key, value in pairs]
