"""``snapshot serve``: a snapshot as a disk that is not to be written."""

from pathlib import Path

import click

from ebsim.attach.nbd_server import Export, NbdServer
from ebsim.cli.opened_region import opened_region
from ebsim.cli.serving import (
    Address,
    Places,
    check_places,
    listening_options,
    runtime_path,
    start_in_background,
    until_asked_to_end,
)
from ebsim.cli.settings import Settings
from ebsim.engine.list_snapshots import show_snapshot
from ebsim.engine.open_snapshot import open_snapshot


@click.command()
@click.argument("name", metavar="SNAP")
@listening_options
@click.pass_obj
def serve(
    settings: Settings,
    *,
    name: str,
    socket: Path | None,
    listen: Address | None,
    tls_folder: Path | None,
    detach_process: bool,
) -> None:
    """Serve the snapshot SNAP over NBD, read-only, until interrupted; print its URI first.

    \b
    Examples:
        ebsim snapshot serve snap-0a1b2c3d4e5f60718
        nbdcopy "$(ebsim snapshot serve snap-0a1b --detach-process)" disk.img
    """
    places = Places(socket, listen, tls_folder)
    check_places(places)
    with opened_region(settings) as region:
        snapshot_id = show_snapshot(region, name).snapshot_id
        if detach_process:
            arguments = ["snapshot", "serve", snapshot_id, *places.arguments]
            click.echo(start_in_background(settings, arguments, snapshot_id))
            return
        with open_snapshot(region, snapshot_id) as opened, until_asked_to_end() as ended:
            export = Export(
                snapshot_id, opened.snapshot.description, opened.device, True, opened.block_size
            )
            server = NbdServer(
                lambda: [export], tls=places.tls(), must_use_tls=places.tls_folder is not None
            )
            try:
                places.listen_with(server, default=runtime_path(f"{snapshot_id}.sock"))
                uris = server.uris(snapshot_id)
                server.start()
                click.echo(uris[0])
                ended.wait()
            finally:
                server.stop()
