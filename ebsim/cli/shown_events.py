"""``events``: what happened, as EventBridge would tell it."""

import json
import sys
from collections.abc import Iterable, Sequence

import click

from ebsim.catalog.event import Event, event_document
from ebsim.catalog.event_pattern import EventPattern
from ebsim.cli.lazy_commands import LazyCommand, LazyGroup
from ebsim.cli.opened_region import opened_region
from ebsim.cli.option_types import TimeType
from ebsim.cli.output import Column, print_json, print_table
from ebsim.cli.settings import Settings
from ebsim.clock import to_iso8601
from ebsim.engine.list_events import EventFilter, events_after, list_events, newest_event_number
from ebsim.engine.region import Region
from ebsim.waiting import wait_until

EVENT_COMMANDS = {
    "deliver": LazyCommand(
        "ebsim.cli.delivered_events",
        "deliver",
        "Send waiting events to every sink; with 'ebsim serve' that is done for you.",
    ),
    "sink": LazyCommand("ebsim.cli.event_sinks", "sink", "Choose where events are sent."),
}

EVENT_COLUMNS = (
    Column("time"),
    Column("event"),
    Column("result"),
    Column("resource"),
    Column("cause"),
)

_FOLLOW_SECONDS = 3600.0


@click.group(cls=LazyGroup, places=EVENT_COMMANDS, invoke_without_command=True)
@click.option("--follow", is_flag=True, help="Go on with what happens from now on.")
@click.option(
    "--pattern",
    metavar="JSON",
    help="Only events that fit this EventBridge event pattern.",
)
@click.option(
    "--since",
    "since_ns",
    type=TimeType(),
    default=0,
    help="Only events from then on: a time, or an age such as 90m, 12h or 7d.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the newest N.  [default: all; with --follow: none]",
)
@click.pass_context
def events(
    ctx: click.Context, *, follow: bool, pattern: str | None, since_ns: int, limit: int | None
) -> None:
    """Show what happened, as EventBridge tells it, and where that is sent.

    With --output json each event is an object as EventBridge sends it; with --follow as
    well, on a line of its own.

    \b
    Examples:
        ebsim events --since 1d
        ebsim events --follow --pattern '{"detail": {"result": ["failed"]}}'
    """
    if ctx.invoked_subcommand is not None:
        return
    settings = ctx.find_object(Settings)
    assert settings is not None, "every command has settings"
    wanted = EventFilter(EventPattern(pattern) if pattern is not None else None, since_ns)
    with opened_region(settings) as region:
        last = newest_event_number(region)
        shows_old = not follow or limit is not None or since_ns
        old = [event for _, event in list_events(region, wanted, limit=limit)] if shows_old else []
        if not follow:
            _print_all(settings, old)
            return
        _print_lines(settings, old)
        _follow(settings, region, last, wanted)


def _print_all(settings: Settings, found: Sequence[Event]) -> None:
    if settings.wants_json:
        print_json({"Events": [event_document(event) for event in found]})
    else:
        print_table(EVENT_COLUMNS, [event_row(event) for event in found])


def _print_lines(settings: Settings, found: Iterable[Event]) -> None:
    for event in found:
        if settings.wants_json:
            click.echo(json.dumps(event_document(event)))
        else:
            click.echo("  ".join(cell or "-" for cell in event_row(event)))


def _follow(settings: Settings, region: Region, last: int, wanted: EventFilter) -> None:
    """Print events as they happen, until the reader has enough."""

    def is_newer() -> bool:
        return newest_event_number(region) > last

    while True:
        if wait_until(is_newer, _FOLLOW_SECONDS):
            last, found = events_after(region, last, wanted)
            _print_lines(settings, found)
            sys.stdout.flush()


def event_row(event: Event) -> list[str]:
    """*event* under :data:`EVENT_COLUMNS`; an extension's name says that it is one."""
    name = event.detail.get("event") or event.detail_type
    resources = [arn.rpartition("/")[2] for arn in event.resources]
    return [
        to_iso8601(event.time_ns),
        f"{name} (ebsim)" if event.is_extension else name,
        event.detail.get("result") or event.detail.get("state", ""),
        ",".join(resources),
        event.detail.get("cause") or event.detail.get("message", ""),
    ]
