"""``events sink``: where events are sent."""

from pathlib import Path

import click

from ebsim.cli.opened_region import opened_region
from ebsim.cli.output import Column, print_json, print_table
from ebsim.cli.settings import Settings
from ebsim.engine.event_sinks import (
    Sink,
    SinkKind,
    SinkOptions,
    SinkStatus,
    add_sink,
    remove_sink,
    show_sinks,
)

SINK_COLUMNS = (
    Column("sink"),
    Column("kind"),
    Column("of"),
    Column("waiting", is_number=True),
    Column("attempts", is_number=True),
    Column("target"),
    Column("pattern"),
    Column("last error"),
)

_OF_HOME = click.option(
    "--of-home", is_flag=True, help="A sink of all regions of the home, not of one."
)


@click.group()
def sink() -> None:
    """Choose where events are sent."""


@sink.command()
@click.argument("name")
@click.option(
    "--log",
    "log",
    type=click.Path(path_type=Path, dir_okay=False, resolve_path=True),
    metavar="FILE",
    help="Append each event to FILE, a line of JSON.",
)
@click.option("--webhook", metavar="URL", help="Send each event to URL, signed.")
@click.option(
    "--command", metavar="COMMAND", help="Run COMMAND for each event, which it reads from a pipe."
)
@click.option("--pattern", default="", metavar="JSON", help="Only events that fit this pattern.")
@click.option(
    "--from-beginning", is_flag=True, help="Send what is in the log already.  [default: new ones]"
)
@_OF_HOME
@click.pass_obj
def add(
    settings: Settings,
    *,
    name: str,
    log: Path | None,
    webhook: str | None,
    command: str | None,
    pattern: str,
    from_beginning: bool,
    of_home: bool,
) -> None:
    """Send events to a log, a webhook or a command from now on.

    'ebsim serve' delivers them, or 'ebsim events deliver': at least once, and in order; what a
    sink does not take is tried again until it does.  A webhook's secret is printed: requests
    carry X-Ebsim-Signature, the HMAC-SHA256 of X-Ebsim-Timestamp, a dot and the body.

    \b
    Examples:
        ebsim events sink add audit --log /var/log/ebsim.jsonl
        ebsim events sink add failures --webhook https://example.com/hook \\
            --pattern '{"detail": {"result": ["failed"]}}'
    """
    targets = {
        SinkKind.LOG: str(log) if log is not None else None,
        SinkKind.WEBHOOK: webhook,
        SinkKind.COMMAND: command,
    }
    given = [(kind, target) for kind, target in targets.items() if target is not None]
    if len(given) != 1:
        raise click.UsageError("Give one of --log, --webhook and --command.")
    ((kind, target),) = given
    options = SinkOptions(
        kind=kind,
        target=target,
        pattern=pattern,
        is_of_home=of_home,
        from_beginning=from_beginning,
    )
    with opened_region(settings, create=True) as region:
        made = add_sink(region, name, options)
    if settings.wants_json:
        secret = {"Secret": made.secret} if made.secret else {}
        print_json({**_document(made), **secret})
    else:
        click.echo(made.secret or made.name)


@sink.command()
@click.pass_obj
def ls(settings: Settings) -> None:
    """List sinks, and how many events wait for each.

    \b
    Example:
        ebsim events sink ls
    """
    with opened_region(settings) as region:
        found = show_sinks(region)
    if settings.wants_json:
        print_json({"Sinks": [_status_document(status) for status in found]})
    else:
        print_table(SINK_COLUMNS, [_row(settings, status) for status in found])


@sink.command()
@click.argument("name")
@_OF_HOME
@click.pass_obj
def rm(settings: Settings, *, name: str, of_home: bool) -> None:
    """Send nothing to a sink any more.

    \b
    Example:
        ebsim events sink rm audit
    """
    with opened_region(settings) as region:
        gone = remove_sink(region, name, is_of_home=of_home)
    if settings.wants_json:
        print_json(_document(gone))
    else:
        click.echo(gone.name)


def _document(sink: Sink) -> dict[str, object]:
    return {
        "Name": sink.name,
        "Kind": sink.kind.value,
        "Target": sink.target,
        "Pattern": sink.pattern,
        "IsOfHome": sink.is_of_home,
    }


def _status_document(status: SinkStatus) -> dict[str, object]:
    return {
        **_document(status.sink),
        "WaitingCount": status.waiting_count,
        "AttemptCount": status.cursor.attempt_count,
        "LastError": status.cursor.last_error,
    }


def _row(settings: Settings, status: SinkStatus) -> list[str]:
    sink, cursor = status.sink, status.cursor
    return [
        sink.name,
        sink.kind.value,
        "home" if sink.is_of_home else settings.region_name,
        str(status.waiting_count),
        str(cursor.attempt_count),
        sink.target,
        sink.pattern,
        cursor.last_error,
    ]
