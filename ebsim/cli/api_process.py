"""The process that serves the AWS APIs: what it is made of, and how it ends."""

import os
import resource
import signal
import sys
import threading
from pathlib import Path
from random import SystemRandom
from types import FrameType

import click

from ebsim.api.chaos import Chaos, read_chaos
from ebsim.api.chores import Chores
from ebsim.api.dispatch import Desk
from ebsim.api.identity import Auth
from ebsim.api.metrics import Metrics
from ebsim.api.regions import Regions
from ebsim.api.server import CONNECTIONS_MAX, Server, Tls, listening_socket, make_server
from ebsim.api.throttle import Throttle
from ebsim.api.upkeep import delivering, scheduling
from ebsim.api.work import Work
from ebsim.cli.kept_volumes import KeptVolumes
from ebsim.cli.messages import say
from ebsim.cli.served_api import Address, Emulation
from ebsim.cli.settings import Settings
from ebsim.clock import SystemClock
from ebsim.durable_files import Files
from ebsim.engine.access_keys import AccessKeys
from ebsim.engine.driven_clock import DrivenClock
from ebsim.engine.home import prepare_home
from ebsim.engine.served_home import serving_home
from ebsim.engine.sink_turns import SinkTurns


def run_server(
    settings: Settings,
    address: Address,
    *,
    auth: str,
    tls: tuple[Path, Path] | None,
    emulation: Emulation,
    import_folder: Path | None = None,
) -> None:
    """Serve at *address* until a signal ends it; *tls* is a certificate and its key."""
    files, clock, random = Files(), SystemClock(), SystemRandom()
    rules = read_chaos(emulation.chaos_file.read_bytes()) if emulation.chaos_file else None
    prepare_home(settings.home, files, create=True)
    regions = Regions(
        settings.home,
        files,
        # Signatures go by the machine's clock all the same: so do clients.
        DrivenClock(emulation.clock_file, clock) if emulation.clock_file else clock,
        random,
        tell_bug=say,
        listing_lag_seconds=emulation.listing_lag_seconds,
    )
    work = Work(say, lag_seconds=rules.pending_seconds if rules is not None else 0)
    volumes = KeptVolumes(regions, say)
    turns = SinkTurns(say)
    ended = threading.Event()
    threads = [
        Chores(regions, say, ended=ended),
        Chores(regions, say, [delivering(turns)], ended=ended),
        Chores(regions, say, [scheduling(regions, say)], ended=ended),
    ]
    desk = Desk(
        regions=regions,
        work=work,
        find_key=AccessKeys(settings.home, files, clock, random).find_key,
        auth=Auth(auth),
        clock=clock,
        random=random,
        metrics=Metrics(),
        default_region=settings.region_name,
        default_account=settings.account_id,
        tell_bug=say,
        throttle=Throttle(clock, emulation.throttle_factor) if emulation.throttle_factor else None,
        import_folder=import_folder,
        chaos=Chaos(rules, clock) if rules is not None else None,
        keeper=volumes.look_after,
    )
    server = make_server(
        desk, Tls(*tls) if tls is not None else None, connections_max=_connections_max()
    )
    with listening_socket(address.host, address.port) as listening:
        url = _url(address.host, listening.getsockname()[1], is_encrypted=tls is not None)
        with serving_home(files, settings.home, url):
            _end_on_signals(server)
            for thread in threads:
                thread.start()
            try:
                regions.go_on()
                volumes.start()
                click.echo(url)
                sys.stdout.flush()
                server.run(sockets=[listening])
            finally:
                for thread in threads:
                    thread.stop()
                turns.close()
                work.close()
                volumes.stop()
                regions.close()


def _url(host: str, port: int, *, is_encrypted: bool) -> str:
    scheme = "https" if is_encrypted else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _connections_max() -> int:
    """How many connections there may be: a part of the files that this process may open.

    That limit is raised as far as it may be; the store and its volumes need the rest.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    files_max = CONNECTIONS_MAX * 2 if hard == resource.RLIM_INFINITY else hard
    return min(files_max * 3 // 4, CONNECTIONS_MAX)


def _end_on_signals(server: Server) -> None:
    """Let the first signal end the serving when all is done, and a second one at once.

    What is cut off then is what a kill would cut off: recovery clears it up.
    """

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        if server.should_exit:
            os._exit(128 + number)
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
