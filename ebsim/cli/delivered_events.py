"""``events deliver``: for those who run no server."""

import click

from ebsim.cli.exit_codes import ExitCode
from ebsim.cli.messages import counted, say
from ebsim.cli.opened_region import opened_region
from ebsim.cli.output import print_json
from ebsim.cli.settings import Settings
from ebsim.engine.deliver_events import Delivery, deliver_events, never
from ebsim.waiting import wait_until

_ROUND_SECONDS = 1.0


@click.command()
@click.option("--follow", is_flag=True, help="Go on delivering until Ctrl-C or SIGTERM.")
@click.pass_obj
def deliver(settings: Settings, *, follow: bool) -> None:
    """Send waiting events to every sink; with 'ebsim serve' that is done for you.

    Every sink is tried, those that failed lately too; with --follow those wait their time.
    Says which sinks did not take what waits for them, and ends with 4 if there are any.

    \b
    Examples:
        ebsim events deliver
        ebsim events deliver --follow
    """
    with opened_region(settings) as region:
        delivered = deliver_events(region, at_once=True)
        while follow:
            _tell(settings, delivered)
            wait_until(never, _ROUND_SECONDS)
            delivered = deliver_events(region)
    _tell(settings, delivered)
    if settings.wants_json:
        print_json({"Deliveries": [_document(one) for one in delivered]})
    if any(one.error for one in delivered):
        raise click.exceptions.Exit(ExitCode.CONFLICT)


def _tell(settings: Settings, delivered: list[Delivery]) -> None:
    for one in delivered:
        if one.error and (one.delivered_count or not settings.is_quiet):
            say(f"{one.sink.name}: {one.error}; {counted(one.waiting_count, 'event')} waiting")
        elif one.delivered_count and not settings.is_quiet:
            say(f"{one.sink.name}: {counted(one.delivered_count, 'event')} delivered")


def _document(one: Delivery) -> dict[str, object]:
    return {
        "Name": one.sink.name,
        "DeliveredCount": one.delivered_count,
        "WaitingCount": one.waiting_count,
        "Error": one.error,
    }
