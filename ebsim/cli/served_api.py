"""``ebsim serve``: the AWS APIs over HTTP, until a signal ends it."""

import ipaddress
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import click

from ebsim.cli.settings import Settings
from ebsim.errors import MissingTool

DEFAULT_ADDRESS = "127.0.0.1:4580"
AUTHS = ("sigv4", "none")


class Address(NamedTuple):
    """A host and a port to listen on."""

    host: str
    port: int


class Emulation(NamedTuple):
    """What makes the server less quick, willing and punctual than it could be.

    Attributes:
        chaos_file: Says what is slow and what fails; ``None`` for nothing.
        clock_file: Says the time of the regions; ``None`` for the machine's.
    """

    listing_lag_seconds: float
    throttle_factor: float
    chaos_file: Path | None
    clock_file: Path | None


@click.command()
@click.option(
    "--listen",
    default=DEFAULT_ADDRESS,
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen; port 0 is any free one.",
)
@click.option(
    "--auth",
    type=click.Choice(AUTHS),
    default=AUTHS[0],
    show_default=True,
    help="Verify signatures, or believe what any key claims.",
)
@click.option(
    "--i-understand",
    is_flag=True,
    help="With --auth none: listen where other machines can reach it.",
)
@click.option(
    "--tls-cert",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Serve https with this certificate, in PEM.",
)
@click.option(
    "--tls-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The certificate's private key.",
)
@click.option(
    "--listing-lag",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    metavar="SECONDS",
    help="Find no blocks of a snapshot for so long after its completion, as on Amazon.",
)
@click.option(
    "--throttle",
    type=click.FloatRange(min=0),
    default=0,
    metavar="FACTOR",
    show_default=True,
    help="Refuse EBS direct calls beyond Amazon's rates, times this; 0 refuses none.",
)
@click.option(
    "--chaos",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="Be slow, throttle and fail as FILE says, in JSON.",
)
@click.option(
    "--clock",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Go by the time in FILE: 2027-01-31T04:00:00Z, or +30d ahead of the machine's.",
)
@click.option(
    "--import-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="Let ImportSnapshot read the disk images in DIR; its folders are S3's buckets.",
)
@click.pass_obj
def serve(
    settings: Settings,
    *,
    listen: str,
    auth: str,
    i_understand: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    listing_lag: float,
    throttle: float,
    chaos: Path | None,
    clock: Path | None,
    import_dir: Path | None,
) -> None:
    """Serve the EC2, EBS and other AWS APIs to unmodified AWS clients.

    Prints the address once it listens, and serves until SIGTERM or Ctrl-C; requests that are
    being answered then are finished.  'ebsim env' prints what clients need.

    With --auth none a key of 12 digits acts as that account, and any other as the one that
    --account names.

    \b
    Examples:
        ebsim serve
        ebsim serve --listen 127.0.0.1:0 --auth none
    """
    host, port = _address(listen)
    if auth == "none" and not i_understand and not _is_loopback(host):
        raise click.UsageError(
            f"--auth none at {host} lets every machine that reaches it act as any account. Listen "
            "on 127.0.0.1, verify signatures, or add --i-understand."
        )
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together.")
    tls = (tls_cert, tls_key) if tls_cert is not None and tls_key is not None else None
    try:
        process = import_module("ebsim.cli.api_process")
    except ModuleNotFoundError as error:
        raise MissingTool(
            tool=error.name or "starlette",
            package="'ebsim[server]'",
            purpose="'ebsim serve'",
            installer="pip install",
        ) from error
    process.run_server(
        settings,
        Address(host, port),
        auth=auth,
        tls=tls,
        import_folder=import_dir,
        emulation=Emulation(listing_lag, throttle, chaos, clock),
    )


def _address(text: str) -> Address:
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(
            f"'{text}' is no address. Write {DEFAULT_ADDRESS}.", param_hint="--listen"
        )
    return Address(host.strip("[]") or "127.0.0.1", int(port))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
