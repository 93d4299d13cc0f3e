"""``volume attach``, ``detach``, ``initialize``, ``pause``, ``resume``."""

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import click

from ebsim.cli.messages import say
from ebsim.cli.opened_region import opened_region
from ebsim.cli.output import print_json
from ebsim.cli.serving import (
    Address,
    Places,
    check_places,
    listening_options,
    served_over_nbd,
    start_in_background,
    until_asked_to_end,
)
from ebsim.cli.settings import Settings
from ebsim.engine.instances import attach_to_instance
from ebsim.engine.open_volume import (
    INITIALIZE,
    OpenedVolume,
    let_initializer_go,
    local_volume,
    open_volume,
)
from ebsim.engine.region import Region
from ebsim.engine.served_volume import (
    ask_to_load,
    detach_volume,
    pause_loading,
    resume_loading,
    wait_until_loaded,
)
from ebsim.errors import Conflict
from ebsim.units import MIB, format_size

_POLL_SECONDS = 0.1

rate_option = click.option(
    "--initialization-rate",
    "rate",
    type=click.IntRange(min=1),
    metavar="MIB_PER_S",
    help="Load no more than this in the background.  [default: what it was made with, or as fast "
    "as it goes]",
)


@click.command()
@click.argument("name", metavar="VOL")
@click.option("--instance", metavar="I-ID", help="Give the volume a place in this instance.")
@click.option(
    "--device", metavar="NAME", help="With --instance: what it knows it by, such as /dev/sdf."
)
@listening_options
@rate_option
@click.pass_obj
def attach(
    settings: Settings,
    *,
    name: str,
    instance: str | None,
    device: str | None,
    socket: Path | None,
    listen: Address | None,
    tls_folder: Path | None,
    detach_process: bool,
    rate: int | None,
) -> None:
    """Serve the volume VOL over NBD until it is detached; print its URI first.

    Blocks that are not here yet come from the store when they are read, and in the
    background, so the disk can be used at once.  In an instance the volume attached first
    is the boot volume; a volume keeps its place until it is detached.

    \b
    Examples:
        ebsim volume attach vol-0a1b2c3d4e5f60718
        ebsim volume attach vol-0a1b --instance web --device /dev/sdf --detach-process
        ebsim volume attach vol-0a1b --listen 127.0.0.1:10809 --initialization-rate 100
    """
    places = Places(socket, listen, tls_folder)
    check_places(places)
    if (instance is None) != (device is None):
        raise click.UsageError("--instance and --device go together.")
    if detach_process:
        with opened_region(settings) as region:
            volume_id = local_volume(region, name).volume_id
        arguments = ["volume", "attach", volume_id, *places.arguments]
        if instance is not None and device is not None:
            arguments += ["--instance", instance, "--device", device]
        if rate is not None:
            arguments += ["--initialization-rate", str(rate)]
        click.echo(start_in_background(settings, arguments, volume_id))
        return
    with opened_region(settings) as region:
        volume = local_volume(region, name)
        let_initializer_go(region, volume.volume_id)
        bytes_per_second = rate * MIB if rate else None
        with (
            open_volume(
                region, volume.volume_id, "attach", hydrates=True, rate=bytes_per_second
            ) as opened,
            until_asked_to_end(opened.asked_to_stop) as ended,
        ):
            if instance is not None and device is not None:
                attach_to_instance(region, volume.volume_id, instance, device)
            with served_over_nbd(opened, places) as uri:
                click.echo(uri)
                ended.wait()


@click.command()
@click.argument("name", metavar="VOL")
@click.pass_obj
def detach(settings: Settings, *, name: str) -> None:
    """Let the process that serves VOL finish, flush and end; give up its place in an instance.

    \b
    Example:
        ebsim volume detach vol-0a1b2c3d4e5f60718
    """
    with opened_region(settings) as region:
        detach_volume(region, name)


@click.command()
@click.argument("name", metavar="VOL")
@click.option("--wait", "waits", is_flag=True, help="Return when all of it is here.")
@rate_option
@click.pass_obj
def initialize(settings: Settings, *, name: str, waits: bool, rate: int | None) -> None:
    """Load what is not here yet of the volume VOL.

    A volume that is attached is loaded by the process that serves it; another one by a
    process of its own, which lets go when somebody attaches the volume.

    \b
    Example:
        ebsim volume initialize vol-0a1b2c3d4e5f60718 --wait
    """
    with opened_region(settings) as region:
        volume = local_volume(region, name)
        if ask_to_load(region, volume.volume_id, rate):
            if waits:
                wait_until_loaded(region, volume.volume_id)
            return
        if not waits:
            arguments = ["volume", "initialize", volume.volume_id, "--wait"]
            if rate is not None:
                arguments += ["--initialization-rate", str(rate)]
            start_in_background(settings, arguments, f"{volume.volume_id}-load")
            return
        bytes_per_second = rate * MIB if rate else None
        with (
            open_volume(
                region, volume.volume_id, INITIALIZE, hydrates=True, rate=bytes_per_second
            ) as opened,
            until_asked_to_end(opened.asked_to_stop) as ended,
        ):
            click.echo(volume.volume_id)
            _watch(settings, opened, ended)


def _watch(settings: Settings, opened: OpenedVolume, ended: Event) -> None:
    """Show how loading goes on here, until it is done or ended."""
    hydrator = opened.hydrator
    if hydrator is None:
        return
    loaded = 0
    with settings.watching() as progress:
        left = opened.volume.origin_block_count * opened.device.block_size
        progress.begin("initialize", left)
        while not ended.is_set() and not hydrator.wait(_POLL_SECONDS):
            now = hydrator.progress().loaded_bytes
            progress.advance(now - loaded)
            loaded = now
        progress.end()
    state = hydrator.progress()
    if opened.device.origin is not None:
        why = state.failure or "somebody else wants the volume."
        raise Conflict(f"{opened.volume.volume_id} is not loaded: {why} What came stays here.")
    if not settings.is_quiet:
        say(f"{opened.volume.volume_id}: {format_size(state.loaded_bytes)} loaded")


@click.command()
@click.argument("name", metavar="VOL")
@click.pass_obj
def pause(settings: Settings, *, name: str) -> None:
    """Load nothing more in the background; what is read still comes.

    \b
    Example:
        ebsim volume pause vol-0a1b2c3d4e5f60718
    """
    _tell(settings, name, pause_loading)


@click.command()
@click.argument("name", metavar="VOL")
@click.pass_obj
def resume(settings: Settings, *, name: str) -> None:
    """Go on loading in the background.

    \b
    Example:
        ebsim volume resume vol-0a1b2c3d4e5f60718
    """
    _tell(settings, name, resume_loading)


def _tell(settings: Settings, name: str, ask: Callable[[Region, str], dict[str, Any]]) -> None:
    with opened_region(settings) as region:
        status = ask(region, name)
    if settings.wants_json:
        print_json({"Hydration": status["hydration"], "Percent": status["hydration_percent"]})
